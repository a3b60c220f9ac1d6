"""Writes goldens/mixing.json: batches mixed by timm.data.Mixup with its draws fixed, and the samplers' orders.

The pictures are whole numbers of a formula, `(i * 37 + 11) % 251` at flat index `i`, which the test computes too. timm draws from NumPy's
global generator; here `beta` and `randint` give what each case says.
"""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from timm.data.distributed_sampler import RepeatAugSampler
from timm.data.mixup import Mixup, cutmix_bbox_and_lam

OUT = Path(__file__).parent / "goldens" / "mixing.json"
CLASSES = 5
# What is drawn: lam, and the centre of the box (row, column).
CASES = [
    ("mixup", 0.3, None, 4, 0.1),
    ("mixup", 0.875, None, 2, 0.0),
    ("mixup", 1.0, None, 2, 0.1),
    ("cutmix", 0.5, (3, 4), 4, 0.1),
    ("cutmix", 0.2, (0, 9), 4, 0.0),
    ("cutmix", 0.99, (5, 5), 2, 0.1),
    ("cutmix", 0.0, (7, 0), 2, 0.1),
]
SIZE = (3, 8, 10)
SAMPLERS = [(10, 1, 3), (10, 4, 3), (300, 2, 3), (300, 1, 2), (513, 4, 4), (7, 8, 2)]


def pictures(count: int) -> torch.Tensor:
    i = np.arange(count * np.prod(SIZE))
    return torch.tensor(((i * 37 + 11) % 251).astype(np.float32).reshape(count, *SIZE))


def mixed(kind: str, lam: float, center, batch: int, smoothing: float) -> dict:
    alphas = {"mixup": (1.0, 0.0), "cutmix": (0.0, 1.0)}[kind]
    mixer = Mixup(*alphas, label_smoothing=smoothing, num_classes=CLASSES)
    labels = [(3 * i + 1) % CLASSES for i in range(batch)]
    with mock.patch("numpy.random.beta", return_value=lam), mock.patch("numpy.random.randint", side_effect=list(center or ())):
        images, targets = mixer(pictures(batch), torch.tensor(labels))
    with mock.patch("numpy.random.randint", side_effect=list(center or ())):
        box, corrected = cutmix_bbox_and_lam(SIZE, lam) if center else (None, lam)
    return {
        "kind": kind,
        "lam": lam,
        "center": center,
        "box": box and [int(x) for x in box],
        "corrected": float(corrected),
        "smoothing": smoothing,
        "labels": labels,
        "images": [float(f"{x:.9g}") for x in images.flatten().tolist()],
        "targets": [float(f"{x:.9g}") for x in targets.flatten().tolist()],
    }


def sampler(count: int, replicas: int, repeats: int) -> dict:
    ranks = [list(RepeatAugSampler(range(count), replicas, rank, shuffle=False, num_repeats=repeats)) for rank in range(replicas)]
    return {"len": count, "ranks": replicas, "repeats": repeats, "indices": ranks}


def cut_moments(draws: int = 200_000) -> tuple[float, float]:
    np.random.seed(0)
    lams = [cutmix_bbox_and_lam((3, 40, 60), np.random.beta(1, 1))[1] for _ in range(draws)]
    return float(np.mean(lams)), float(np.var(lams))


if __name__ == "__main__":
    document = {"classes": CLASSES, "size": SIZE, "mixed": [mixed(*case) for case in CASES], "samplers": [sampler(*case) for case in SAMPLERS]}
    lines = [f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in value) + "\n]" for key, value in document.items() if key in ("mixed", "samplers")]
    OUT.write_text(f'{{"classes": {CLASSES}, "size": {json.dumps(SIZE)},\n' + ",\n".join(lines) + "\n}\n")
    print("mean and variance of the corrected lam:", cut_moments())
