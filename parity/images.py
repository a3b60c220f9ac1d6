"""Writes goldens/images/: small picture files, what PIL makes of them, and PIL's resizes of generated pixels.

`manifest.json` lists the files with size and offset of their RGB pixels in `expected.bin`, the resizes with theirs in `resized.bin`, and
JPEG files decoded at 1/2, 1/4 and 1/8 (`Image.draft`) with theirs in `scaled.bin`.
With the folder of ImageNet photographs as argument (`python images.py DIR`), `photographs.tsv` too: for every file, sorted by path, the
FNV-1a hash of the decoded pixels, and of the pixels after shorter side 256 bicubic, centre crop 224.

Pillow 13 or later: older ones never begin with the vertical pass.
"""

import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin
from torchvision.transforms import functional as F

OUT = Path(__file__).parent / "goldens" / "images"
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# name, filter, from, to: down, up, odd, one axis only, extreme.
RESIZES = [
    ("down_bilinear", "bilinear", (73, 51), (32, 23)),
    ("down_bicubic", "bicubic", (73, 51), (32, 23)),
    ("down_lanczos", "lanczos", (73, 51), (32, 23)),
    ("down_nearest", "nearest", (73, 51), (32, 23)),
    ("up_bilinear", "bilinear", (17, 13), (41, 37)),
    ("up_bicubic", "bicubic", (17, 13), (41, 37)),
    ("up_lanczos", "lanczos", (17, 13), (41, 37)),
    ("up_nearest", "nearest", (17, 13), (41, 37)),
    ("mixed_bicubic", "bicubic", (29, 97), (61, 31)),
    ("width_only_bilinear", "bilinear", (64, 19), (27, 19)),
    ("height_only_lanczos", "lanczos", (19, 64), (19, 27)),
    ("down_first_bicubic", "bicubic", (40, 88), (30, 67)),
    ("down_first_lanczos", "lanczos", (23, 71), (35, 19)),
    ("across_first_bilinear", "bilinear", (40, 88), (30, 68)),
    ("tall_bicubic", "bicubic", (3, 211), (5, 7)),
    ("one_pixel_bilinear", "bilinear", (1, 1), (9, 5)),
    ("to_one_pixel_lanczos", "lanczos", (31, 33), (1, 1)),
    ("nearest_long", "nearest", (1000, 2), (333, 3)),
]


def fnv1a64(data: bytes) -> int:
    hash_ = 0xCBF29CE484222325
    for byte in data:
        hash_ = (hash_ ^ byte) * 0x100000001B3 % 2**64
    return hash_


def noise(name: str, count: int) -> np.ndarray:
    """Bytes from a name: splitmix64 started at the name's hash, the top byte of each draw. The tests compute the same."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(fnv1a64(name.encode()))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(56)).astype(np.uint8)


def picture(width: int, height: int, channels: int = 3) -> np.ndarray:
    """A gradient with noise: every coefficient of a block in use, no clipping everywhere."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    smooth = 128 + 90 * np.sin(x * 0.21 + c) * np.cos(y * 0.17 - c)
    rough = noise(f"picture {width} {height}", width * height * channels).reshape(height, width, channels)
    return np.clip(smooth + (rough.astype(float) - 128) * 0.15, 0, 255).astype(np.uint8)


def save(image: Image.Image, format_: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def rgb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def over_white(rgba: np.ndarray) -> np.ndarray:
    color, alpha = rgba[..., :3].astype(int), rgba[..., 3:].astype(int)
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def set_sampling(data: bytes, factors: int, width: int, height: int) -> bytes:
    """Rewrites the frame header: as many blocks an MCU and as many MCUs, so the stream stays valid and its meaning changes."""
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data = bytearray(data)
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    data[at + 11] = factors
    return bytes(data)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(4096))) + chunk(b"IEND", b"")


def interlaced_png(pixels: np.ndarray) -> bytes:
    """PIL reads Adam7 but does not write it."""
    raw = b""
    for y0, x0, dy, dx in [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]:
        for row in pixels[y0::dy, x0::dx]:
            raw += b"\0" + row.tobytes() if row.size else b""
    return png_of(pixels.shape[1], pixels.shape[0], 8, 2, raw, interlace=1)


def png_of(width: int, height: int, depth: int, color: int, raw: bytes, interlace: int = 0) -> bytes:
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def deep_png(color: int, channels: int) -> tuple[bytes, np.ndarray]:
    """16 bits a channel, and the pixels scaled to 8: PIL keeps the high byte of RGB or clips gray, timburn rounds."""
    width, height = 19, 13
    raw = noise(f"deep {color}", width * height * channels * 2).reshape(height, -1)
    values = raw.reshape(height, width, channels, 2).astype(int) @ np.array([256, 1])
    file = png_of(width, height, 16, color, b"".join(b"\0" + row.tobytes() for row in raw))
    scaled = ((values + 128) // 257).astype(np.uint8)
    return file, np.repeat(scaled, 3, 2) if channels == 1 else scaled if channels == 3 else over_white(scaled)


def fixtures() -> dict[str, tuple[bytes, np.ndarray | None]]:
    """File name → content and expected pixels, None where an error is expected."""
    image = Image.fromarray(picture(37, 29))
    gray = image.convert("L")
    files = {}

    def add(name, data, expected=None):
        files[name] = (data, rgb(data) if expected is None else expected)

    for label, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
        add(f"baseline_{label}.jpg", save(image, "JPEG", quality=90, subsampling=subsampling))
        add(f"progressive_{label}.jpg", save(image, "JPEG", quality=90, subsampling=subsampling, progressive=True))
    square = Image.fromarray(picture(32, 32))
    wide, both = (save(square, "JPEG", quality=90, subsampling=s) for s in (1, 2))
    add("baseline_440.jpg", set_sampling(wide, 0x12, 31, 29))
    add("baseline_411.jpg", set_sampling(both, 0x41, 30, 29))
    add("progressive_440.jpg", set_sampling(save(square, "JPEG", quality=90, subsampling=1, progressive=True), 0x12, 31, 29))
    for width, height in [(1, 1), (2, 3), (3, 2), (5, 4), (8, 8), (17, 16)]:
        tiny = Image.fromarray(picture(width, height))
        add(f"tiny_{width}x{height}_420.jpg", save(tiny, "JPEG", quality=80, subsampling=2))
        add(f"tiny_{width}x{height}_422.jpg", save(tiny, "JPEG", quality=80, subsampling=1))
    add("restart.jpg", save(image, "JPEG", quality=90, restart_marker_blocks=2))
    add("restart_progressive.jpg", save(image, "JPEG", quality=90, restart_marker_blocks=3, progressive=True))
    add("low_quality.jpg", save(image, "JPEG", quality=3))
    add("best_quality.jpg", save(image, "JPEG", quality=100, subsampling=0))
    add("extremes.jpg", save(Image.fromarray(noise("extremes", 40 * 40 * 3).reshape(40, 40, 3) // 128 * 255), "JPEG", quality=30))
    add("rgb_components.jpg", save(image, "JPEG", quality=90, keep_rgb=True))
    add("gray.jpg", save(gray, "JPEG", quality=90))
    add("gray_progressive.jpg", save(gray, "JPEG", quality=90, progressive=True))
    inks = Image.fromarray(picture(37, 29, 4), "CMYK")
    cmyk = save(inks, "JPEG", quality=90)
    add("cmyk.jpg", cmyk)
    adobe = cmyk.find(b"Adobe")
    assert cmyk[adobe + 11] == 0, "PIL writes CMYK, not YCCK"
    add("ycck.jpg", cmyk[: adobe + 11] + b"\x02" + cmyk[adobe + 12 :])
    add("cmyk_progressive.jpg", save(inks, "JPEG", quality=90, progressive=True))

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = save(image, "JPEG", quality=90, subsampling=2, exif=exif)
        add(f"orientation_{orientation}.jpg", turned, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(turned))).convert("RGB")))
    # The same picture stored in every orientation: each turned by what undoes its tag.
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4]
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = image if undo[orientation] is None else image.transpose(Image.Transpose(undo[orientation]))
        data = save(stored, "PNG", exif=exif)
        assert ImageOps.exif_transpose(Image.open(io.BytesIO(data))).tobytes() == image.tobytes(), orientation
        add(f"orientation_{orientation}.png", data, np.asarray(image))
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = save(image, "JPEG", quality=90, exif=exif)
    add("corrupt_exif.jpg", whole.replace(exif.tobytes()[6:], b"\xff" * len(exif.tobytes()[6:])))
    tail = save(image, "JPEG", quality=90)
    add("trailing_bytes.jpg", tail + noise("tail", 99).tobytes(), rgb(tail))

    add("rgb.png", save(image, "PNG"))
    add("png_named.JPEG", save(image, "PNG"))
    add("gray.png", save(gray, "PNG"))
    add("bilevel.png", save(image.convert("1"), "PNG"))
    add("palette.png", save(image.quantize(16), "PNG"))
    add("interlaced.png", interlaced_png(picture(37, 29)))
    rgba = Image.fromarray(picture(37, 29, 4), "RGBA")
    add("alpha.png", save(rgba, "PNG"), over_white(np.asarray(rgba)))
    clear = save(image.quantize(16), "PNG", transparency=3)
    add("palette_transparency.png", clear, over_white(np.asarray(Image.open(io.BytesIO(clear)).convert("RGBA"))))
    gray_alpha = Image.fromarray(picture(37, 29, 2), "LA")
    add("gray_alpha.png", save(gray_alpha, "PNG"), over_white(np.asarray(gray_alpha.convert("RGBA"))))
    for name, color, channels in [("gray16.png", 0, 1), ("rgb16.png", 2, 3), ("rgba16.png", 6, 4)]:
        add(name, *deep_png(color, channels))

    frames = [image.quantize(32), Image.fromarray(picture(37, 29)[::-1]).quantize(32)]
    add("animated.gif", save(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100))
    add("still.gif", save(frames[0], "GIF"))
    add("lossless.webp", save(image, "WEBP", lossless=True, exact=True))
    add("lossy.webp", save(image, "WEBP", quality=80))
    alpha = save(rgba, "WEBP", lossless=True, exact=True)
    add("alpha.webp", alpha, over_white(np.asarray(rgba)))
    add("animated.webp", save(image, "WEBP", save_all=True, append_images=[image.transpose(0)], lossless=True, exact=True))
    add("rgb.bmp", save(image, "BMP"))
    add("palette.bmp", save(image.quantize(16), "BMP"))
    add("bilevel.bmp", save(image.convert("1"), "BMP"))
    TiffImagePlugin.WRITE_LIBTIFF = False
    add("rgb.tiff", save(image, "TIFF"))
    add("gray.tiff", save(gray, "TIFF"))
    for compression in ["tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        add(f"{compression}.tiff", save(image, "TIFF", compression=compression))

    for name, data in {
        "empty.jpg": b"",
        "text.jpg": b"This is not a picture.\n",
        "only_signature.jpg": b"\xff\xd8\xff",
        "bomb.png": png_header(65535, 65535),
        "bomb.jpg": set_sampling(save(square, "JPEG"), 0x22, 65535, 65535),
        "bomb_allowed_size.jpg": set_sampling(save(square, "JPEG"), 0x22, 8000, 8000),
    }.items():
        files[name] = (data, None)
    return files


def scaled(files: dict[str, tuple[bytes, np.ndarray | None]]) -> tuple[bytes, list[dict]]:
    """Every JPEG fixture as PIL's `draft` gives it: the smallest of 1/2, 1/4, 1/8 that is not smaller than what is asked for."""
    expected, rows = b"", []
    for name, (data, pixels) in files.items():
        if pixels is None or not name.endswith(".jpg") or name.startswith(("tiny", "orientation", "corrupt")):
            continue
        for denominator in (2, 4, 8):
            image = Image.open(io.BytesIO(data))
            asked = (image.width // denominator, image.height // denominator)
            image.draft(image.mode, asked)
            pixels = image.convert("RGB")
            rows.append({"file": name, "asked": asked, "width": pixels.width, "height": pixels.height, "offset": len(expected)})
            expected += pixels.tobytes()
    return expected, rows


def write_json(document: dict) -> str:
    sections = []
    for section, rows in document.items():
        lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        sections.append(f"  {json.dumps(section)}: [\n{lines}\n  ]")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def photographs(folder: Path) -> str:
    lines = []
    for path in sorted(folder.glob("*/*.JPEG")):
        image = Image.open(path).convert("RGB")
        prepared = F.center_crop(F.resize(image, 256, F.InterpolationMode.BICUBIC), 224)
        lines.append(f"{path.parent.name}/{path.name}\t{hash_of(image):016x}\t{hash_of(prepared):016x}\n")
    return "".join(lines)


def hash_of(image: Image.Image) -> int:
    """FNV-1a over 64-bit little-endian words, the last one padded with zeros: eight times fewer steps than by byte."""
    data = image.tobytes()
    hash_ = 0xCBF29CE484222325
    for word in np.frombuffer(data + bytes(-len(data) % 8), "<u8").tolist():
        hash_ = (hash_ ^ word) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return hash_


def main() -> None:
    (OUT / "files").mkdir(parents=True, exist_ok=True)
    expected, rows = b"", []
    files = fixtures()
    for name, (data, pixels) in files.items():
        (OUT / "files" / name).write_bytes(data)
        row = {"file": name}
        if pixels is not None:
            at = expected.find(pixels.tobytes())
            row |= {"width": pixels.shape[1], "height": pixels.shape[0], "offset": len(expected) if at < 0 else at}
            expected += pixels.tobytes() if at < 0 else b""
        rows.append(row)
    resized, resizes = b"", []
    for name, filter_, (w, h), (to_w, to_h) in RESIZES:
        source = Image.fromarray(noise(name, w * h * 3).reshape(h, w, 3))
        pixels = source.resize((to_w, to_h), FILTERS[filter_]).tobytes()
        resizes.append({"name": name, "filter": filter_, "from": [w, h], "to": [to_w, to_h], "offset": len(resized)})
        resized += pixels
    (OUT / "expected.bin").write_bytes(expected)
    (OUT / "resized.bin").write_bytes(resized)
    smaller, drafts = scaled(files)
    (OUT / "scaled.bin").write_bytes(smaller)
    (OUT / "manifest.json").write_text(write_json({"files": rows, "resizes": resizes, "scaled": drafts}))
    if len(sys.argv) > 1:
        (OUT / "photographs.tsv").write_text(photographs(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
