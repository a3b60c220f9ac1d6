"""Weights, inputs and labels computed from names alone, identically here and in timburn's tests.

Only 64-bit wrapping integer arithmetic and single f32 operations are used, so both sides agree to the bit and no weight
file has to be committed.
"""

import math

import numpy as np
import torch

GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


def fnv1a64(name: str) -> int:
    hash_ = 0xCBF29CE484222325
    for byte in name.encode():
        hash_ = (hash_ ^ byte) * 0x100000001B3 % 2**64
    return hash_


def unit(name: str, count: int) -> np.ndarray:
    """`count` f32 values in [0, 1): splitmix64 started at the name's hash, its top 24 bits kept so that f32 is exact."""
    z = np.arange(1, count + 1, dtype=np.uint64)
    z *= GOLDEN_RATIO
    z += np.uint64(fnv1a64(name))
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def tensor(key: str, shape, bias_offset: float = 0.0) -> torch.Tensor:
    """The f32 value of the parameter or buffer `key`; scales keep activations of a deep random network moderate.

    `bias_offset` is added to every 1-d bias as one more f32 operation.
    """
    u = unit(key, math.prod(shape))
    if key.endswith("running_mean"):
        values = np.float32(0.2) * (u - np.float32(0.5))
    elif key.endswith("running_var"):
        values = np.float32(0.5) + u
    elif len(shape) >= 2:
        bound = np.float32(math.sqrt(3.0 / math.prod(shape[1:])))
        values = (np.float32(2.0) * u - np.float32(1.0)) * bound
    elif key.endswith(".weight"):
        values = np.float32(0.5) + u
    elif key.endswith(".bias"):
        values = np.float32(0.2) * (u - np.float32(0.5)) + np.float32(bias_offset)
    else:
        raise ValueError(f"the formula has no rule for {key} {list(shape)}")
    return torch.from_numpy(values.reshape(shape))


def images(name: str, shape) -> torch.Tensor:
    """A batch `[n, c, h, w]` in [-2, 2), about the range of normalised photographs."""
    values = np.float32(4.0) * unit(name, math.prod(shape)) - np.float32(2.0)
    return torch.from_numpy(values.reshape(shape))


def labels(count: int, classes: int) -> torch.Tensor:
    return torch.tensor([(7 * i + 3) % classes for i in range(count)])


def fill(model: torch.nn.Module, bias_offset: float = 0.0) -> None:
    """Overwrites every parameter and buffer in place, `num_batches_tracked` excepted."""
    for key, value in model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            value.copy_(tensor(key, value.shape, bias_offset))
