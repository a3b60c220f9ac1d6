"""Predictions of timburn's inference graph beside PyTorch (eager, both layouts) and onnxruntime, by turns on one machine.

cargo build --release --workspace --bench predict
python benches/peers/predict.py --ours target/release/deps/predict-HASH [--rounds 5] [--threads 2] [NAME]

Needs torch, torchvision, timm, onnx and onnxruntime. Each round runs every contestant on every line once, for `--seconds`, so that what
else the machine does hurts all alike; the table shows the least and the median time over all rounds, in milliseconds. f32, weights random.
"""

import argparse
import io
import os
import re
import statistics
import subprocess
import time

LINES = [("efficientnet_lite0", 1), ("efficientnet_lite0", 8), ("resnet50", 1), ("resnet50", 8), ("resnet18", 1), ("resnet18", 8)]


def build(name):
    import timm
    import torchvision

    model = timm.create_model(f"tf_{name}") if name.startswith("efficientnet") else getattr(torchvision.models, name)()
    return model.eval()


def contestants(threads):
    import onnxruntime
    import torch

    torch.set_num_threads(threads)
    made = {}
    for name, batch in LINES:
        images = torch.full((batch, 3, 224, 224), 0.5)
        model = build(name)
        file = io.BytesIO()
        torch.onnx.export(model, (images,), file, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: images.numpy()}
        last = build(name).to(memory_format=torch.channels_last)
        other = images.to(memory_format=torch.channels_last)
        made[name, batch] = {
            "pytorch nchw": lambda model=model, images=images: model(images),
            "pytorch channels-last": lambda model=last, images=other: model(images),
            "onnxruntime": lambda session=session, feed=feed: session.run(None, feed),
        }
    return made


def times(work, seconds):
    work()
    found, begin = [], time.perf_counter()
    while len(found) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        found.append((time.perf_counter() - start) * 1e3)
    return found


def ours(program, name, batch, threads):
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    wanted = f"{name:18}  graph   {batch}x3x224x224"
    text = subprocess.run([program, wanted], env=environment, check=True, capture_output=True, text=True).stdout
    line = next(line for line in text.splitlines() if line.startswith(wanted))
    return [float(value) for value in re.search(r"median\s+([\d.]+) ms  min\s+([\d.]+)", line).groups()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("name", nargs="?", default="")
    arguments = parser.parse_args()
    LINES[:] = [line for line in LINES if arguments.name in line[0]]

    import torch

    found = {}
    with torch.inference_mode():
        made = contestants(arguments.threads)
        for _ in range(arguments.rounds):
            for line, peers in made.items():
                median, least = ours(arguments.ours, *line, arguments.threads)
                found.setdefault((*line, "timburn"), []).extend([median, least])
                for peer, work in peers.items():
                    runs = times(work, arguments.seconds)
                    found.setdefault((*line, peer), []).extend([statistics.median(runs), min(runs)])
    print(f"{arguments.threads} threads, f32, {arguments.rounds} rounds; ms: least and median of the rounds' medians")
    for name, batch in LINES:
        best = min(min(values) for (n, b, peer), values in found.items() if (n, b) == (name, batch) and peer != "timburn")
        for (n, b, peer), values in found.items():
            if (n, b) == (name, batch):
                least, middle = min(values), statistics.median(values[0::2])
                ratio = f"  {best / least:5.2f} x the fastest peer" if peer == "timburn" else ""
                print(f"{name:18} {batch}x3x224x224  {peer:22} min {least:8.2f}  median {middle:8.2f}{ratio}")


if __name__ == "__main__":
    main()
