"""Looking up time-aligned labels."""

import numpy as np

from sslzoo.data.base import Intervals


def labels_at(times: np.ndarray, intervals: Intervals) -> np.ndarray:
    """The label of the interval around each time, "" outside all intervals."""
    if not len(intervals.label):
        return np.full(len(times), "")
    order = np.argsort(intervals.start, kind="stable")
    start, end = np.asarray(intervals.start)[order], np.asarray(intervals.end)[order]
    label = np.asarray(intervals.label)[order].astype(str)
    last = np.searchsorted(start, times, side="right") - 1
    return np.where((last >= 0) & (times < end[last]), label[last], "")
