"""Writes goldens/grad_cam.json: Grad-CAM of networks with formula weights, by hooks on the stage, as pytorch_grad_cam computes it.

`map` is ReLU(sum over channels of mean gradient times activation), before any normalisation.
"""

from pathlib import Path

import torch

import formula
import golden
from models import reference

# Name, class (None: the most probable), height and width, and the module whose output each of timburn's stages is.
CASES = [
    ("resnet20", None, (32, 32), {"layer3": "layer3", "layer1": "layer1"}),
    ("resnet20", 5, (32, 40), {"layer3": "layer3", "layer2": "layer2"}),
    ("resnet50", 7, (96, 128), {"layer4": "layer4", "layer3": "layer3"}),
    ("tf_efficientnet_lite0", None, (96, 128), {"conv_head": "bn2", "blocks.4": "blocks.4"}),
    ("mobilenet_v2", 5, (96, 128), {"features.18": "features.18", "features.13": "features.13"}),
]


def grad_cam(model: torch.nn.Module, images: torch.Tensor, layer: str, chosen: int | None) -> tuple[torch.Tensor, int]:
    found = {}

    def keep(_, __, output):
        output.retain_grad()
        found["activation"] = output

    hook = model.get_submodule(layer).register_forward_hook(keep)
    logits = model(images)
    hook.remove()
    chosen = int(logits.argmax()) if chosen is None else chosen
    model.zero_grad()
    logits[0, chosen].backward()
    activation = found["activation"]
    weights = activation.grad.mean((2, 3), keepdim=True)
    return torch.relu((weights * activation).sum(1))[0].detach(), chosen


def case(name: str, chosen: int | None, size: tuple[int, int], stages: dict[str, str]) -> dict:
    images = formula.images("input", (1, 3, *size))
    maps = {}
    for stage, layer in stages.items():
        model = reference(name).eval()
        single, winner = grad_cam(model, images, layer, chosen)
        double, _ = grad_cam(model.double(), images.double(), layer, winner)
        if single.max() == 0:
            raise ValueError(f"{name}: nothing speaks for class {winner} at {stage}; choose another")
        count = min(golden.FULL_UP_TO, single.numel())
        record = golden.sample(single, count) | {"f64_error": golden.error_digits(golden.relative_error(single, double))}
        maps[stage] = record | {"class": winner}
    return {"size": list(size)} | maps


def main() -> None:
    document = {f"{name} {'top' if chosen is None else chosen}": case(name, chosen, size, stages) for name, chosen, size, stages in CASES}
    golden.write_json(Path(__file__).parent / "goldens" / "grad_cam.json", document)


if __name__ == "__main__":
    main()
