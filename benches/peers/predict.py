"""timburn's predictions beside those of PyTorch (eager and compiled), onnxruntime, tract and candle, by turns on one machine.

    cargo build --release
    (cd benches/peers/rust && RUSTFLAGS="-C target-cpu=native" cargo build --release)
    python benches/peers/predict.py [NAME] [--rounds 5] [--threads 2] [--json] [--chart FILE.svg]
    python benches/peers/predict.py --int8 --only int8                        # timburn and onnxruntime in eight bits
    python benches/peers/predict.py --first [--rounds 20]
    python benches/peers/predict.py resnet50 --device cuda --batch 64,256     # on a GPU, with a binary built for it

Needs torch, torchvision, timm, onnx and onnxruntime; what cannot run is named with the reason. Each contestant has a process of its own
(turns.py), whose peak memory is told; compiled PyTorch's is that of compiling, unless inductor's cache holds the code already. Images are ready in
memory; runs end with the logits. Weights are random but for --first, which times whole processes instead: start, weights, a JPEG file, labels.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from networks import build
from turns import Contestant, batches, clock, contest, cpu, digits, ours, parser, serve, torch_device

NAMES = ["efficientnet_lite0", "resnet50", "resnet18"]
SIZE = 224
RUST = Path(__file__).parent / "rust"
PHOTOGRAPH = Path(__file__).parents[2] / "crates/timburn-data/assets/chelsea.jpg"
MEAN, STD = 127.0, 128.0


def child(kind, name, batch, threads, device="cpu"):
    """A contestant in Python."""
    shape, threads = (int(batch), 3, SIZE, SIZE), int(threads)
    if kind == "onnx":
        import numpy
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: numpy.full(shape, 0.5, numpy.float32)}
        serve(f"onnxruntime {onnxruntime.__version__}", lambda: session.run(None, feed))
        return
    import torch

    torch.set_num_threads(threads)
    layout = torch.contiguous_format if "nchw" in kind else torch.channels_last
    model = build(name).eval().to(device, memory_format=layout)
    images = torch.full(shape, 0.5).to(device, memory_format=layout)
    if "compiled" in kind:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        model = torch.compile(model)
    with torch.no_grad(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled="bf16" in kind):
        # Reading the logits waits for the device.
        serve(f"PyTorch {torch.__version__}", lambda: model(images).cpu())


def export(folder, name, batch, model=None):
    """The network's ONNX file, written by a process of its own unless there is a model."""
    import torch

    file = Path(folder) / f"{name}-{batch}.onnx"
    if not file.exists():
        torch.onnx.export((model or build(name)).eval(), (torch.zeros(batch, 3, SIZE, SIZE),), file, dynamo=False)
    return file


def quantized(folder, name, batch):
    """The network's ONNX file in eight bits, as onnxruntime makes it: QDQ, unsigned activations, signed weights with a scale for each channel."""
    import numpy
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    file = Path(folder) / f"{name}-{batch}.onnx"
    ready = file.with_suffix(".ready.onnx")
    quant_pre_process(file, ready, skip_symbolic_shape=True)
    # Weights are random, and no time depends on the ranges.
    noise = numpy.random.default_rng(0).standard_normal((int(batch), 3, SIZE, SIZE), numpy.float32)
    feeds = iter([{onnx.load(file).graph.input[0].name: noise}])

    class Noise(CalibrationDataReader):
        def get_next(self):
            return next(feeds, None)

    quantize_static(
        ready, file.with_suffix(".int8.onnx"), Noise(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def contestants(arguments, folder, key):
    name, batch = key
    threads, device = arguments.threads, torch_device(arguments)
    yield from ours(arguments, name, batch, SIZE)
    if arguments.int8:
        command = [arguments.timburn, "bench", name, "--turns", "--device", arguments.device, "--batch", batch, "--size", SIZE, "--precision", "int8"]
        yield Contestant("timburn int8", command, False, RAYON_NUM_THREADS=threads)
    python = [sys.executable, __file__, "--child"]
    for kind in ["nchw", "channels-last", "bf16 channels-last", "compiled", "bf16 compiled"]:
        yield Contestant(f"PyTorch {kind}", [*python, kind, name, batch, threads, device], "bf16" not in kind, OMP_NUM_THREADS=threads)
    if device != "cpu":
        return
    made = subprocess.run([*python, "export", folder, name, str(batch)], capture_output=True, text=True)
    lines = made.stderr.strip().splitlines() or [""]
    why = f"no ONNX file: {lines[-1]}" if made.returncode else None
    file = Path(folder) / f"{name}-{batch}.onnx"
    yield Contestant("onnxruntime", [*python, "onnx", file, batch, threads], why=why)
    if arguments.int8:
        made = subprocess.run([*python, "quantize", folder, name, str(batch)], capture_output=True, text=True)
        lines = made.stderr.strip().splitlines() or [""]
        narrow = why or (f"no ONNX file in eight bits: {lines[-1]}" if made.returncode else None)
        yield Contestant("onnxruntime int8", [*python, "onnx", file.with_suffix(".int8.onnx"), batch, threads], False, why=narrow)
    for peer, network in [("tract", file), ("candle", name)]:
        program = arguments.rust / peer
        absent = None if program.exists() else f"{program} is not built (benches/peers/rust)"
        yield Contestant(peer, [program, network, batch, SIZE, threads], why=absent or (why if peer == "tract" else None), RAYON_NUM_THREADS=threads)


def first(kind, weights):
    """What a user's script does: one file, one answer."""
    import numpy
    from PIL import Image

    picture = Image.open(PHOTOGRAPH).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = ((side - SIZE) // 2 for side in picture.size)
    pixels = numpy.asarray(picture.crop((left, top, left + SIZE, top + SIZE)), numpy.float32)
    images = ((pixels - MEAN) / STD).transpose(2, 0, 1)[None].copy()
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
        logits = session.run(None, {session.get_inputs()[0].name: images})[0][0]
    else:
        import safetensors.torch
        import torch

        model = build("efficientnet_lite0").eval()
        model.load_state_dict(safetensors.torch.load_file(weights))
        with torch.inference_mode():
            logits = model(torch.from_numpy(images))[0].numpy()
    print(f"class {logits.argmax()}")


def first_predictions(arguments):
    """Whole processes, by turns."""
    import json

    import safetensors.torch

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "lite0.safetensors"
        subprocess.run([arguments.timburn, "export", "efficientnet_lite0", "-o", weights], check=True, capture_output=True)
        model = build("efficientnet_lite0")
        model.load_state_dict(safetensors.torch.load_file(weights))
        file = export(folder, "efficientnet_lite0", 1, model)
        python = [sys.executable, __file__, "--child", "first"]
        commands = {
            "timburn predict": [arguments.timburn, "predict", PHOTOGRAPH, "--top", "1", "--json"],
            "onnxruntime": [*python, "onnx", file],
            "PyTorch": [*python, "torch", weights],
        }
        times, answers = {name: [] for name in commands}, {}

        def run(name):
            out = subprocess.run(commands[name], check=True, capture_output=True, text=True).stdout
            answers[name] = json.loads(out)[0]["predictions"][0]["index"] if name.startswith("timburn") else int(out.split()[-1])

        for number in range(arguments.rounds + 1):
            for name in commands:
                time = clock(lambda name=name: run(name))
                # The first round fills the system's cache of files.
                times[name] += [time] * bool(number)
    if len(set(answers.values())) != 1:
        sys.exit(f"the contestants do not agree: {answers}")
    rows = [
        {"contestant": name, "n": len(found), "median_ms": statistics.median(found), "min_ms": min(found), "max_ms": max(found)}
        for name, found in times.items()
    ]
    if arguments.json:
        print(json.dumps({"cpu": cpu(), "results": rows}, indent=1))
        return
    print(f"{cpu()}. EfficientNet-Lite0, a JPEG file to its class (all say {answers['PyTorch']}), whole process, n = {arguments.rounds}; ms: median (min–max)\n")
    print("| | first prediction |\n|---|---|")
    for row in rows:
        print(f"| {row['contestant']} | {digits(row['median_ms'])} ({digits(row['min_ms'])}–{digits(row['max_ms'])}) |")


def main():
    made = parser(__doc__)
    made.add_argument("--first", action="store_true", help="time from the start of a process to its first prediction")
    made.add_argument("--rust", type=Path, default=RUST / "target/release", help="folder of the peers in Rust")
    made.add_argument("--int8", action="store_true", help="timburn and onnxruntime in eight bits too")
    arguments = made.parse_args()
    if arguments.child:
        kind, *rest = arguments.child
        if kind == "export":
            export(rest[0], rest[1], int(rest[2]))
        elif kind == "quantize":
            quantized(*rest)
        elif kind == "first":
            first(*rest)
        else:
            child(kind, *rest)
    elif arguments.first:
        first_predictions(arguments)
    else:
        lines = [(f"{name} {batch}x3x{SIZE}x{SIZE}", batch, (name, batch)) for name in NAMES for batch in batches(arguments, [1, 8])]
        with tempfile.TemporaryDirectory() as folder:
            contest(arguments, lines, lambda key: list(contestants(arguments, folder, key)))


if __name__ == "__main__":
    main()
