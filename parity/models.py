"""The PyTorch reference of every timburn variant, as one table."""

from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
import torchvision
from timm.models import adapt_input_conv
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

import formula


class CifarBlock(nn.Module):
    """Basic block with the parameter-free shortcut A of He et al.: every second pixel, new channels zero."""

    def __init__(self, inputs: int, planes: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.stride = stride
        # Split evenly before and after the kept channels, as akamaster/pytorch_resnet_cifar10 does.
        self.padding = (planes - inputs) // 2

    def forward(self, x):
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding))
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    """The 6n+2 layer network of He et al., section 4.2."""

    def __init__(self, depth: int, classes: int = 10):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self.stage(16, 16, 1, blocks)
        self.layer2 = self.stage(16, 32, 2, blocks)
        self.layer3 = self.stage(32, 64, 2, blocks)
        self.fc = nn.Linear(64, classes)

    @staticmethod
    def stage(inputs: int, planes: int, stride: int, blocks: int) -> nn.Sequential:
        rest = (CifarBlock(planes, planes, 1) for _ in range(blocks - 1))
        return nn.Sequential(CifarBlock(inputs, planes, stride), *rest)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def keras_resnet50() -> nn.Module:
    """Keras' ResNet50 v1 in PyTorch terms; `keras_reference.py` proves it equal to Keras itself."""
    model = torchvision.models.resnet50()
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1.001e-5
            module.momentum = 0.01
    return model


def small_stem(architecture: str) -> nn.Module:
    """A torchvision ResNet for images of 32 to 64 pixels: 3x3 stride 1 stem, no pooling."""
    model = torchvision.models.get_model(architecture, num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return model


def adapt_stem(model: nn.Module, channels: int) -> None:
    """Another number of input channels from the three-channel weights, as timm's `in_chans` does it."""
    old = model.conv1
    model.conv1 = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False)
    model.conv1.weight = nn.Parameter(adapt_input_conv(channels, old.weight.detach()))


@dataclass(frozen=True)
class Variant:
    build: Callable[[], nn.Module]
    stages: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    classes: int = 1000
    in_channels: int = 3
    eval_size: tuple[int, int] = (64, 64)
    train_size: tuple[int, int] = (64, 64)
    train_batch: int = 4
    # With biases near zero some activations lie within rounding of a ReLU's kink, where two correct programs take
    # different sides, and a random network's exploding gradients carry that to 10 % after three steps. Two standard
    # deviations above zero few gates are that close (though some stay closed), and f32 agrees with f64 to about 1e-5.
    train_bias_offset: float = 2.0


def torchvision_variant(architecture: str, options: dict | None = None, **fields) -> Variant:
    return Variant(lambda: torchvision.models.get_model(architecture, **(options or {})), **fields)


def timm_variant(architecture: str, options: dict | None = None, **fields) -> Variant:
    return Variant(lambda: timm.create_model(architecture, **(options or {})), **fields)


def cifar_variant(depth: int, **fields) -> Variant:
    stages = ("layer1", "layer2", "layer3")
    return Variant(lambda: CifarResNet(depth), stages, 10, eval_size=(32, 32), train_size=(32, 32), **fields)


def small_variant(architecture: str, **fields) -> Variant:
    return Variant(lambda: small_stem(architecture), classes=10, eval_size=(32, 32), train_size=(32, 32), **fields)


def lite_variant(level: int, **fields) -> Variant:
    # timm defaults to momentum 0.1 unless asked; the TensorFlow models were trained with 0.01.
    stages = tuple(f"blocks.{i}" for i in range(7))
    options = {"bn_momentum": 0.01}
    architecture = f"tf_efficientnet_lite{level}"
    fields = {"train_bias_offset": RELU6_BIAS_OFFSET} | fields
    return timm_variant(architecture, options, stages=stages, **fields)


# The middle of the range in which ReLU6 is linear.
RELU6_BIAS_OFFSET = 3.0

# Odd and non-square sizes meet the rounding of strided convolutions, ceil-mode pooling and SAME padding.
ODD = (65, 79)

VARIANTS = {
    "resnet18": torchvision_variant("resnet18"),
    "resnet34": torchvision_variant("resnet34", eval_size=ODD),
    "resnet50": torchvision_variant("resnet50"),
    "resnet101": torchvision_variant("resnet101", train_bias_offset=3.0),
    "wide_resnet50_2": torchvision_variant("wide_resnet50_2"),
    # These have enough activations to meet the kink at the default offset all the same.
    "resnet152": torchvision_variant("resnet152", train_bias_offset=3.0),
    "resnext50_32x4d": torchvision_variant("resnext50_32x4d", train_bias_offset=3.0),
    "resnext101_64x4d": torchvision_variant("resnext101_64x4d", train_bias_offset=4.0),
    "resnext101_32x8d": torchvision_variant("resnext101_32x8d", train_bias_offset=4.0),
    "wide_resnet101_2": torchvision_variant("wide_resnet101_2", train_bias_offset=3.0),
    # Two candidates of their max pooling are nearer to each other than one rounding at the default offset. The
    # shallow ones lose their last statistics to cancellation at larger ones.
    "resnet18d": timm_variant("resnet18d", eval_size=ODD, train_bias_offset=2.5),
    "resnet34d": timm_variant("resnet34d", train_bias_offset=2.5),
    "resnet50d": timm_variant("resnet50d", eval_size=ODD, train_bias_offset=4.0),
    "resnet101d": timm_variant("resnet101d", train_bias_offset=4.0),
    "seresnet50": timm_variant("seresnet50", train_bias_offset=3.0),
    # At the default offset two activations are nearer to the kink than f32 is to f64.
    "keras_resnet50": Variant(keras_resnet50, train_bias_offset=3.0),
    "resnet18_small": small_variant("resnet18", train_bias_offset=4.0),
    "resnet50_small": small_variant("resnet50", train_bias_offset=4.0),
    "resnet20": cifar_variant(20),
    "resnet32": cifar_variant(32),
    "resnet44": cifar_variant(44),
    "resnet56": cifar_variant(56),
    "resnet110": cifar_variant(110, train_bias_offset=2.25),
    "resnet50_os16": torchvision_variant("resnet50", {"replace_stride_with_dilation": [False, False, True]}),
    "resnet50_os8": torchvision_variant("resnet50", {"replace_stride_with_dilation": [False, True, True]}),
    "resnet18_in1": torchvision_variant("resnet18", in_channels=1),
    "resnet18_in4": torchvision_variant("resnet18", in_channels=4),
    "tf_efficientnet_lite0": lite_variant(0),
    "tf_efficientnet_lite1": lite_variant(1, eval_size=ODD),
    "tf_efficientnet_lite2": lite_variant(2),
    "tf_efficientnet_lite3": lite_variant(3),
    # The offset at which no activation meets a kink.
    "tf_efficientnet_lite4": lite_variant(4, train_bias_offset=2.7),
    # The last block of each resolution, the 320-channel block, and the 1280-channel head.
    "mobilenet_v2": torchvision_variant(
        "mobilenet_v2",
        {"dropout": 0.0},
        stages=tuple(f"features.{i}" for i in (1, 3, 6, 13, 17, 18)),
        train_bias_offset=RELU6_BIAS_OFFSET,
    ),
}


def reference(name: str, bias_offset: float = 0.0) -> nn.Module:
    """The variant with formula weights; the formula fills the three-channel stem, which is then adapted."""
    variant = VARIANTS[name]
    model = variant.build()
    formula.fill(model, bias_offset)
    if variant.in_channels != 3:
        adapt_stem(model, variant.in_channels)
    return model
