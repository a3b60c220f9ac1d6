"""PyTorch's side of `cargo bench -p timburn-models --bench train_step`: the same shapes, the same lines.

python benches/peers/train_step.py [--threads 2] [--layout nchw|channels-last] [NAME]

Needs torch, torchvision and timm. A step is forward, cross-entropy, backward and a plain SGD update, f32, eager.
"""

import argparse
import time

import timm
import torch
import torchvision

# The networks of the benchmark; resnet20 is He et al.'s for CIFAR, with a parameter-free shortcut (option A).
TRAINING = [("resnet20", 128, 32, 10), ("resnet18", 8, 224, 1000), ("resnet50", 8, 224, 1000)]
INFERENCE = [("resnet50", 1), ("resnet50", 8), ("efficientnet_lite0", 1), ("efficientnet_lite0", 8)]
SECONDS, RUNS = 4.0, 3


class BasicBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(outputs)
        self.relu = torch.nn.ReLU(inplace=True)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = torch.nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return self.relu(x + y)


def resnet20(classes):
    layers = [torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU(inplace=True)]
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64)):
        for block in range(3):
            layers.append(BasicBlock(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, classes))


def build(name, classes):
    if name == "resnet20":
        return resnet20(classes)
    if name.startswith("efficientnet"):
        return timm.create_model(f"tf_{name}", num_classes=classes)
    return getattr(torchvision.models, name)(num_classes=classes)


def report(line, images, wanted, work):
    if wanted and wanted not in line:
        return
    work()
    begin, times = time.perf_counter(), []
    while len(times) < RUNS or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    print(
        f"{line:34} n={len(times):3}  median {times[len(times) // 2]:8.1f} ms  min {times[0]:8.1f}  max {times[-1]:8.1f}"
        f"  best {images / times[0] * 1e3:7.1f} images/s",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layout", choices=["nchw", "channels-last"], default="nchw")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layout = torch.channels_last if arguments.layout == "channels-last" else torch.contiguous_format
    print(f"PyTorch {torch.__version__} {arguments.layout}, {arguments.threads} threads, f32")
    for name, batch, size, classes in TRAINING:
        model = build(name, classes).to(memory_format=layout).train()
        images = torch.randn(batch, 3, size, size).to(memory_format=layout)
        labels = torch.zeros(batch, dtype=torch.long)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        def step():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()

        report(f"{name} train {batch}x3x{size}x{size}", batch, arguments.name, step)
    for name, batch in INFERENCE:
        model = build(name, 1000).to(memory_format=layout).eval()
        images = torch.randn(batch, 3, 224, 224).to(memory_format=layout)

        def forward():
            with torch.inference_mode():
                model(images)

        report(f"{name} infer {batch}x3x224x224", batch, arguments.name, forward)


if __name__ == "__main__":
    main()
