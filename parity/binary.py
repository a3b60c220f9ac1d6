"""Data sets in the binary forms of their authors, a few pictures of noise each, written by Python's own pickle, tarfile and gzip.

    python parity/binary.py

Writes goldens/binary/. Picture `i` of a set is `noise(f"cifar {i}", 3072)`, planes of 32x32; its label is `7 * i % classes`.
The batch files named `official` are byte for byte what Python 2's cPickle writes (no Python 2 is needed): the same code rebuilds the two
published lists of class names, whose MD5 torchvision pins, and is asserted to do so.
"""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from images import noise
from torchvision.datasets import CIFAR10, CIFAR100

OUT = Path(__file__).parent / "goldens" / "binary"
COUNT = 3
TEN = "airplane automobile bird cat deer dog frog horse ship truck".split()


def data() -> np.ndarray:
    return np.stack([noise(f"cifar {i}", 3072) for i in range(COUNT)])


class Python2:
    """What cPickle writes in protocol 2, of dicts, lists, strings, small integers and arrays of bytes."""

    def __init__(self):
        self.slots = 0

    def put(self) -> bytes:
        self.slots += 1
        return b"q" + bytes([self.slots]) if self.slots < 256 else b"r" + self.slots.to_bytes(4, "little")

    def value(self, value) -> bytes:
        if isinstance(value, int):
            return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")
        if isinstance(value, str):
            return b"U" + bytes([len(value)]) + value.encode() + self.put()
        if isinstance(value, list):
            return b"]" + self.put() + b"(" + b"".join(map(self.value, value)) + b"e"
        if isinstance(value, np.ndarray):
            out = b"cnumpy.core.multiarray\n_reconstruct\n" + self.put() + b"cnumpy\nndarray\n" + self.put()
            out += b"K\0\x85U\x01b\x87R" + self.put() + b"(K\x01" + self.value(value.shape[0]) + self.value(value.shape[1]) + b"\x86"
            out += b"cnumpy\ndtype\n" + self.put() + b"U\x02u1K\0K\x01\x87R" + self.put() + b"(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\0tb\x89"
            return out + b"T" + value.nbytes.to_bytes(4, "little") + value.tobytes() + b"tb"
        raise TypeError(value)

    def dump(self, pairs: dict) -> bytes:
        out = b"\x80\x02}" + self.put() + b"("
        return out + b"".join(self.value(key) + self.value(value) for key, value in pairs.items()) + b"u."


def fine_and_coarse() -> dict:
    names = (Path(__file__).parent.parent / "crates/timburn-data/src/dataset/cifar_names.rs").read_text().split("];")
    fine, coarse = ([line.split('"')[1] for line in part.splitlines() if '",' in line] for part in names[:2])
    return {"fine_label_names": fine, "coarse_label_names": coarse}


def batch(classes: int, labels: str) -> dict:
    return {
        "batch_label": "testing batch 1 of 1",
        labels: [7 * i % classes for i in range(COUNT)],
        "data": data(),
        "filenames": [f"noise_s_{i:06}.png" for i in range(COUNT)],
    }


def tar(format_: int) -> bytes:
    """Long and odd names, in sub-folders, as both of tarfile's extended formats write them."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
        folder = tarfile.TarInfo("./shard")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for i, name in enumerate(["./shard/plain", "shard/" + "long-" * 40 + "name", "shard/Größe 寸法"]):
            for extension, content in [("jpg", noise(f"tar {i}", 700).tobytes()), ("cls", f"{i}\n".encode())]:
                info = tarfile.TarInfo(f"{name}.{extension}")
                info.size, info.mtime = len(content), 1.5
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()[: -(-file.tell() // 512) * 512]


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    meta10 = Python2().dump({"num_cases_per_batch": 10000, "label_names": TEN, "num_vis": 3072})
    meta100 = Python2().dump(fine_and_coarse())
    assert hashlib.md5(meta10).hexdigest() == CIFAR10.meta["md5"], "not the published batches.meta"
    assert hashlib.md5(meta100).hexdigest() == CIFAR100.meta["md5"], "not the published meta"
    files = {"batches.meta": meta10, "meta": meta100, "official_10": Python2().dump(batch(10, "labels"))}
    hundred = batch(100, "fine_labels") | {"coarse_labels": [7 * i % 20 for i in range(COUNT)]}
    files["official_100"] = Python2().dump(hundred)
    for name in ["official_10", "official_100"]:
        loaded = pickle.loads(files[name], encoding="bytes")
        assert (loaded[b"data"] == data()).all() and loaded[b"data"].dtype == np.uint8, name
    for protocol in range(2, 6):
        # Protocol 5 writes writable arrays and read-only ones differently; keys are text here and bytes there.
        files[f"python3_p{protocol}"] = pickle.dumps(batch(10, "labels"), protocol)
    files["python3_p4_bytes"] = pickle.dumps({key.encode(): value for key, value in batch(10, "labels").items()}, 4)
    frozen = batch(10, "labels")
    frozen["data"].flags.writeable = False
    files["python3_p5_frozen"] = pickle.dumps(frozen, 5)
    files["hostile"] = pickle.dumps(Hostile(), 2)
    files["fortran"] = pickle.dumps(batch(10, "labels") | {"data": np.asfortranarray(data())}, 4)
    files["pax.tar"], files["gnu.tar"] = tar(tarfile.PAX_FORMAT), tar(tarfile.GNU_FORMAT)
    for name, content in files.items():
        (OUT / name).write_bytes(content)


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


if __name__ == "__main__":
    main()
