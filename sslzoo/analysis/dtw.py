"""Dynamic time warping of a query within longer sequences."""

import torch
import torch.nn.functional as F
from torch import Tensor


def frame_distances(query: Tensor, documents: Tensor, lengths: Tensor) -> Tensor:
    """exp(1 - cos(q_i, x_j)) - 1, then put to 0..1 in each row, that is, over the frames of a document: as s3prl does
    for SUPERB. query [N, D], documents [M, T, D], lengths [M] -> [M, N, T], infinite in the padding."""
    cosines = torch.einsum("nd,mtd->mnt", F.normalize(query, dim=1), F.normalize(documents, dim=2))
    found = (1 - cosines).exp() - 1
    outside = (torch.arange(documents.shape[1]) >= lengths[:, None])[:, None]
    least = found.masked_fill(outside, torch.inf).amin(2, keepdim=True)
    most = found.masked_fill(outside, -torch.inf).amax(2, keepdim=True)
    return ((found - least) / (most - least).clamp(min=1e-9)).masked_fill(outside, torch.inf)


def subsequence_costs(distances: Tensor) -> Tensor:
    """The least mean distance of each query frame to one of the document, beginning and ending anywhere in it, where
    each step goes on by 0, 1 or 2 of its frames (the asymmetric steps of Sakoe and Chiba 1978; Mueller 2007, section
    4.4):

    g_ij = d_ij + min(g_{i-1,j}, g_{i-1,j-1}, g_{i-1,j-2}), g_0j = d_0j, cost = min_j g_{N-1,j} / N

    distances [M, N, T] -> [M]."""
    total = distances[:, 0]
    for row in distances.unbind(1)[1:]:
        one = F.pad(total, (1, 0), value=torch.inf)[:, :-1]
        two = F.pad(total, (2, 0), value=torch.inf)[:, : total.shape[1]]
        total = row + torch.minimum(total, torch.minimum(one, two))
    return total.amin(1) / distances.shape[1]
