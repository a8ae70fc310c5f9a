"""Sinkhorn-Knopp's iterations as a loop in float64."""

import math

import torch


def slow(x: torch.Tensor, epsilon: float, iterations: int) -> list[list[float]]:
    """Algorithm 1 of 2006.09882, entry by entry."""
    q = [[math.exp(v / epsilon) for v in row] for row in x.double().tolist()]
    n, k = len(q), len(q[0])
    for _ in range(iterations):
        columns = [sum(q[i][j] for i in range(n)) for j in range(k)]
        q = [[q[i][j] / columns[j] / k for j in range(k)] for i in range(n)]
        rows = [sum(row) for row in q]
        q = [[v / rows[i] / n for v in q[i]] for i in range(n)]
    return [[v * n for v in row] for row in q]
