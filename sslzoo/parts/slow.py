"""How wav2vec 2.0 and HuBERT hold back a front end that learns."""

from torch import Tensor

from sslzoo.parts import ranks
from sslzoo.parts.masked import valid


def slowed(features: Tensor, share: float) -> Tensor:
    """The same features, through which `share` of the gradient flows (wav2vec 2.0, section 4.2)."""
    if not features.requires_grad:
        return features
    return share * features + (1 - share) * features.detach()


def mean_square(features: Tensor, lengths: Tensor) -> Tensor:
    """Of the features [B, T, C] of the frames that are there, [B] of each row, over all ranks, with gradient."""
    inside = valid(lengths, features.shape[1], features.device)
    return ranks.mean((features.float().square().mean(-1) * inside).sum(), float(lengths.numpy().sum()))
