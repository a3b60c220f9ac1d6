"""Writes goldens/heads.json: classification heads on small features, forward and backward, and how fastai's starts."""

from pathlib import Path

import torch
from fastai.vision.learner import create_head
from fastai.torch_core import apply_init
from torch import nn
from torch.nn import functional as F

import formula
import golden

CHANNELS, CLASSES = 6, 5
BATCH = 4


class Cosine(nn.Module):
    """Scaled cosines between features and class weights (Gidaris & Komodakis 2018)."""

    def __init__(self, inputs: int, classes: int, scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, inputs))
        self.scale = nn.Parameter(torch.tensor([scale]))

    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight)) * self.scale


def without_pool(head: nn.Sequential) -> nn.Sequential:
    """fastai's head after pool and flatten, which timburn counts to the pool."""
    return nn.Sequential(*list(head)[2:])


class ConcatPool(nn.Module):
    """fastai's AdaptiveConcatPool2d and Flatten."""

    def __init__(self):
        super().__init__()
        self.pool = nn.Sequential(*list(create_head(CHANNELS, CLASSES))[:2])

    def forward(self, x):
        return self.pool(x)


def average():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def maximum():
    return nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())


def grid(height: int, width: int):
    return nn.Sequential(nn.AdaptiveAvgPool2d((height, width)), nn.Flatten())


def notebook_head(inputs: int) -> nn.Sequential:
    """Flatten, BN, 128, dropout, 64, dropout, BN: a common Keras notebook's."""
    return nn.Sequential(
        nn.BatchNorm1d(inputs), nn.Linear(inputs, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(64), nn.Linear(64, CLASSES),
    )  # fmt: skip


def mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, CLASSES),
    )  # fmt: skip


# Name: pool, layers, height and width of the features.
HEADS = {
    "linear": (average, lambda: nn.Linear(CHANNELS, CLASSES), (3, 4)),
    "fastai": (ConcatPool, lambda: without_pool(create_head(CHANNELS, CLASSES)), (3, 4)),
    "mlp": (average, lambda: mlp(CHANNELS), (3, 4)),
    "flatten": (lambda: grid(3, 4), lambda: notebook_head(12 * CHANNELS), (3, 4)),
    "flatten_averaged": (lambda: grid(2, 3), lambda: notebook_head(6 * CHANNELS), (5, 7)),
    "max_one_logit": (maximum, lambda: nn.Linear(CHANNELS, 1), (3, 4)),
    "cosine": (average, lambda: Cosine(CHANNELS, CLASSES, 7.5), (3, 4)),
}


def fill(layers: nn.Module) -> None:
    """By the formula, as the field `fc` of a model; a cosine's scale keeps its value."""
    for key, value in layers.state_dict().items():
        if key != "scale" and not key.endswith("num_batches_tracked"):
            value.copy_(formula.tensor(f"fc.{key}", value.shape))


def run(pool, layers, size, dtype) -> dict[str, torch.Tensor]:
    """Outputs in evaluation and in training, gradients of a weighted sum of the latter, statistics after it."""
    torch.manual_seed(0)
    layers = layers()
    fill(layers)
    layers.to(dtype)
    for module in layers.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    features = formula.images("features", (BATCH, CHANNELS, *size)).to(dtype).requires_grad_()
    layers.eval()
    result = {"eval": layers(pool()(features))}
    layers.train()
    out = layers(pool()(features))
    result["train"] = out
    (out * formula.images("upstream", out.shape).to(dtype)).sum().backward()
    result |= {f"gradients {name}": parameter.grad for name, parameter in layers.named_parameters()}
    result["gradients features"] = features.grad
    result |= {f"statistics {name}": value for name, value in layers.named_buffers() if not name.endswith("tracked")}
    return result


def record(pool, layers, size) -> dict:
    single, double = (run(pool, layers, size, dtype) for dtype in (torch.float32, torch.float64))
    keys = sorted(key for key in layers().state_dict() if not key.endswith("num_batches_tracked"))
    result = {"keys": keys, "size": list(size), "gradients": {}, "statistics": {}}
    for name, value in double.items():
        # PyTorch's own rounding: batch norm over four samples magnifies it, and a bias before one has a gradient of nothing else.
        error = (single[name].double() - value).abs().max().item()
        place, _, key = name.rpartition(" ")
        (result[place] if place else result)[key] = golden.sample(value) | {"f32_error": golden.error_digits(error)}
    return result


def start() -> dict:
    """Means and standard deviations of fastai's initial weights, on ResNet-18's 512 channels."""
    torch.manual_seed(0)
    head = create_head(512, 37)
    apply_init(head, nn.init.kaiming_normal_)
    values = without_pool(head).state_dict()
    return {
        key: {"shape": list(value.shape), "mean": value.mean().item(), "std": value.std(correction=0).item()}
        for key, value in values.items()
        if not key.endswith("tracked")
    }


def main() -> None:
    document = {name: record(*head) for name, head in HEADS.items()} | {"fastai_start": start()}
    golden.write_json(Path(__file__).parent / "goldens/heads.json", document)


if __name__ == "__main__":
    main()
