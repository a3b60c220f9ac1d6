"""How a tensor becomes a few lines of JSON, and how two runs are compared."""

import json
import math
from pathlib import Path

import torch

SAMPLES = 32
FULL_UP_TO = 64


def significant(value: float) -> float:
    """Nine significant digits: enough to give back every f32 exactly."""
    if not math.isfinite(value):
        raise ValueError("a golden must be finite")
    return float(f"{value:.9g}")


def sample(tensor: torch.Tensor, count: int = SAMPLES) -> dict:
    """Shape, f64 norm and the values at flat index `k * numel // count` for k < count."""
    flat = tensor.detach().double().flatten()
    index = [k * flat.numel() // count for k in range(count)]
    return {
        "shape": list(tensor.shape),
        "l2": significant(flat.norm().item()),
        "samples": [significant(v) for v in flat[index].tolist()],
    }


def logits(tensor: torch.Tensor, count: int = SAMPLES) -> dict:
    """As `sample`, but complete when small, and with the winning class of each row."""
    every = tensor.numel() <= FULL_UP_TO
    return sample(tensor, tensor.numel() if every else count) | {"argmax": tensor.argmax(1).tolist()}


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute expected value."""
    expected = expected.detach().double()
    return ((found.detach().double() - expected).abs().max() / expected.abs().max()).item()


def error_digits(value: float) -> float:
    return float(f"{value:.2g}")


def write_json(path: Path, document: dict) -> None:
    """One line per leaf record, so that a diff of goldens names what changed."""

    def lines(value, indent):
        nested = isinstance(value, dict) and any(isinstance(v, dict) for v in value.values())
        if not nested:
            return json.dumps(value)
        inner = ",\n".join(f"{indent}  {json.dumps(k)}: {lines(v, indent + '  ')}" for k, v in value.items())
        return f"{{\n{inner}\n{indent}}}"

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines(document, "") + "\n")
