"""Writes goldens/zoo/<name>.json for every variant, or for those named on the command line."""

import hashlib
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import formula
import golden
import kinks
from models import VARIANTS, Variant, reference

EVAL_BATCH = 2
STEPS = 3
LEARNING_RATE = 0.01


def keys_digest(model: nn.Module) -> dict:
    """Count and SHA-256 of the sorted lines `key [d0, d1]` of the state dict, without the step counters."""
    lines = sorted(
        f"{key} {list(value.shape)}\n"
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    )
    return {"count": len(lines), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def evaluate(model: nn.Module, variant: Variant, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every stage's activation and the logits, in evaluation mode."""
    found = {}
    hooks = [
        model.get_submodule(stage).register_forward_hook(lambda _, __, output, stage=stage: found.update({stage: output}))
        for stage in variant.stages
    ]
    with torch.no_grad():
        found["logits"] = model.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


def train(model: nn.Module, variant: Variant) -> tuple[torch.Tensor, dict, dict]:
    """Losses of three plain SGD steps, first-step gradients, and the final statistics of the outermost batch norms."""
    named = list(model.named_modules())
    first_conv = next(name for name, module in named if isinstance(module, nn.Conv2d))
    last_linear = [name for name, module in named if isinstance(module, nn.Linear)][-1]
    norms = [name for name, module in named if isinstance(module, nn.BatchNorm2d)]
    outer_norms = (norms[0], norms[-1])

    model.train()
    dtype = next(model.parameters()).dtype
    labels = formula.labels(variant.train_batch, variant.classes)
    shape = (variant.train_batch, variant.in_channels, *variant.train_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses, gradients = [], {}
    for step in range(STEPS):
        loss = F.cross_entropy(model(formula.images(f"input{step}", shape).to(dtype)), labels)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            keys = [f"{name}.weight" for name in (first_conv, outer_norms[0], outer_norms[1], last_linear)]
            gradients = {key: model.get_parameter(key).grad.clone() for key in keys}
        optimizer.step()
        losses.append(loss.detach())
    statistics = {
        f"{name}.{kind}": model.get_buffer(f"{name}.{kind}") for name in outer_norms for kind in ("running_mean", "running_var")
    }
    return torch.stack(losses), gradients, statistics


def record(single: torch.Tensor, double: torch.Tensor, describe=golden.sample) -> dict:
    error = golden.relative_error(single, double)
    return describe(single) | {"f64_error": golden.error_digits(error)}


def variant_golden(name: str) -> dict:
    variant = VARIANTS[name]
    model = reference(name)
    default_norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    document = {
        "name": name,
        "classes": variant.classes,
        "in_channels": variant.in_channels,
        "parameters": sum(p.numel() for p in model.parameters()),
        "keys": keys_digest(model),
        "batch_norm": {"eps": default_norm.eps, "momentum": default_norm.momentum},
    }

    images = formula.images("input", (EVAL_BATCH, variant.in_channels, *variant.eval_size))
    if name == "keras_resnet50":
        import keras_reference  # Keras takes seconds to import and only this variant needs it

        single = keras_reference.evaluate(images)
    else:
        single = evaluate(model, variant, images)
    double = evaluate(reference(name).double(), variant, images.double())
    logits = record(single.pop("logits"), double.pop("logits"), golden.logits)
    document["eval"] = {
        "input": list(images.shape),
        "stages": {stage: record(single[stage], double[stage]) for stage in variant.stages},
        "logits": logits,
    }

    batch = formula.images("input0", (variant.train_batch, variant.in_channels, *variant.train_size))
    nearest, layer = kinks.margin(reference(name, variant.train_bias_offset), batch)
    if nearest < kinks.LEAST:
        raise SystemExit(f"{name}: {layer} lies {nearest:.1e} from a kink, expected {kinks.LEAST}: choose another train_bias_offset")
    losses, gradients, statistics = train(reference(name, variant.train_bias_offset), variant)
    losses64, gradients64, statistics64 = train(reference(name, variant.train_bias_offset).double(), variant)
    document["train"] = {
        "input": [variant.train_batch, variant.in_channels, *variant.train_size],
        "learning_rate": LEARNING_RATE,
        "bias_offset": variant.train_bias_offset,
        "losses": {
            "values": [golden.significant(v) for v in losses.tolist()],
            "f64_error": golden.error_digits(golden.relative_error(losses, losses64)),
        },
        "gradients": {key: record(value, gradients64[key]) for key, value in gradients.items()},
        "statistics": {key: record(value, statistics64[key]) for key, value in statistics.items()},
    }
    return document


def errors(document: dict, path: str = "") -> dict[str, float]:
    """Every `f64_error` by its path."""
    found = {}
    for key, value in document.items():
        if key == "f64_error":
            found[path] = value
        elif isinstance(value, dict):
            found |= errors(value, f"{path}/{key}")
    return found


def main() -> None:
    torch.set_num_threads(2)
    folder = Path(__file__).parent / "goldens" / "zoo"
    for name in sys.argv[1:] or VARIANTS:
        document = variant_golden(name)
        golden.write_json(folder / f"{name}.json", document)
        evaluation, training = errors(document["eval"]), errors(document["train"])
        worst = max(training, key=training.get)
        print(
            f"{name:24} {document['parameters']:>11,}  eval {max(evaluation.values()):.1e}"
            f"  train {training[worst]:.1e} {worst}",
            flush=True,
        )


if __name__ == "__main__":
    main()
