"""Writes goldens/optimizers.json: 20 steps of every optimizer on small parameters, with torch's and timm's f32 values.

Gradients come from the formula, not from a loss, so that only the update rules are compared.
"""

import json
from pathlib import Path

import timm.optim
import torch
import torch.optim._muon as torch_muon

import formula

STEPS = 20
SHAPES = {"matrix": (6, 4), "conv": (4, 3, 2, 2), "vector": (5,)}


def newton_schulz_f32(grad, ns_coefficients, ns_steps, eps):
    """torch's `_zeropower_via_newtonschulz` without its cast to bfloat16, in which nothing could be compared."""
    a, b, c = ns_coefficients
    x = grad.float()
    if grad.size(0) > grad.size(1):
        x = x.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


def lr_at(step: int, lr: float) -> float:
    """A rate that changes, as a schedule's does."""
    return lr * (1 + step % 5) / 3


def run(make, lr: float, dtype=torch.float32, shapes=SHAPES, momentum=None) -> dict:
    params = {}
    for name, shape in shapes.items():
        values = 2 * formula.unit(f"param.{name}", int(torch.tensor(shape).prod())) - 1
        params[name] = torch.nn.Parameter(torch.from_numpy(values.reshape(shape)).to(dtype))
    optimizer = make(list(params.values()))
    values = {name: [] for name in shapes}
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, lr)
            if momentum is not None:
                value = momentum + 0.02 * (step % 3)
                if "betas" in group:
                    group["betas"] = (value, *group["betas"][1:])
                else:
                    group["momentum"] = value
        for name, param in params.items():
            grad = 4 * formula.unit(f"grad.{name}.{step}", param.numel()) - 2
            param.grad = torch.from_numpy(grad.reshape(tuple(param.shape))).to(dtype)
        optimizer.step()
        for name, param in params.items():
            values[name].append([float(f"{v:.9g}") for v in param.detach().double().flatten().tolist()])
    return values


MATRIX = {"matrix": SHAPES["matrix"]}
WIDE = {"matrix": (4, 6)}

CASES = {
    # name: (configuration as in a recipe, learning rate, maker, further arguments)
    "sgd": ({"name": "sgd"}, 0.1, lambda p: torch.optim.SGD(p), {}),
    "sgd_momentum": ({"name": "sgd", "momentum": 0.9}, 0.1, lambda p: torch.optim.SGD(p, momentum=0.9), {}),
    "sgd_nesterov": (
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
        0.1,
        lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True, weight_decay=0.05),
        {},
    ),
    "sgd_cycled_momentum": (
        {"name": "sgd", "momentum": 0.9},
        0.1,
        lambda p: torch.optim.SGD(p, momentum=0.9),
        {"momentum": 0.85},
    ),
    "adam": ({"name": "adam"}, 0.01, lambda p: torch.optim.Adam(p), {}),
    "adam_l2": (
        {"name": "adam", "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1},
        0.01,
        lambda p: torch.optim.Adam(p, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
        {},
    ),
    "adamw": ({"name": "adamw"}, 0.01, lambda p: torch.optim.AdamW(p), {}),
    "adamw_cycled_beta": (
        {"name": "adamw", "weight_decay": 0.3},
        0.01,
        lambda p: torch.optim.AdamW(p, weight_decay=0.3),
        {"momentum": 0.85},
    ),
    "rmsprop": ({"name": "rmsprop"}, 0.01, lambda p: torch.optim.RMSprop(p), {}),
    "rmsprop_momentum": (
        {"name": "rmsprop", "momentum": 0.9, "weight_decay": 0.05, "alpha": 0.9},
        0.01,
        lambda p: torch.optim.RMSprop(p, momentum=0.9, weight_decay=0.05, alpha=0.9),
        {},
    ),
    "rmsprop_centered": (
        {"name": "rmsprop", "momentum": 0.9, "centered": True},
        0.01,
        lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
        {},
    ),
    "adagrad": ({"name": "adagrad"}, 0.1, lambda p: torch.optim.Adagrad(p), {}),
    "adagrad_decay": (
        {"name": "adagrad", "lr_decay": 0.1, "weight_decay": 0.05, "initial_accumulator_value": 0.3, "eps": 1e-3},
        0.1,
        lambda p: torch.optim.Adagrad(p, lr_decay=0.1, weight_decay=0.05, initial_accumulator_value=0.3, eps=1e-3),
        {},
    ),
    "lamb": ({"name": "lamb"}, 0.01, lambda p: timm.optim.Lamb(p, foreach=False), {}),
    "lamb_no_decay": (
        {"name": "lamb", "weight_decay": 0.0, "max_grad_norm": 0.0},
        0.01,
        lambda p: timm.optim.Lamb(p, weight_decay=0.0, max_grad_norm=None, foreach=False),
        {},
    ),
    "lamb_clip": (
        {"name": "lamb", "trust_clip": True, "always_adapt": True, "weight_decay": 0.0},
        0.01,
        lambda p: timm.optim.Lamb(p, trust_clip=True, always_adapt=True, weight_decay=0.0, foreach=False),
        {},
    ),
    "lars": (
        {"name": "lars", "momentum": 0.9, "weight_decay": 0.05},
        1.0,
        lambda p: timm.optim.Lars(p, momentum=0.9, weight_decay=0.05, foreach=False),
        {},
    ),
    "larc_nesterov": (
        {"name": "lars", "momentum": 0.9, "nesterov": True, "weight_decay": 0.05, "trust_clip": True, "trust_coeff": 0.02},
        0.1,
        lambda p: timm.optim.Lars(
            p, momentum=0.9, nesterov=True, weight_decay=0.05, trust_clip=True, trust_coeff=0.02, foreach=False
        ),
        {},
    ),
    "lars_plain": ({"name": "lars"}, 0.1, lambda p: timm.optim.Lars(p, foreach=False), {}),
    "lion": ({"name": "lion"}, 0.01, lambda p: timm.optim.Lion(p, foreach=False), {}),
    "lion_decay": (
        {"name": "lion", "betas": [0.8, 0.95], "weight_decay": 0.3},
        0.01,
        lambda p: timm.optim.Lion(p, betas=(0.8, 0.95), weight_decay=0.3, foreach=False),
        {},
    ),
    "muon": ({"name": "muon"}, 0.02, lambda p: torch.optim.Muon(p), {"shapes": MATRIX}),
    "muon_wide": (
        {"name": "muon", "nesterov": False, "momentum": 0.8, "adjust_lr_fn": "match_rms_adamw"},
        0.02,
        lambda p: torch.optim.Muon(p, nesterov=False, momentum=0.8, adjust_lr_fn="match_rms_adamw"),
        {"shapes": WIDE},
    ),
    "muon_fallback": (
        {"name": "muon"},
        0.02,
        lambda p: torch.optim.AdamW(p, betas=(0.9, 0.95), weight_decay=0.1),
        {"shapes": {"vector": SHAPES["vector"]}},
    ),
}


def worst(found: dict, expected: dict) -> float:
    errors = []
    for name in expected:
        scale = max(abs(v) for step in expected[name] for v in step)
        errors.append(max(abs(a - b) for f, e in zip(found[name], expected[name]) for a, b in zip(f, e)) / scale)
    return max(errors)


def main() -> None:
    torch.set_num_threads(1)
    torch_muon._zeropower_via_newtonschulz = newton_schulz_f32
    lines = []
    for name, (config, lr, make, further) in CASES.items():
        single = run(make, lr, **further)
        # f32 Newton-Schulz is forced above, so f64 says nothing for Muon.
        double = single if name.startswith("muon") and "fallback" not in name else run(make, lr, torch.float64, **further)
        error = worst(single, double)
        shapes = further.get("shapes", SHAPES)
        case = {
            "config": config,
            "lr": lr,
            "momentum": further.get("momentum"),
            "shapes": {key: list(shape) for key, shape in shapes.items()},
            # Three steps tell where two runs part; the others are implied by the last.
            "steps": [0, 4, 19],
            "values": {key: [values[step] for step in (0, 4, 19)] for key, values in single.items()},
            "f64_error": float(f"{error:.2g}"),
        }
        lines.append(f"  {json.dumps(name)}: {json.dumps(case)}")
        print(f"{name:22} f64_error {error:.1e}")
    path = Path(__file__).parent / "goldens" / "optimizers.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
