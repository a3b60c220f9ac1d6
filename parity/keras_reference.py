"""Keras' own ResNet50, given the formula's weights under our names."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras  # noqa: E402  (reads the backend when imported)
import torch  # noqa: E402

import formula  # noqa: E402

STAGE_BLOCKS = (3, 4, 6, 3)
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def layer_names() -> dict[str, str]:
    """Keras layer name to our module path."""
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}
    for stage, blocks in enumerate(STAGE_BLOCKS, 1):
        for block in range(blocks):
            theirs, ours = f"conv{stage + 1}_block{block + 1}", f"layer{stage}.{block}"
            for i in (1, 2, 3):
                names[f"{theirs}_{i}_conv"] = f"{ours}.conv{i}"
                names[f"{theirs}_{i}_bn"] = f"{ours}.bn{i}"
        names[f"conv{stage + 1}_block1_0_conv"] = f"layer{stage}.0.downsample.0"
        names[f"conv{stage + 1}_block1_0_bn"] = f"layer{stage}.0.downsample.1"
    return names


def fill(model: keras.Model) -> None:
    """Formula tensors in PyTorch layout, transposed to Keras' HWIO and [in, out]."""
    names = layer_names()
    for variable in model.variables:
        layer, kind = variable.path.split("/")
        shape = tuple(variable.shape)
        if kind != "kernel":
            value = formula.tensor(f"{names[layer]}.{BATCH_NORM.get(kind, kind)}", shape)
        elif len(shape) == 4:
            height, width, inputs, outputs = shape
            value = formula.tensor(f"{names[layer]}.weight", (outputs, inputs, height, width)).permute(2, 3, 1, 0)
        else:
            value = formula.tensor(f"{names[layer]}.weight", shape[::-1]).T
        variable.assign(value.contiguous())


def build(height: int, width: int) -> keras.Model:
    model = keras.applications.ResNet50(weights=None, input_shape=(height, width, 3), classifier_activation=None)
    fill(model)
    return model


def evaluate(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Stage activations `layer1..4` as [n, c, h, w] and `logits`, from images [n, 3, h, w]."""
    model = build(*images.shape[2:])
    ends = [f"conv{stage + 1}_block{blocks}_out" for stage, blocks in enumerate(STAGE_BLOCKS, 1)]
    outputs = [model.get_layer(end).output for end in ends] + [model.output]
    with torch.no_grad():
        *stages, logits = keras.Model(model.input, outputs)(images.permute(0, 2, 3, 1), training=False)
    found = {f"layer{i}": stage.permute(0, 3, 1, 2) for i, stage in enumerate(stages, 1)}
    return found | {"logits": logits}


if __name__ == "__main__":
    # Names and shapes as Keras itself gives them, for the test of timburn's layout table.
    from pathlib import Path

    lines = [f"{variable.path}\t{list(variable.shape)}\n" for variable in keras.applications.ResNet50(weights=None).variables]
    (Path(__file__).parent / "goldens" / "keras_resnet50.tsv").write_text("".join(sorted(lines)))
