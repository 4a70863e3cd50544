"""Numbers of classes, which an imbalanced test set does not hide."""

import numpy as np


def per_class(prediction: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """Recall of each class, f64[C]; NaN for one without images."""
    counts = np.bincount(label, minlength=num_classes)
    right = np.bincount(label[prediction == label], minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return right / counts


def geometric_mean(recall: np.ndarray) -> float:
    """Of the recalls of classes with images (Kubat and Matwin, ICML 1997); 0 if one is 0."""
    recall = recall[np.isfinite(recall)]
    return float(np.exp(np.log(recall).mean())) if recall.all() else 0.0


def worst(recall: np.ndarray) -> float:
    """The smallest recall of a class with images."""
    return float(np.nanmin(recall))


def macro_f1(prediction: np.ndarray, label: np.ndarray, num_classes: int) -> float:
    """Mean over the classes that occur in label or prediction of 2 P R / (P + R)."""
    right = np.bincount(label[prediction == label], minlength=num_classes)
    both = np.bincount(label, minlength=num_classes) + np.bincount(
        prediction, minlength=num_classes
    )
    occurs = both > 0
    return float((2 * right[occurs] / both[occurs]).mean())
