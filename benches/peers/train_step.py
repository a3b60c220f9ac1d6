"""timburn's training steps beside PyTorch's, by turns on one machine.

    cargo build --release
    python benches/peers/train_step.py [NAME] [--rounds 3] [--threads 2] [--json] [--chart FILE.svg]

A step is forward, cross-entropy, backward and a plain SGD update on images that are in memory; PyTorch runs it eagerly in both layouts, and in
channels-last with bf16 autocast. Needs torch, torchvision and timm. Each contestant has a process of its own (turns.py), whose peak memory is told.
"""

import sys

from networks import build
from turns import Contestant, contest, parser, serve

# Architecture, batch, size, whether the stem is the one for 32 pixels.
LINES = [
    ("resnet20", 128, 32, False),
    ("resnet50", 64, 32, True),
    ("efficientnet_lite0", 8, 224, False),
    ("resnet18", 8, 224, False),
    ("resnet50", 8, 224, False),
]


def child(kind, name, batch, size, small_stem, threads):
    import torch

    torch.set_num_threads(int(threads))
    layout = torch.contiguous_format if kind == "nchw" else torch.channels_last
    model = build(name, small_stem == "True").to(memory_format=layout).train()
    images = torch.randn(int(batch), 3, int(size), int(size)).to(memory_format=layout)
    labels = torch.arange(int(batch)) % (10 if name == "resnet20" else 1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in kind):
            logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    serve(f"PyTorch {torch.__version__}", step)


def contestants(arguments, key):
    name, batch, size, small_stem = key
    ours = [arguments.timburn, "bench", name, "--turns", "--train", "--device", "flex", "--batch", batch, "--size", size]
    yield Contestant("timburn", ours + ["--stem=small"] * small_stem, RAYON_NUM_THREADS=arguments.threads)
    for kind in ["nchw", "channels-last", "bf16 channels-last"]:
        command = [sys.executable, __file__, "--child", kind, *key, arguments.threads]
        yield Contestant(f"PyTorch {kind}", command, "bf16" not in kind, OMP_NUM_THREADS=arguments.threads)


def main():
    made = parser(__doc__)
    made.set_defaults(rounds=3, seconds=3.0)
    arguments = made.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    lines = [(f"{name} {batch}x3x{size}x{size}", batch, (name, batch, size, stem)) for name, batch, size, stem in LINES]
    contest(arguments, lines, lambda key: list(contestants(arguments, key)))


if __name__ == "__main__":
    main()
