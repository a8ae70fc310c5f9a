"""Raw features, the baseline of a probe: pixels, log-mel frames and their means, bags of tokens."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.preprocessing import normalize
from torch import Tensor

from sslzoo.data.base import SPECIALS, Batch
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import ConfigError
from sslzoo.features.frozen import Source, units
from sslzoo.nn.images import to_float
from sslzoo.nn.masked import masked_mean, valid_mask
from sslzoo.probe.splits import Pool

N_MELS = 80
BAG = 4096  # token ids that are counted, at most


class Pixels:
    """Every pixel, in 0..1."""

    layers, main, per_dimension_scale = ["pixels"], 0, False
    first, stride = 0.0, 1.0

    def items(self, batch: Batch) -> Tensor:
        return to_float(batch.inputs).flatten(1)[:, None]

    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        raise ConfigError("raw images have no frames")


class Mels:
    """Log-mel frames of 25 ms every 10 ms; an item is their mean over time."""

    layers, main, per_dimension_scale = ["log-mel"], 0, True

    def __init__(self, sample_rate: int):
        from sslzoo.nn.mel import LogMel  # torchaudio, needed for speech only

        # half as many filters below 16 kHz, where the spectrum has half as many frequencies
        self.mel = LogMel(sample_rate, N_MELS if sample_rate >= 16000 else N_MELS // 2)
        self.first, self.stride = self.mel.win / 2, self.mel.hop

    @torch.inference_mode()
    def items(self, batch: Batch) -> Tensor:
        mels, lengths = self.mel(batch.inputs, batch.lengths)
        return masked_mean(mels, valid_mask(lengths, mels.shape[1]))[:, None]

    @torch.inference_mode()
    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        mels, lengths = self.mel(batch.inputs, batch.lengths)
        return mels[:, :, None], lengths


class Bag:
    """log(1 + count) of each token, normalised to unit length, without special tokens; a frame is its one token.

    kept: [at most BAG] the ids that are counted. size: their number. column [V]: each id's column, `size` if it is
    not counted. Read by `bags.BagReader`, as sparse rows.
    """

    layers, main, per_dimension_scale = ["tokens"], 0, False
    first, stride = 0.5, 1.0

    def __init__(self, kept: Tensor, vocab_size: int):
        self.column = torch.full((vocab_size,), len(kept), dtype=torch.int64)
        self.column[kept] = torch.arange(len(kept))
        self.size = len(kept)

    @classmethod
    def of(cls, pool: Pool, places: np.ndarray) -> "Bag":
        """Count the tokens that occur in the most of these items. places: indices in the pool."""
        size = pool.data.vocab_size
        held = torch.zeros(size, dtype=torch.int64)
        for split, indices, _ in pool.located(places):
            for batch in ordered_loader(split, units(pool.data), indices=indices):
                ids = batch.inputs + size * torch.arange(len(batch))[:, None]
                once = ids[valid_mask(batch.lengths, ids.shape[1])].unique() % size
                held += torch.bincount(once, minlength=size)
        held[:SPECIALS] = 0
        kept = held.argsort(descending=True, stable=True)[:BAG]
        return cls(kept[held[kept] > 0], size)

    def counts(self, batch: Batch) -> csr_matrix:
        """[B, D], one row per item."""
        row, place = valid_mask(batch.lengths, batch.inputs.shape[1]).nonzero(as_tuple=True)
        column = self.column[batch.inputs[row, place]]
        kept = column < self.size
        at = row[kept].numpy(), column[kept].numpy()
        found = csr_matrix((np.ones(len(at[0]), np.float32), at), (len(batch), self.size))  # sums duplicates
        found.data = np.log1p(found.data)
        return normalize(found, copy=False)


def source(pool: Pool, train: np.ndarray) -> Source | Bag:
    """The raw features of a pool's modality. train: places of train's items, on which a bag's vocabulary is chosen."""
    if pool.data.modality == "image":
        return Pixels()
    if pool.data.modality == "speech":
        return Mels(pool.rate)
    return Bag.of(pool, np.unique(train))
