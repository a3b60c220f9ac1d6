"""Writes goldens/losses.json: values and gradients of the losses from torch and timm."""

import json
from pathlib import Path

import timm.loss
import torch
from torch import nn

import formula

N, C = 6, 5


def logits(scale: float) -> torch.Tensor:
    values = scale * (2 * formula.unit("logits", N * C) - 1)
    values = values.reshape(N, C)
    # A classifier that starts from zeros, and saturated logits.
    values[0] = 0.0
    values[1] = [40.0, -40.0, 0.0, 100.0, -100.0]
    return torch.from_numpy(values)


def soft() -> torch.Tensor:
    """Mixup with a fixed share."""
    one_hot = torch.eye(C)[formula.labels(N, C)]
    return 0.7 * one_hot + 0.3 * one_hot.flip(0)


WEIGHTS = [0.5, 1.0, 2.0, 0.0, 3.0]


def record(config: dict, mean, none, targets, x: torch.Tensor) -> dict:
    result = {"config": config}
    for name, dtype in (("", torch.float32), ("_f64", torch.float64)):
        leaf = x.detach().clone().to(dtype).requires_grad_()
        target = targets.to(dtype) if targets.is_floating_point() else targets
        loss = mean.to(dtype)(leaf, target)
        loss.backward()
        result["mean" + name] = loss.item()
        result["gradient" + name] = leaf.grad.flatten().tolist()
    per_sample = none(x, targets)
    result["none"] = (per_sample.mean(1) if per_sample.ndim == 2 else per_sample).tolist()
    return result


def main() -> None:
    labels, x = formula.labels(N, C), logits(3.0)
    weights = torch.tensor(WEIGHTS)
    cases = {}
    for smoothing in (0.0, 0.1):
        for weighted in (False, True):
            for kind, targets in (("classes", labels), ("soft", soft())):
                w = weights if weighted else None
                config = {"name": "cross_entropy", "label_smoothing": smoothing} | ({"class_weights": WEIGHTS} if weighted else {})
                make = lambda reduction: nn.CrossEntropyLoss(w, label_smoothing=smoothing, reduction=reduction)
                name = f"cross_entropy_{smoothing}_{'weighted' if weighted else 'plain'}_{kind}"
                cases[name] = record(config, make("mean"), make("none"), targets, x) | {"targets": kind}
    for smoothing, threshold in ((0.0, None), (0.1, None), (0.1, 0.2)):
        for weighted in (False, True):
            for kind, targets in (("classes", labels), ("soft", soft())):
                w = weights if weighted else None
                config = {"name": "binary_cross_entropy", "smoothing": smoothing}
                config |= {"target_threshold": threshold} if threshold else {}
                config |= {"class_weights": WEIGHTS} if weighted else {}
                make = lambda reduction: timm.loss.BinaryCrossEntropy(smoothing, threshold, weight=w, reduction=reduction)
                name = f"bce_{smoothing}_{threshold}_{'weighted' if weighted else 'plain'}_{kind}"
                cases[name] = record(config, make("mean"), make("none"), targets, x) | {"targets": kind}
    one = x[:, :1].contiguous()
    binary = (labels % 2).float().reshape(N, 1)
    bce = lambda reduction: nn.BCEWithLogitsLoss(reduction=reduction)
    cases["bce_one_logit"] = record({"name": "binary_cross_entropy"}, bce("mean"), bce("none"), binary, one) | {"targets": "binary"}

    lines = [f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    document = {"logits": x.flatten().tolist(), "soft": soft().flatten().tolist(), "labels": labels.tolist(), "shape": [N, C]}
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in document.items())
    path = Path(__file__).parent / "goldens" / "losses.json"
    path.write_text("{\n" + head + '  "cases": {\n' + ",\n".join(lines) + "\n  }\n}\n")


if __name__ == "__main__":
    main()
