"""Cuts the data set of `timburn demo` out of Fashion-MNIST: the first pictures of every class, in the set's order.

    python tools/make_demo_data.py FOLDER_OF_FASHION_MNIST

FOLDER holds the four official .gz files (Debian's package dataset-fashion-mnist has them too).
"""

import gzip
import hashlib
import struct
import sys
from pathlib import Path

OUT = Path(__file__).parent.parent / "crates/timburn-cli/assets/fashion-mnist-mini"
PER_CLASS = {"train": 50, "t10k": 20}


def read(path: Path) -> bytes:
    return gzip.open(path).read()


def write(name: str, content: bytes) -> None:
    # No time stamp: the same bytes on every run.
    (OUT / name).write_bytes(gzip.compress(content, 9, mtime=0))


def main() -> None:
    folder = Path(sys.argv[1])
    for part, count in PER_CLASS.items():
        images = read(folder / f"{part}-images-idx3-ubyte.gz")
        labels = read(folder / f"{part}-labels-idx1-ubyte.gz")
        print(part, hashlib.sha256(images).hexdigest(), hashlib.sha256(labels).hexdigest())
        pixels, kinds = images[16:], labels[8:]
        left, chosen = [count] * 10, []
        for index, kind in enumerate(kinds):
            if left[kind]:
                left[kind] -= 1
                chosen.append(index)
        picked = b"".join(pixels[784 * index : 784 * (index + 1)] for index in chosen)
        write(f"{part}-images-idx3-ubyte.gz", struct.pack(">IIII", 2051, len(chosen), 28, 28) + picked)
        write(f"{part}-labels-idx1-ubyte.gz", struct.pack(">II", 2049, len(chosen)) + bytes(kinds[index] for index in chosen))


if __name__ == "__main__":
    main()
