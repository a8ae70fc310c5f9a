"""Metrics of tasks. Higher is better and 1 is the best, but for error rates (`ERRORS`), of which 0 is the best."""

import numpy as np
from scipy import stats
from sklearn import metrics

CLASSIFICATION = ("accuracy", "balanced_accuracy", "f1", "matthews", "accuracy_f1")
REGRESSION = ("pearson_spearman", "pearson", "spearman")
BY_KIND = {  # the metrics of each kind of task
    "classification": CLASSIFICATION,
    "frames": CLASSIFICATION,
    "regression": REGRESSION,
    "answers": ("f1", "exact"),
    "transcripts": ("wer", "cer", "per", "slot_f1", "slot_cer"),
    "classes": ("accuracy",),
    "verification": ("eer",),
    "diarization": ("der",),
}
ERRORS = ("wer", "cer", "per", "eer", "der", "slot_cer")


def better(metric: str, score: float, other: float) -> bool:
    """Whether a score is better than another."""
    return score < other if metric in ERRORS else score > other


def f1(truth: np.ndarray, prediction: np.ndarray) -> float:
    """For two classes, the F1 of the second (GLUE's "1"); for more, the mean over the classes."""
    if max(truth.max(), prediction.max()) <= 1:
        return metrics.f1_score(truth, prediction, average="binary", zero_division=0)
    return metrics.f1_score(truth, prediction, average="macro", zero_division=0)


def accuracy_f1(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The mean of accuracy and F1, as GLUE reports MRPC and QQP."""
    return (metrics.accuracy_score(truth, prediction) + f1(truth, prediction)) / 2


def _constant(truth: np.ndarray, prediction: np.ndarray) -> bool:
    """Whether a correlation is undefined: fewer than 2 items, or one side is constant."""
    return len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(prediction) == 0


def pearson(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Pearson's r; 0 where one side is constant."""
    return 0.0 if _constant(truth, prediction) else stats.pearsonr(truth, prediction).statistic


def spearman(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Spearman's rho: Pearson's r of the ranks, ties at their mean rank; 0 where one side is constant."""
    return 0.0 if _constant(truth, prediction) else stats.spearmanr(truth, prediction).statistic


def pearson_spearman(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The mean of the two correlations, as GLUE reports STS-B; 0 where one side is constant."""
    return (pearson(truth, prediction) + spearman(truth, prediction)) / 2


METRICS = {
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,  # the mean over classes
    "f1": f1,
    "accuracy_f1": accuracy_f1,
    "matthews": metrics.matthews_corrcoef,
    "pearson_spearman": pearson_spearman,
    "pearson": pearson,
    "spearman": spearman,
}


def score(metric: str, truth: np.ndarray, prediction: np.ndarray) -> float:
    """`metric` of predictions [N] against the truth [N]: class numbers, or values."""
    return float(METRICS[metric](truth, prediction))
