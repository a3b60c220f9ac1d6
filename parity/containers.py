"""Writes goldens/containers/: the same four small tensors in every container and dtype, and two hostile pickles."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

import formula
import golden

SHAPES = {"conv1.weight": (2, 3, 3, 3), "fc.weight": (5, 4), "fc.bias": (5,)}
NUM = 7
FOLDER = Path(__file__).parent / "goldens" / "containers"


def tensors(dtype: torch.dtype = torch.float32) -> OrderedDict:
    state = OrderedDict((key, formula.tensor(key, shape).to(dtype)) for key, shape in SHAPES.items())
    state["num"] = torch.tensor(NUM)
    return state


def module_state() -> OrderedDict:
    """As `Module.state_dict()` returns it: an OrderedDict carrying an attribute, which pickles as a BUILD opcode."""
    state = tensors()
    state._metadata = OrderedDict({"": {"version": 1}})
    return state


def strided() -> OrderedDict:
    """Tensors that are views: one transposed, two sharing a storage at different offsets."""
    state = tensors()
    state["fc.weight"] = state["fc.weight"].T.contiguous().T
    shared = torch.cat([state["conv1.weight"].flatten(), state["fc.bias"]])
    count = state["conv1.weight"].numel()
    state["conv1.weight"] = shared[:count].view(SHAPES["conv1.weight"])
    state["fc.bias"] = shared[count:]
    return state


def parameters() -> OrderedDict:
    return OrderedDict(
        (key, torch.nn.Parameter(value) if value.is_floating_point() else value) for key, value in tensors().items()
    )


class Evil:
    """Unpickling this runs a command; a loader that only reads data never does."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


PICKLED = {
    "zip_f32.pth": ("f32", "zip, OrderedDict with _metadata as torchvision saves it", module_state),
    "zip_f16.pth": ("f16", "zip", lambda: tensors(torch.float16)),
    "zip_bf16.pth": ("bf16", "zip", lambda: tensors(torch.bfloat16)),
    "zip_f64.pth": ("f64", "zip", lambda: tensors(torch.float64)),
    "legacy_f32.pth": ("f32", "legacy: pickles and raw storages in sequence", module_state),
    "strided.pth": ("f32", "zip, a transposed view and two views of one storage", strided),
    "parameters.pth": ("f32", "zip, values are nn.Parameter", parameters),
    "wrapped.pth": ("f32", 'zip, training checkpoint {"state_dict": tensors, "epoch": 3}', lambda: {"state_dict": tensors(), "epoch": 3}),
    "module_prefix.pth": ("f32", 'zip, every key starts with "module."', lambda: {f"module.{k}": v for k, v in tensors().items()}),
}

SAFETENSORS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = {}
    for file, (dtype, note, state) in PICKLED.items():
        torch.save(state(), FOLDER / file, _use_new_zipfile_serialization=not file.startswith("legacy"))
        files[file] = {"dtype": dtype, "loads": True, "note": note}
    for dtype, torch_dtype in SAFETENSORS.items():
        file = f"{dtype}.safetensors"
        save_file(tensors(torch_dtype), FOLDER / file, metadata={"format": "pt"})
        files[file] = {"dtype": dtype, "loads": True, "note": "safetensors"}

    hostile = {**tensors(), "evil": Evil()}
    torch.save(hostile, FOLDER / "evil.pth")
    files["evil.pth"] = {"loads": False, "note": "zip; its pickle calls os.system('touch pwned')"}
    # Protocol 2 spells the call as a GLOBAL opcode, as torch.save does.
    (FOLDER / "evil_plain.pth").write_bytes(pickle.dumps({"evil": Evil()}, protocol=2))
    files["evil_plain.pth"] = {"loads": False, "note": "bare pickle with the same call"}

    golden.write_json(
        FOLDER / "manifest.json",
        {
            "values": "formula.tensor(key, shape) in f32, cast to the file's dtype, where each key keeps its unprefixed name",
            "shapes": {key: list(shape) for key, shape in SHAPES.items()},
            "num": {"shape": [], "dtype": "i64", "value": NUM},
            "files": files,
        },
    )


if __name__ == "__main__":
    main()
