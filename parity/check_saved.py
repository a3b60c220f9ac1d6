"""Proves that PyTorch loads a file saved by timburn: every key, `strict=True`.

    python parity/check_saved.py FILE.safetensors NAME

NAME is a row of models.py. Prints samples of the logits of the formula's images; timburn prints the same for its model.
"""

import json
import sys

import torch
from safetensors.torch import load_file

import formula
import golden
from models import VARIANTS, adapt_stem


def main() -> None:
    torch.set_num_threads(2)
    file, name = sys.argv[1:]
    variant = VARIANTS[name]
    model = variant.build()
    if variant.in_channels != 3:
        adapt_stem(model, variant.in_channels)

    state = load_file(file)
    # Absent num_batches_tracked are no missing keys: PyTorch's batch norm takes them as zero in files of before version 2.
    model.load_state_dict(state, strict=True)

    images = formula.images("input", (2, variant.in_channels, *variant.eval_size))
    with torch.no_grad():
        logits = model.eval()(images)
    print(f"{len(state)} tensors loaded strictly into {name}")
    print(json.dumps(golden.logits(logits)))


if __name__ == "__main__":
    main()
