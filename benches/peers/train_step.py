"""timburn's training steps beside PyTorch's, by turns on one machine.

    cargo build --release
    python benches/peers/train_step.py [NAME] [--rounds 3] [--threads 2] [--json] [--chart FILE.svg]
    python benches/peers/train_step.py "resnet50 64x3x224" --device cuda --batch 64     # on a GPU, with a binary built for it

A step is forward, cross-entropy, backward and a plain SGD update on images that are in memory; PyTorch runs it eagerly in both layouts, and in
channels-last with bf16 autocast; on a GPU also compiled. Needs torch, torchvision and timm. Each contestant has a process of its own (turns.py), whose peak memory is told.
"""

import sys

from networks import build
from turns import Contestant, batches, contest, ours, parser, serve, torch_device

# Architecture, batch, size, whether the stem is the one for 32 pixels.
LINES = [
    ("resnet20", 128, 32, False),
    ("resnet50", 64, 32, False),
    ("resnet50", 64, 32, True),
    ("efficientnet_lite0", 8, 224, False),
    ("resnet18", 8, 224, False),
    ("resnet50", 8, 224, False),
]


def child(kind, name, batch, size, small_stem, threads, device):
    import torch

    torch.set_num_threads(int(threads))
    layout = torch.contiguous_format if kind == "nchw" else torch.channels_last
    model = build(name, small_stem == "True").to(device, memory_format=layout).train()
    images = torch.randn(int(batch), 3, int(size), int(size)).to(device, memory_format=layout)
    labels = torch.arange(int(batch), device=device) % (10 if name == "resnet20" else 1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    if "compiled" in kind:
        model = torch.compile(model)

    def step():
        optimizer.zero_grad()
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled="bf16" in kind):
            logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        # The loss is there before the weights are.
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    serve(f"PyTorch {torch.__version__}", step)


def contestants(arguments, key):
    name, batch, size, small_stem = key
    device = torch_device(arguments)
    yield from ours(arguments, name, batch, size, "--train", *["--stem=small"] * small_stem)
    kinds = ["nchw", "channels-last", "bf16 channels-last"]
    for kind in kinds if device == "cpu" else [*kinds, "compiled channels-last", "bf16 compiled channels-last"]:
        command = [sys.executable, __file__, "--child", kind, *key, arguments.threads, device]
        yield Contestant(f"PyTorch {kind}", command, "bf16" not in kind, OMP_NUM_THREADS=arguments.threads)


def main():
    made = parser(__doc__)
    made.set_defaults(rounds=3, seconds=3.0)
    arguments = made.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    lines = [
        (f"{name} {batch}x3x{size}x{size}{' small stem' * stem}", batch, (name, batch, size, stem))
        for name, usual, size, stem in LINES
        for batch in batches(arguments, [usual])
    ]
    contest(arguments, lines, lambda key: list(contestants(arguments, key)))


if __name__ == "__main__":
    main()
