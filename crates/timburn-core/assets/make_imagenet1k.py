"""Writes imagenet1k.tsv (synset, name) from the tables of timm and torchvision; run with both installed."""

from importlib.resources import files
from pathlib import Path

from torchvision.models._meta import _IMAGENET_CATEGORIES

synsets = (files("timm.data") / "_info" / "imagenet_synsets.txt").read_text().split()
assert len(synsets) == len(_IMAGENET_CATEGORIES) == 1000
lines = [f"{synset}\t{name}\n" for synset, name in zip(synsets, _IMAGENET_CATEGORIES)]
(Path(__file__).parent / "imagenet1k.tsv").write_text("".join(lines))
