"""Writes goldens/pca.json: NumPy's principal components of made-up features; each component's entry of largest size is positive."""

import json
from pathlib import Path

import numpy as np

import formula

# Name, samples, features: more samples than features and fewer.
CASES = [("tall", 60, 12), ("wide", 20, 48)]


def case(name: str, samples: int, features: int) -> dict:
    values = formula.unit(f"pca.{name}", samples * features).reshape(samples, features).astype(np.float64)
    # Spreads of all sizes, and means far from zero.
    values = values * (1.0 / np.arange(1, features + 1)) + np.arange(features) * 0.25
    values = values.astype(np.float32).astype(np.float64)
    centred = values - values.mean(0)
    _, singular, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:2]
    signs = np.sign(components[np.arange(2), np.abs(components).argmax(1)])
    points = centred @ (components * signs[:, None]).T
    return {
        "samples": samples,
        "features": features,
        "points": points.flatten().tolist(),
        "explained": (singular**2 / (singular**2).sum())[:2].tolist(),
    }


def main() -> None:
    path = Path(__file__).parent / "goldens" / "pca.json"
    cases = {name: case(name, samples, features) for name, samples, features in CASES}
    path.write_text("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items()) + "\n}\n")


if __name__ == "__main__":
    main()
