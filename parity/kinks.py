"""How near a network's activations come to where a correct program may round to the other side."""

import torch
from torch import nn
from torch.nn import functional as F

# A few roundings of f32 away from the kink. Below it another order of summation decides which side a gradient takes.
LEAST = 1e-6


def margin(model: nn.Module, images: torch.Tensor) -> tuple[float, str]:
    """The smallest distance of a ReLU's input from its kinks, or of a pooling's two largest candidates from each other, over the mean
    magnitude of the layer's input; and the layer. One training pass in f64."""
    found = []

    def relu(name: str, kinks: tuple[float, ...]):
        def hook(_, inputs):
            x = inputs[0].detach()
            nearest = min((x - kink).abs().min().item() for kink in kinks)
            found.append((nearest / x.abs().mean().item(), name))

        return hook

    def pool(name: str, layer: nn.MaxPool2d):
        def hook(_, inputs):
            x = inputs[0].detach()
            border = (layer.padding,) * 4
            windows = F.unfold(F.pad(x, border, value=-1e9), layer.kernel_size, stride=layer.stride)
            first, second = windows.unflatten(1, (x.shape[1], -1)).topk(2, dim=2).values.unbind(2)
            gap = first - second
            # After a ReLU many candidates are the same zero, whose gradient is nobody's.
            found.append((gap[gap > 0].min().item() / x.abs().mean().item(), name))

        return hook

    for name, layer in model.named_modules():
        if isinstance(layer, nn.ReLU6):
            layer.register_forward_pre_hook(relu(name, (0.0, 6.0)))
        elif isinstance(layer, nn.ReLU):
            layer.register_forward_pre_hook(relu(name, (0.0,)))
        elif isinstance(layer, nn.MaxPool2d):
            layer.register_forward_pre_hook(pool(name, layer))
    model.double().train()(images.double())
    return min(found, default=(float("inf"), "no kink"))
