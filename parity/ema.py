"""Writes goldens/ema.json: timm's ModelEmaV3 over ten updates of a batch norm's parameters and statistics."""

import json
from pathlib import Path

import torch
from timm.utils import ModelEmaV3
from torch import nn

import formula

C, UPDATES = 4, 10


def values(key: str, update: int) -> torch.Tensor:
    return torch.from_numpy(2 * formula.unit(f"{key}.{update}", C) - 1)


def main() -> None:
    cases = {
        "default": {},
        "fast": {"decay": 0.6},
        "warmup": {"decay": 0.9, "use_warmup": True, "warmup_gamma": 2.0, "warmup_power": 0.75},
        "late": {"decay": 0.9, "update_after_step": 4, "use_warmup": True, "min_decay": 0.5},
    }
    lines = []
    for name, config in cases.items():
        model = nn.BatchNorm2d(C)
        ema = ModelEmaV3(model, **config)
        decays = []
        for update in range(1, UPDATES + 1):
            for key, value in model.state_dict().items():
                if not key.endswith("num_batches_tracked"):
                    value.copy_(values(key, update))
            ema.update(model, step=update)
            decays.append(ema.get_decay(update))
        final = {key: value.tolist() for key, value in ema.module.state_dict().items() if not key.endswith("tracked")}
        lines.append(f"  {json.dumps(name)}: {json.dumps({'config': config, 'decays': decays, 'final': final})}")
    path = Path(__file__).parent / "goldens" / "ema.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
