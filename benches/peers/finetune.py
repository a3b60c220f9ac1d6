"""`timburn finetune --head-only` beside the PyTorch loop that everybody writes first, in turns.

    python benches/peers/finetune.py DATA [--rounds 3] [--epochs 5] [--threads 2] [--timburn target/release/timburn]

DATA has train/ and validation/ (or val/) with a folder a class. Both start from timburn's embedded EfficientNet-Lite0, which
`timburn export` writes under timm's names. PyTorch's loop keeps the body frozen and runs it
again in every epoch, on pictures that two worker processes decode; its head is a linear layer, its pictures those of the evaluation.
Needs torch, torchvision, timm and safetensors. Both times are those of whole processes: import and start, decoding, training, scores; timburn's also has
baselines, report and pictures.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def loop(data: Path, weights: Path, epochs: int, threads: int) -> float:
    import safetensors.torch
    import timm
    import torch
    from torchvision import datasets, transforms

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(safetensors.torch.load_file(weights))
    model.reset_classifier(2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("classifier")
    bicubic = transforms.InterpolationMode.BICUBIC
    normalize = transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)
    transform = transforms.Compose([transforms.Resize(256, bicubic), transforms.CenterCrop(224), transforms.ToTensor(), normalize])
    held_out = next(part for part in ("validation", "val", "test") if (data / part).is_dir())
    sets = {part: datasets.ImageFolder(data / part, transform) for part in ("train", held_out)}
    loaders = {
        part: torch.utils.data.DataLoader(found, batch_size=32, shuffle=part == "train", num_workers=threads)
        for part, found in sets.items()
    }
    optimizer = torch.optim.AdamW(model.get_classifier().parameters(), lr=2e-3)
    accuracy = 0.0
    for _ in range(epochs):
        # The body in evaluation mode: frozen statistics too.
        model.eval()
        for images, labels in loaders["train"]:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loaders[held_out])
        accuracy = right / len(sets[held_out])
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timburn", default="target/release/timburn")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(loop(arguments.data, arguments.weights, arguments.epochs, arguments.threads))
        return

    times = {"timburn": [], "PyTorch": []}
    weights = Path(tempfile.mkdtemp()) / "lite0.safetensors"
    subprocess.run([arguments.timburn, "export", "efficientnet_lite0", "-o", weights], check=True, capture_output=True)
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = [arguments.timburn, "finetune", str(arguments.data), "--head-only", "--json", "-o", f"{folder}/run"]
            started = time.perf_counter()
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            times["timburn"].append(time.perf_counter() - started)
            ours = 100 * json.loads(out.strip().splitlines()[-1])["validation"]["top1"]
        started = time.perf_counter()
        out = subprocess.run([sys.executable, *sys.argv, "--child", "--weights", weights], check=True, capture_output=True, text=True).stdout
        times["PyTorch"].append(time.perf_counter() - started)
        theirs = 100 * float(out.strip().splitlines()[-1])
        print(f"round {number + 1}: timburn {times['timburn'][-1]:.1f} s, {ours:.2f} %; PyTorch {times['PyTorch'][-1]:.1f} s, {theirs:.2f} %", flush=True)
    median = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        print(f"{name:8} median {median[name]:6.1f} s  ({min(found):.1f} to {max(found):.1f}, n={len(found)})")
    print(f"ratio    {median['PyTorch'] / median['timburn']:.1f}")


if __name__ == "__main__":
    main()
