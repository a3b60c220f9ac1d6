"""Writes resnet20_cifar10.timburn from a finished run's bundle, with a card that names no place of the machine it was trained on.

    timburn train cifar10-resnet20-onecycle --data cifar10-jpeg -o run
    timburn export run/model.timburn -o half.timburn --dtype f16
    python make_resnet20.py half.timburn
"""

import json
import struct
import sys
from pathlib import Path


def main() -> None:
    content = Path(sys.argv[1]).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    card = json.loads(header["__metadata__"]["timburn.card"])
    card |= {"name": "resnet20.cifar10", "licence": "MIT OR Apache-2.0", "source": "recipe cifar10-resnet20-onecycle on CIFAR-10 (JPEG)"}
    card["recipe"]["data"]["path"] = "cifar10-jpeg"
    card["measured"]["top1"] = round(card["measured"]["top1"], 2)
    header["__metadata__"]["timburn.card"] = json.dumps(card, separators=(",", ":"), sort_keys=True)
    text = json.dumps(header, separators=(",", ":")).encode()
    # safetensors aligns the tensors to 8 bytes with spaces.
    text += b" " * (-len(text) % 8)
    out = Path(__file__).parent / "resnet20_cifar10.timburn"
    out.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
