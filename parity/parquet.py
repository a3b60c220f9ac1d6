"""Writes goldens/parquet/: a Hugging Face image data set as `datasets` saves it, of pictures that a formula makes.

Two training shards and a test shard in `data/`, row groups of three rows, snappy, the class names in the `huggingface` schema metadata.
Picture `i` of a split is `noise("parquet {split} {i}", 4 * 3 * 3)`, 4 wide and 3 high; its label is `(i * 2 + 1) % 3`.
"""

import io
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image
from images import noise
from PIL import Image as Picture

OUT = Path(__file__).parent / "goldens" / "parquet"


def png(name: str) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(noise(name, 36).reshape(3, 4, 3)).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    (OUT / "data").mkdir(parents=True, exist_ok=True)
    features = Features({"image": Image(), "label": ClassLabel(names=["rose", "tulip", "daisy"])})
    shards = [("train", range(0, 5), "00000-of-00002"), ("train", range(5, 9), "00001-of-00002"), ("test", range(4), "00000-of-00001")]
    for split, indices, shard in shards:
        rows = {
            "image": [{"bytes": png(f"parquet {split} {i}"), "path": f"{i}.png"} for i in indices],
            "label": [(i * 2 + 1) % 3 for i in indices],
        }
        Dataset.from_dict(rows, features=features).to_parquet(OUT / "data" / f"{split}-{shard}.parquet", batch_size=3)


if __name__ == "__main__":
    main()
