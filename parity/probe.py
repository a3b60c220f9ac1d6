"""Writes goldens/probe.json: scikit-learn's logistic regression and nearest neighbours on made-up features.

timburn's penalty is λ/2 · |w|² beside the mean loss, scikit-learn's C = 1 / (λ · Σ sample weights), on standardised features.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import formula

CLASSES, WIDTH = 3, 6
PENALTIES = [1.0, 1e-1, 1e-2, 1e-3]
WEIGHTS = [1.0, 0.25, 4.0]
TEMPERATURE = 0.07


def features(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of unequal size; scales and means of all kinds."""
    labels = np.array([[0, 1, 1, 2, 1, 0][i % 6] for i in range(count)])
    values = formula.unit(f"probe.{name}", count * WIDTH).reshape(count, WIDTH).astype(np.float64)
    values[np.arange(count), labels] += 0.25
    values = values * 2.0 ** np.arange(WIDTH) + np.arange(WIDTH)
    return values.astype(np.float32).astype(np.float64), labels


def probe(weights: list[float] | None) -> dict:
    (x, y), (asked, expected) = features("train", 90), features("validation", 60)
    total = len(y) if weights is None else sum(weights[label] for label in y)
    best = None
    for penalty in PENALTIES:
        fit = LogisticRegression(C=1 / (penalty * total), tol=1e-10, max_iter=10_000, class_weight=weights and dict(enumerate(weights)))
        model = make_pipeline(StandardScaler(), fit).fit(x, y)
        logits = model.decision_function(asked)
        loss = log_loss(expected, model.predict_proba(asked))
        if best is None or loss < best["loss"]:
            best = {
                "penalty": penalty,
                "loss": loss,
                "accuracy": accuracy_score(expected, model.predict(asked)),
                "logits": logits.flatten().tolist(),
            }
    return best


def neighbours(k: int) -> float:
    (x, y), (asked, expected) = features("train", 90), features("validation", 60)
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / TEMPERATURE))
    return accuracy_score(expected, model.fit(x, y).predict(asked))


def main() -> None:
    golden = {"plain": probe(None), "weighted": probe(WEIGHTS), "neighbours": {str(k): neighbours(k) for k in (1, 5, 20)}}
    path = Path(__file__).parent / "goldens" / "probe.json"
    path.write_text("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()) + "\n}\n")


if __name__ == "__main__":
    main()
