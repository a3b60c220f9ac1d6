"""The benchmark `transforms` and PIL, torchvision, timm beside it, in one table of milliseconds per picture, on one thread.

    python crates/timburn-data/benches/peers/transforms.py [EXTRA CARGO ARGUMENTS]

224x224 pixels of the sample photograph. Operations that change the picture in place are timed with the copy in timburn and as PIL offers them
there. Needs pillow, numpy, torch, torchvision and timm. Policies draw anew each time, from generators of their own: compare their means.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import PIL  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from PIL import Image, ImageEnhance, ImageOps  # noqa: E402
from timm.data.auto_augment import rand_augment_transform  # noqa: E402
from torchvision.transforms import InterpolationMode, RandomHorizontalFlip, RandomResizedCrop, TrivialAugmentWide  # noqa: E402
from torchvision.transforms import functional as F  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
REPEATS = 201
FILL = (124, 116, 104)


def operations(whole, part):
    for name, mode in [("nearest", 0), ("bilinear", 2), ("bicubic", 3)]:
        tv = {0: InterpolationMode.NEAREST, 2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}[mode]
        yield f"rotate {name}", "PIL", lambda mode=mode: part.rotate(25.0, mode, fillcolor=FILL)
        yield f"affine {name}", "torchvision", lambda tv=tv: F.affine(part, 10.0, [12, -7], 1.1, [5.0, 3.0], tv, FILL)
        yield f"shear {name}", "PIL", lambda mode=mode: part.transform(part.size, Image.AFFINE, (1, 0.21, 0, 0, 1, 0), mode, fillcolor=FILL)
    yield "brightness", "PIL", lambda: ImageEnhance.Brightness(part).enhance(1.3)
    yield "contrast", "PIL", lambda: ImageEnhance.Contrast(part).enhance(1.3)
    yield "saturation", "PIL", lambda: ImageEnhance.Color(part).enhance(1.3)
    yield "hue", "torchvision", lambda: F.adjust_hue(part, 0.1)
    yield "sharpness", "PIL", lambda: ImageEnhance.Sharpness(part).enhance(1.3)
    yield "grayscale", "torchvision", lambda: F.rgb_to_grayscale(part, 3)
    yield "autocontrast", "PIL", lambda: ImageOps.autocontrast(part)
    yield "equalize", "PIL", lambda: ImageOps.equalize(part)
    yield "solarize", "PIL", lambda: ImageOps.solarize(part, 128)
    yield "posterize", "PIL", lambda: ImageOps.posterize(part, 4)
    yield "horizontal flip", "PIL", lambda: ImageOps.mirror(part)
    tensor = F.pil_to_tensor(part)
    yield "gaussian blur 23", "torchvision (tensor)", lambda: F.gaussian_blur(tensor, [23, 23], [1.5, 1.5])
    crop, flip = RandomResizedCrop(224), RandomHorizontalFlip()
    yield "imagenet_train", "torchvision", lambda: flip(crop(whole))
    augment = rand_augment_transform("rand-m7-mstd0.5-inc1", {"translate_const": 100, "img_mean": FILL})
    yield "rand_augment timm m7", "timm", lambda: augment(part)
    wide = TrivialAugmentWide()
    yield "trivial_augment_wide", "torchvision", lambda: wide(part)


def timed(run):
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), min(times), statistics.fmean(times)


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def main():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    command = ["cargo", "bench", "-p", "timburn-data", "--no-default-features", "--features", "sample", *sys.argv[1:], "--bench", "transforms"]
    output = subprocess.run([*command, "--", "--rows"], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    ours = {}
    for line in output.splitlines():
        name, *numbers = line.split("\t")
        ours[name] = [float(number) for number in numbers]
    whole = Image.open(ROOT / "crates/timburn-data/assets/chelsea.jpg").convert("RGB")
    part = whole.crop((100, 40, 324, 264))
    print(f"CPU {cpu()}, threads=1, 224x224, n={REPEATS}; milliseconds per picture: median (min) mean")
    print(f"Pillow {PIL.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}")
    show = "{:<22} {:>24} {:>24} {:>8} {:>8}  {}".format
    text = "{:.3f} ({:.3f}) {:.3f}".format
    print(show("operation", "timburn", "peer", "x min", "x mean", "peer is"))
    for name, who, run in operations(whole, part):
        theirs = timed(run)
        least, mean = theirs[1] / ours[name][1], theirs[2] / ours[name][2]
        print(show(name, text(*ours.pop(name)), text(*theirs), f"{least:.2f}", f"{mean:.2f}", who))
    for name, numbers in ours.items():
        print(show(name, text(*numbers), "", "", "", "none here"))


if __name__ == "__main__":
    main()
