"""Writes goldens/schedules.json: every schedule against torch.optim.lr_scheduler, at every step."""

import json
import warnings
from pathlib import Path

import torch
from torch.optim import lr_scheduler as S

LR = 0.3


def optimizer(momentum=0.9):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=momentum)


def walk(make, count: int, momentum: bool = False) -> dict:
    """The rates used at steps 0..count-1."""
    opt = optimizer()
    scheduler = make(opt)
    rates, momenta = [], []
    for step in range(count):
        rates.append(opt.param_groups[0]["lr"])
        momenta.append(opt.param_groups[0]["momentum"])
        opt.step()
        if step + 1 < count:
            scheduler.step()
    return {"lr": rates} | ({"momentum": momenta} if momentum else {})


def curve(**values) -> dict:
    return {"update": "epoch", "chain": [{"curve": values}]}


def one_cycle(steps: int, **values) -> tuple[dict, dict, int]:
    torch_values = dict(values)
    if "anneal" in torch_values:
        torch_values["anneal_strategy"] = torch_values.pop("anneal")
    found = walk(lambda o: S.OneCycleLR(o, max_lr=LR, total_steps=steps, **torch_values), steps, momentum=True)
    return curve(name="one_cycle", **values), found, steps


def warmed(opt, first, main, milestone):
    return S.SequentialLR(opt, [first(opt), main(opt)], milestones=[milestone])


def plateau(metrics, **values) -> tuple[dict, dict, int]:
    opt = optimizer()
    scheduler = S.ReduceLROnPlateau(opt, **values)
    rates = []
    for metric in metrics:
        rates.append(opt.param_groups[0]["lr"])
        scheduler.step(metric)
    return curve(name="plateau", **values), {"lr": rates, "metrics": metrics}, len(metrics)


def main() -> None:
    warnings.simplefilter("ignore")
    cases = {}

    def epochs(name, config, make, count):
        cases[name] = (config, walk(make, count), count)

    epochs("constant", curve(name="constant"), lambda o: S.ConstantLR(o, 1.0), 5)
    epochs("step", curve(name="step", step_size=3, gamma=0.5), lambda o: S.StepLR(o, 3, 0.5), 20)
    epochs("multi_step", curve(name="multi_step", milestones=[2, 5, 6]), lambda o: S.MultiStepLR(o, [2, 5, 6]), 12)
    epochs("cosine", curve(name="cosine", eta_min=0.01), lambda o: S.CosineAnnealingLR(o, 20, 0.01), 20)
    epochs("cosine_t_max", curve(name="cosine", t_max=12), lambda o: S.CosineAnnealingLR(o, 12), 13)
    epochs(
        "cosine_restarts",
        curve(name="cosine_restarts", t_0=4, eta_min=0.02),
        lambda o: S.CosineAnnealingWarmRestarts(o, 4, eta_min=0.02),
        20,
    )
    epochs(
        "cosine_restarts_longer",
        curve(name="cosine_restarts", t_0=3, t_mult=2),
        lambda o: S.CosineAnnealingWarmRestarts(o, 3, 2),
        45,
    )
    epochs(
        "linear",
        curve(name="linear", start_factor=1.0, end_factor=0.1, length=8),
        lambda o: S.LinearLR(o, 1.0, 0.1, 8),
        12,
    )
    epochs("polynomial", curve(name="polynomial", power=2, length=9), lambda o: S.PolynomialLR(o, 9, 2), 12)
    epochs("exponential", curve(name="exponential", gamma=0.9), lambda o: S.ExponentialLR(o, 0.9), 12)
    epochs(
        "warmup_linear_cosine",
        {"warmup": {"epochs": 5, "start_factor": 0.01}} | curve(name="cosine"),
        lambda o: warmed(o, lambda o: S.LinearLR(o, 0.01, 1, 5), lambda o: S.CosineAnnealingLR(o, 15), 5),
        20,
    )
    epochs(
        "warmup_constant_step",
        {"warmup": {"epochs": 3, "kind": "constant", "start_factor": 0.25}} | curve(name="step", step_size=4),
        lambda o: warmed(o, lambda o: S.ConstantLR(o, 0.25, 3), lambda o: S.StepLR(o, 4), 3),
        15,
    )
    cases["one_cycle"] = one_cycle(37)
    cases["one_cycle_linear"] = one_cycle(40, anneal="linear", pct_start=0.25, div_factor=10.0, final_div_factor=100.0)
    cases["one_cycle_three_phase"] = one_cycle(41, three_phase=True)
    cases["one_cycle_three_phase_linear"] = one_cycle(
        30, three_phase=True, anneal="linear", pct_start=0.4, base_momentum=0.8, max_momentum=0.9
    )
    cases["one_cycle_short"] = one_cycle(5)
    cases["one_cycle_two"] = one_cycle(2)
    wave = [1.0, 0.9, 0.95, 0.93, 0.9, 0.92, 0.91, 0.9, 0.9, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    cases["plateau"] = plateau(wave, patience=2)
    cases["plateau_abs"] = plateau(wave, patience=1, threshold_mode="abs", threshold=0.15, factor=0.5, min_lr=0.04)
    cases["plateau_cooldown"] = plateau(wave, patience=1, cooldown=2, factor=0.3)
    cases["plateau_max"] = plateau([-v for v in wave], mode="max", patience=0, factor=0.5, threshold_mode="abs", eps=0.01)
    cases["plateau_max_rel"] = plateau([2 - v for v in wave], mode="max", patience=1, threshold=0.05)

    lines = [
        f"  {json.dumps(name)}: {json.dumps({'config': config, 'epochs': count} | found)}"
        for name, (config, found, count) in cases.items()
    ]
    path = Path(__file__).parent / "goldens" / "schedules.json"
    path.write_text('{\n  "lr": ' + json.dumps(LR) + ",\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
