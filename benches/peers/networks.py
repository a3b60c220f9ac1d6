"""PyTorch's twins of timburn's networks, weights random."""


def build(name, small_stem=False):
    """torchvision's, timm's, or He et al.'s for CIFAR; with `small_stem` a ResNet for 32 pixels: 3x3, stride 1, no pool."""
    if name == "resnet20":
        return resnet20(10)
    if name.startswith("efficientnet"):
        import timm

        return timm.create_model(f"tf_{name}")
    import torch
    import torchvision

    model = getattr(torchvision.models, name)()
    if small_stem:
        model.conv1, model.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    return model


def resnet20(classes):
    """With a parameter-free shortcut (option A)."""
    import torch

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

    layers = [torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU(inplace=True)]
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64)):
        for block in range(3):
            layers.append(BasicBlock(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, classes))
