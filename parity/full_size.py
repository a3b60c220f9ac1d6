"""Slow check, not run in CI: full-size checkpoints with random weights, and their logits at 224x224.

    python parity/full_size.py DIR

Writes DIR/<model>.pth for four torchvision models, resnet18 in the other containers too, and DIR/full_size.json.
"""

import sys
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file

import formula
import golden

MODELS = ("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2")
IMAGES = formula.images("input", (2, 3, 224, 224))
LOGIT_SAMPLES = 64


def seeded(architecture: str) -> torch.nn.Module:
    """torchvision's default initialisation, with statistics that make evaluation differ from the identity."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(architecture)
    for key, buffer in model.named_buffers():
        if not key.endswith("num_batches_tracked"):
            buffer.copy_(formula.tensor(key, buffer.shape))
    return model.eval()


@torch.no_grad()
def describe(file: str, model: torch.nn.Module) -> dict:
    single = model(IMAGES)
    double = model.double()(IMAGES.double())
    return {
        "file": file,
        "logits": golden.logits(single, LOGIT_SAMPLES),
        "top5": single.topk(5).indices.tolist(),
        "f64_error": golden.error_digits(golden.relative_error(single, double)),
    }


def main() -> None:
    torch.set_num_threads(2)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    document = {"input": list(IMAGES.shape)}

    for name in MODELS:
        model = seeded(name)
        torch.save(model.state_dict(), folder / f"{name}.pth")
        document[name] = describe(f"{name}.pth", model)

    weights = seeded("resnet18").state_dict()
    torch.save(weights, folder / "resnet18_legacy.pth", _use_new_zipfile_serialization=False)
    document["resnet18_legacy"] = document["resnet18"] | {"file": "resnet18_legacy.pth"}
    save_file(weights, folder / "resnet18.safetensors")
    document["resnet18_safetensors"] = document["resnet18"] | {"file": "resnet18.safetensors"}

    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    torch.save(half, folder / "resnet18_f16.pth")
    rounded = seeded("resnet18")
    rounded.load_state_dict(half)  # copies into f32 parameters, as a loader that casts does
    document["resnet18_f16"] = describe("resnet18_f16.pth", rounded)

    golden.write_json(folder / "full_size.json", document)


if __name__ == "__main__":
    main()
