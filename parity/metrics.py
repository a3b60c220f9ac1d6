"""Writes goldens/metrics.json: scikit-learn's values of what an evaluation reports (calibration error: NumPy, by its definition)."""

import json
from pathlib import Path

import numpy as np
from sklearn import metrics as M

import formula


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> tuple[float, list]:
    edges, error, table = np.linspace(0, 1, bins + 1), 0.0, []
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        count = int(inside.sum())
        if count:
            gap = abs(right[inside].mean() - confidence[inside].mean())
            error += count / len(confidence) * gap
            table.append([count, float(confidence[inside].mean()), float(right[inside].mean())])
        else:
            table.append([0, 0.0, 0.0])
    return float(error), table


def case(name: str, samples: int, classes: int, step: float, absent: tuple = ()) -> dict:
    """Logits are multiples of `step`, so that ties occur; `absent` classes are never a label."""
    u = formula.unit(f"{name}.logits", samples * max(classes, 1)).reshape(samples, -1)
    logits = np.round((6 * u - 3) / step) * step
    shift = formula.unit(f"{name}.labels", samples)
    labels = np.array([int(v * max(classes, 2)) for v in shift])
    for at, label in enumerate(labels):
        if label in absent:
            labels[at] = 0
    logits = logits.astype(np.float32)
    if classes > 1:
        # Better than chance.
        logits[np.arange(samples), labels] += np.float32(1.5)
    wide = np.concatenate([np.zeros_like(logits), logits], 1) if classes == 1 else logits
    wide = wide.astype(np.float64)
    probabilities, predicted = softmax(wide), wide.argmax(1)
    every = list(range(wide.shape[1]))
    precision, recall, f1, support = M.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    order = np.argsort(-wide, axis=1, kind="stable")
    ece, table = calibration(probabilities.max(1), predicted == labels)
    result = {
        "samples": samples,
        "logits": logits.flatten().tolist(),
        "width": logits.shape[1],
        "labels": labels.tolist(),
        "top": {str(k): float((order[:, :k] == labels[:, None]).any(1).mean()) for k in (1, 2)},
        "confusion": M.confusion_matrix(labels, predicted, labels=every).tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
        "balanced_accuracy": float(M.balanced_accuracy_score(labels, predicted)),
        "macro_f1": float(M.f1_score(labels, predicted, average="macro", zero_division=0)),
        "ece": ece,
        "bins": table,
    }
    if wide.shape[1] == 2:
        result["auroc"] = float(M.roc_auc_score(labels, wide[:, 1] - wide[:, 0]))
    return result


def main() -> None:
    cases = {
        "ten_classes": case("ten", 120, 10, 0.5),
        "absent_classes": case("absent", 40, 6, 0.25, absent=(2, 5)),
        "two_classes": case("two", 90, 2, 0.5),
        "two_classes_fine": case("fine", 90, 2, 1e-4),
        "one_logit": case("one", 60, 1, 0.5),
    }
    path = Path(__file__).parent / "goldens" / "metrics.json"
    path.write_text("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items()) + "\n}\n")


if __name__ == "__main__":
    main()
