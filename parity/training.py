"""Writes goldens/training.json: 20 training steps of ResNet-18 and ResNet-50 with torch's optimizers, schedules and losses."""

import copy
import json
import sys
from pathlib import Path

import timm.loss
import torch
import torchvision
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import lr_scheduler as S

import formula
import golden

STEPS, BATCH, SIZE, CLASSES = 20, 4, 64, 10
# Added to the biases; more where some value else lies on a ReLU's kink within f32's error, and its gradient is there or not by chance.
BIAS_OFFSETS = {"label_smoothing": 3.0}
KEYS = ["conv1.weight", "bn1.weight", "layer4.1.conv2.weight", "layer4.1.bn2.bias", "fc.weight", "fc.bias"]
STATISTICS = ["bn1.running_mean", "layer4.1.bn2.running_var"]

CASES = {
    # recipe fragments, as timburn reads them
    "sgd_one_cycle_ema": {
        "model": "resnet18",
        "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
        "schedule": {"chain": [{"curve": {"name": "one_cycle"}}]},
        "lr": 3e-4,
        "loss": {"name": "cross_entropy"},
        "ema": {"decay": 0.8},
    },
    "adamw_cosine_clip": {
        "model": "resnet18",
        "optimizer": {"name": "adamw", "weight_decay": 0.05},
        "schedule": {"chain": [{"curve": {"name": "cosine"}}]},
        "lr": 3e-4,
        "loss": {"name": "cross_entropy"},
        "clip": {"norm": 1.0},
    },
    "rmsprop": {
        "model": "resnet18",
        "optimizer": {"name": "rmsprop", "momentum": 0.9, "eps": 1e-3, "weight_decay": 1e-4},
        "schedule": {"chain": [{"curve": {"name": "constant"}}]},
        "lr": 1e-4,
        "loss": {"name": "cross_entropy"},
    },
    "label_smoothing": {
        "model": "resnet18",
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "schedule": {"chain": [{"curve": {"name": "cosine"}}]},
        "lr": 2e-4,
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
    },
    "mixup": {
        "model": "resnet18",
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "schedule": {"chain": [{"curve": {"name": "cosine"}}]},
        "lr": 2e-4,
        "loss": {"name": "cross_entropy"},
        "mixup": 0.7,
    },
    "bce_accumulated": {
        "model": "resnet18",
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "schedule": {"chain": [{"curve": {"name": "cosine"}}]},
        "lr": 1e-3,
        "loss": {"name": "binary_cross_entropy", "smoothing": 0.1},
        "accumulate": 2,
    },
    "resnet50_sgd_one_cycle": {
        "model": "resnet50",
        "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
        "schedule": {"chain": [{"curve": {"name": "one_cycle"}}]},
        "lr": 4e-5,
        "loss": {"name": "cross_entropy"},
    },
    "resnet50_adamw_cosine": {
        "model": "resnet50",
        "optimizer": {"name": "adamw", "weight_decay": 0.05},
        "schedule": {"chain": [{"curve": {"name": "cosine"}}]},
        "lr": 5e-6,
        "loss": {"name": "cross_entropy"},
    },
}


def optimizer(model: nn.Module, config: dict, lr: float):
    config = dict(config)
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    make, decay = kinds[config.pop("name")], config.pop("weight_decay", 0.0)
    plain = [p for p in model.parameters() if p.ndim <= 1]
    matrices = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": matrices, "weight_decay": decay}]
    return make(groups, lr=lr, **config)


def scheduler(opt, config: dict, lr: float):
    curve = config["chain"][0]["curve"]
    if curve["name"] == "one_cycle":
        return S.OneCycleLR(opt, max_lr=lr, total_steps=STEPS)
    if curve["name"] == "cosine":
        return S.CosineAnnealingLR(opt, STEPS)
    return S.ConstantLR(opt, 1.0)


def criterion(config: dict):
    if config["name"] == "binary_cross_entropy":
        return timm.loss.BinaryCrossEntropy(config["smoothing"])
    return nn.CrossEntropyLoss(label_smoothing=config.get("label_smoothing", 0.0))


def run(case: dict, offset: float, dtype) -> tuple[torch.Tensor, dict, dict]:
    model = getattr(torchvision.models, case["model"])(num_classes=CLASSES)
    formula.fill(model, offset)
    model = model.to(dtype).train()
    opt = optimizer(model, case["optimizer"], case["lr"])
    schedule, loss_of = scheduler(opt, case["schedule"], case["lr"]), criterion(case["loss"])
    ema = ModelEmaV3(model, **case["ema"]) if "ema" in case else None
    labels, losses = formula.labels(BATCH, CLASSES), []
    for step in range(STEPS):
        opt.zero_grad()
        micro = case.get("accumulate", 1)
        total = 0.0
        for part in range(micro):
            images = formula.images(f"input{(step * micro + part) % 4}", (BATCH, 3, SIZE, SIZE)).to(dtype)
            targets = labels
            if "mixup" in case:
                share, one_hot = case["mixup"], torch.eye(CLASSES, dtype=dtype)[labels]
                images = share * images + (1 - share) * images.flip(0)
                targets = share * one_hot + (1 - share) * one_hot.flip(0)
            loss = loss_of(model(images), targets) / micro
            loss.backward()
            total = total + loss.detach()
        if "clip" in case:
            nn.utils.clip_grad_norm_(model.parameters(), case["clip"]["norm"])
        opt.step()
        schedule.step()
        if ema:
            ema.update(model, step=step + 1)
        losses.append(total)
    names = [key for key in KEYS + STATISTICS if key in model.state_dict()]
    final = {key: model.state_dict()[key].detach().clone() for key in names}
    average = {key: ema.module.state_dict()[key].detach().clone() for key in names} if ema else {}
    return torch.stack(losses), final, average


def main() -> None:
    torch.set_num_threads(2)
    path = Path(__file__).parent / "goldens" / "training.json"
    document = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or CASES:
        case = copy.deepcopy(CASES[name])
        offset = BIAS_OFFSETS.get(name, 2.0)
        losses, final, average = run(case, offset, torch.float32)
        losses64, final64, average64 = run(case, offset, torch.float64)

        def records(single, double):
            return {
                key: golden.sample(value, 16) | {"f64_error": golden.error_digits(golden.relative_error(value, double[key]))}
                for key, value in single.items()
            }

        document[name] = {
            "recipe": case,
            "shape": [BATCH, 3, SIZE, SIZE],
            "classes": CLASSES,
            "bias_offset": offset,
            "losses": {
                "values": [golden.significant(v) for v in losses.tolist()],
                "f64_error": golden.error_digits(golden.relative_error(losses, losses64)),
            },
            "final": records(final, final64),
        } | ({"ema": records(average, average64)} if average else {})
        worst = max(record["f64_error"] for record in document[name]["final"].values())
        print(f"{name:24} {losses[0]:.4f} -> {losses[-1]:.4f}  losses {document[name]['losses']['f64_error']:.1e}  weights {worst:.1e}", flush=True)
        golden.write_json(path, document)


if __name__ == "__main__":
    main()
