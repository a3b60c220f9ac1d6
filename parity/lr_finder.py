"""Writes goldens/lr_finder.json: fastai's sweep, smoothed loss, stop and suggestions on made-up losses."""

import ast
import importlib.util
import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch

import formula


def fastai(file: str, *names: str) -> list:
    """Definitions out of the installed fastai's source: importing the package would need all that its notebooks need."""
    folder = Path(importlib.util.find_spec("fastai").submodule_search_locations[0])
    tree = ast.parse((folder / file).read_text())
    found = {node.name: node for node in tree.body if getattr(node, "name", None) in names}
    scope = {"tensor": torch.tensor, "torch": torch, "Metric": object, "to_detach": lambda x: x.detach()}
    for node in found.values():
        node.decorator_list = []
        exec(compile(ast.Module([node], []), file, "exec"), scope)
    return [scope[name] for name in names]


steep, valley, sched_exp = fastai("callback/schedule.py", "steep", "valley", "sched_exp")
(AvgSmoothLoss,) = fastai("learner.py", "AvgSmoothLoss")


def sweep(name: str, loss, num_it: int = 100, start: float = 1e-7, end: float = 10.0) -> dict:
    noise = formula.unit(name, num_it)
    smooth = AvgSmoothLoss()
    smooth.val = torch.tensor(0.0, dtype=torch.float64)
    best, lrs, raw, losses = math.inf, [], [], []
    for step in range(num_it):
        lrs.append(float(sched_exp(start, end, step / num_it)))
        raw.append(float(loss(lrs[-1]) + 0.05 * float(noise[step])))
        smooth.accumulate(SimpleNamespace(loss=torch.tensor(raw[-1], dtype=torch.float64)))
        losses.append(float(smooth.value))
        best = min(best, losses[-1])
        if losses[-1] > 4 * best:
            break
    kept = slice(num_it // 10, -5)
    points = torch.tensor(lrs[kept], dtype=torch.float64), torch.tensor(losses[kept], dtype=torch.float64)
    return {
        "finder": {"num_it": num_it, "start_lr": start, "end_lr": end},
        "raw": raw,
        "lrs": lrs,
        "losses": losses,
        "valley": valley(*points, num_it)[0],
        "steep": steep(*points, num_it)[0],
    }


def main() -> None:
    cases = {
        "usual": sweep("usual", lambda lr: 2.3 - 1.5 / (1 + (3e-3 / lr) ** 1.2) + 0.3 * lr**2),
        "diverges": sweep("diverges", lambda lr: 2.3 - 1.5 / (1 + (1e-3 / lr)) + 80 * lr**2),
        "flat": sweep("flat", lambda lr: 2.3),
        "rising": sweep("rising", lambda lr: 1 + lr),
        "short": sweep("short", lambda lr: 2.3 - 0.2 * math.log10(lr / 1e-5), num_it=20, start=1e-5, end=1.0),
    }
    path = Path(__file__).parent / "goldens" / "lr_finder.json"
    path.write_text("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items()) + "\n}\n")


if __name__ == "__main__":
    main()
