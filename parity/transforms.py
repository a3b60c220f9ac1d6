"""Writes goldens/transforms/: what PIL, torchvision, timm and Keras make of small pictures with explicit parameters.

`ops.tsv`: op, picture, parameters, FNV-1a hash of the result (see `images.hash_of`), for what must be equal to the bit; `near.bin` and
`near.tsv` hold the pixels of the others. `tables.tsv`: magnitudes and parameters of torchvision's and timm's policies.

Pictures: `noise` 37x29, `square` 31x31, `tiny` 2x3 and `dark` 37x29, bytes from a formula; `chelsea`, the upper left 120x90 pixels of
crates/timburn-data/assets/chelsea.jpg.
Pillow 13, torchvision 0.24, timm 1.0, Keras 3 with SciPy.
"""

import os
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from images import hash_of, noise
from PIL import Image, ImageEnhance, ImageOps
from timm.data import auto_augment as timm_aa
from torchvision.transforms import AugMix, AutoAugment, AutoAugmentPolicy, RandAugment, TrivialAugmentWide
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import _apply_op

ROOT = Path(__file__).parent
OUT = ROOT / "goldens" / "transforms"
MODES = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
TV = {"nearest": F.InterpolationMode.NEAREST, "bilinear": F.InterpolationMode.BILINEAR, "bicubic": F.InterpolationMode.BICUBIC}
FILL = (10, 200, 77)


def pictures():
    def formula(name, width, height):
        return Image.fromarray(noise(name, width * height * 3).reshape(height, width, 3))

    chelsea = Image.open(ROOT / "../crates/timburn-data/assets/chelsea.jpg").convert("RGB").crop((0, 0, 120, 90))
    dark = Image.fromarray((noise("dark", 37 * 29 * 3).reshape(29, 37, 3) // 5 + 40).astype(np.uint8))
    return {
        "noise": formula("noise", 37, 29),
        "square": formula("square", 31, 31),
        "tiny": formula("tiny", 2, 3),
        "dark": dark,
        "chelsea": chelsea,
    }


def exact(image):
    """(op, parameters, result) of what is compared by hash."""
    for factor in [0.0, 0.1, 0.55, 1.0, 1.45, 1.9, 3.0]:
        yield "brightness", [factor], ImageEnhance.Brightness(image).enhance(factor)
        yield "contrast", [factor], ImageEnhance.Contrast(image).enhance(factor)
        yield "color", [factor], ImageEnhance.Color(image).enhance(factor)
        yield "sharpness", [factor], ImageEnhance.Sharpness(image).enhance(factor)
    for hue in [-0.5, -0.21, -0.003, 0.0, 0.004, 0.1, 0.37, 0.5]:
        yield "hue", [hue], F.adjust_hue(image, hue)
    for bits in [1, 3, 4, 8]:
        yield "posterize", [bits], ImageOps.posterize(image, bits)
    for threshold in [0, 1, 127.5, 128, 256]:
        yield "solarize", [threshold], ImageOps.solarize(image, threshold)
    for add in [0, 33, 110]:
        yield "solarize_add", [add], timm_aa.solarize_add(image, add)
    yield "autocontrast", [], ImageOps.autocontrast(image)
    yield "equalize", [], ImageOps.equalize(image)
    yield "invert", [], ImageOps.invert(image)
    yield "grayscale", [], F.to_grayscale(image, 3)
    yield "horizontal_flip", [], F.hflip(image)
    yield "vertical_flip", [], F.vflip(image)
    for padding, mode, (left, top, width, height) in [
        (4, "constant", (0, 0, 32, 29)),
        (4, "constant", (7, 3, 30, 32)),
        (9, "reflect", (0, 1, 40, 41)),
        (9, "reflect", (11, 9, 20, 20)),
        (50, "reflect", (0, 0, 90, 90)),
        (5, "edge", (2, 0, 36, 39)),
    ]:
        padded = F.pad(image, padding, fill=FILL, padding_mode=mode)
        if left + width > padded.width or top + height > padded.height:
            continue
        yield f"crop_{mode}", [padding, left, top, width, height], F.crop(padded, top, left, height, width)
    for width, height in [(24, 24), (20, 27), (64, 24), (65, 66)]:
        yield "center_crop", [width, height], F.center_crop(image, [height, width])
    for name, mode in MODES.items():
        for degrees in [0, 7.3, 30, -12.5, 45, 90, 135, 180, 270, -90, 359.9]:
            yield f"rotate_{name}", [degrees], F.rotate(image, degrees, TV[name], fill=FILL)
        for angle, translate, scale, shear in [
            (0, (3, -2), 1.0, (0, 0)),
            (12.5, (0, 0), 1.3, (0, 0)),
            (-33, (4, 5), 0.7, (11, -6)),
            (0, (0, 0), 1.0, (17, 0)),
            (0, (0, 0), 2.0, (0, 0)),
        ]:
            result = F.affine(image, angle, translate, scale, shear, TV[name], fill=FILL)
            yield f"affine_{name}", [angle, *translate, scale, *shear], result
        for matrix in [(1, 0.21, 0, 0, 1, 0), (1, 0, 3.4, 0, 1, -2.6), (0.4, 0, 1, 0, 1.7, 2), (1e4, 0.5, 1, 0.3, 1e4, 2), (1, 0, 0, -0.3, 1, 0)]:
            yield f"warp_{name}", matrix, image.transform(image.size, Image.AFFINE, matrix, mode, fillcolor=FILL)
        for size in [(20, 41), (64, 17)]:
            extent = (0, 0, *image.size)
            yield f"plain_resize_{name}", size, image.transform(size, Image.EXTENT, extent, mode)
    spaces = RandAugment()._augmentation_space(31, (image.height, image.width))
    wide = TrivialAugmentWide()._augmentation_space(31)
    for space, table, bins in [("augment", spaces, [4, 9, 20, 30]), ("wide", wide, [7, 15, 30])]:
        for kind, (magnitudes, signed) in table.items():
            for bin in bins if magnitudes.ndim else [0]:
                for sign in [1, -1] if signed else [1]:
                    magnitude = sign * float(magnitudes[bin].item()) if magnitudes.ndim else 0.0
                    result = _apply_op(image, kind, magnitude, TV["nearest"], None)
                    yield f"apply_{space}_{kind}", [bin, sign], result
    # AugMix: two chains with given weights, mixed as torchvision's forward does it.
    m, w = torch.tensor([0.4, 0.6]), torch.tensor([0.3, 0.7])
    batch = F.pil_to_tensor(image)
    weights = w * m[1]
    mix = m[0] * batch
    chains = [[("Rotate", 12.0), ("Equalize", 0.0)], [("ShearX", -0.1), ("Posterize", 3.0), ("Color", 0.5)]]
    for weight, chain in zip(weights, chains):
        done = image
        for kind, magnitude in chain:
            done = _apply_op(done, kind, magnitude, TV["bilinear"], None)
        mix.add_(weight * F.pil_to_tensor(done))
    yield "aug_mix", [float(m[0]), *map(float, weights)], F.to_pil_image(mix.to(torch.uint8))


def near(name, image):
    """(op, parameters, result) of what is compared by difference."""
    for kernel, sigma in [(3, 0.1), (5, 1.0), (9, 2.0), (23, 4.5)]:
        if kernel // 2 < min(image.size):
            yield "gaussian_blur", [kernel, sigma], np.asarray(F.to_pil_image(F.gaussian_blur(F.pil_to_tensor(image), kernel, sigma)))
    if name == "square":
        os.environ.setdefault("KERAS_BACKEND", "torch")
        from keras.src.legacy.preprocessing.image import apply_affine_transform
        import scipy.ndimage

        scipy.ndimage.interpolation = scipy.ndimage  # Keras' legacy name.
        pixels = np.asarray(image).astype(np.float32)
        for mode in ["nearest", "constant", "reflect", "wrap"]:
            for theta, tx, ty, shear, zx, zy in [
                (17.0, 0, 0, 0, 1, 1),
                (0, 5.3, -3.1, 0, 1, 1),
                (0, 0, 0, 20.0, 1, 1),
                (0, 0, 0, 0, 0.8, 1.2),
                (-38.0, 4.4, 6.1, 0.2, 1.17, 0.83),
                (160.0, 60.0, -45.5, 12.0, 1.5, 1.9),
            ]:
                done = apply_affine_transform(pixels, theta, tx, ty, shear, zx, zy, 0, 1, 2, fill_mode=mode, cval=77.0)
                yield f"keras_{mode}", [theta, tx, ty, shear, zx, zy], np.round(done).clip(0, 255).astype(np.uint8)


def tables():
    """Rows of policy tables: name, values."""
    for width, height in [(224, 224), (37, 29)]:
        for space, transform, bins in [("augment", RandAugment(), 31), ("augment", AutoAugment(), 10), ("mix", AugMix(), 10), ("wide", None, 31)]:
            table = transform._augmentation_space(bins, (height, width)) if transform else TrivialAugmentWide()._augmentation_space(bins)
            for kind, (magnitudes, signed) in table.items():
                values = magnitudes.tolist() if magnitudes.ndim else [0.0] * bins
                yield ["torchvision", space, kind, int(signed), width, height, *map(repr, map(float, values))]
    for kind in timm_aa._RAND_TRANSFORMS + timm_aa._RAND_INCREASING_TRANSFORMS:
        for negative in [0, 1]:
            with mock.patch.object(timm_aa, "_randomly_negate", lambda v: -v if negative else v):
                level = timm_aa.LEVEL_TO_ARG[kind]
                values = [float(level(m, {})[0] if isinstance(level(m, {}), tuple) else level(m, {})) if level else 0.0 for m in [0.0, 2.4, 5, 7.31, 9, 10]]
            yield ["timm", kind, negative, *map(repr, values)]
    for policy in AutoAugmentPolicy:
        for index, pair in enumerate(AutoAugment(policy).policies):
            for kind, p, magnitude in pair:
                yield ["auto", policy.value, index, kind, repr(p), 0 if magnitude is None else magnitude]


def number(value) -> str:
    return repr(float(value))


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    rows, near_rows, data = [], [], b""
    for name, image in pictures().items():
        for op, parameters, result in exact(image):
            rows.append("\t".join([op, name, ",".join(map(number, parameters)), f"{result.width}x{result.height}", f"{hash_of(result):016x}"]))
        if name in ("noise", "square"):
            for op, parameters, pixels in near(name, image):
                near_rows.append("\t".join([op, name, ",".join(map(number, parameters)), str(len(data))]))
                data += pixels.tobytes()
    (OUT / "ops.tsv").write_text("\n".join(rows) + "\n")
    (OUT / "near.tsv").write_text("\n".join(near_rows) + "\n")
    (OUT / "near.bin").write_bytes(data)
    (OUT / "tables.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in tables()))


if __name__ == "__main__":
    main()
