"""The front end of discrete BERT: audio as the codes of a frozen vq-wav2vec
(Baevski et al. 2020, 1910.05453, section 4)."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sslzoo import rng, weights
from sslzoo.data.base import Split
from sslzoo.encoders.base import Frontend
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.masked import valid_mask
from sslzoo.run import Run

UTTERANCES = 4000  # of the training set, whose codes are counted
UNKNOWN = 0  # the id of codes that are not in the vocabulary


class Codes(Frontend):
    """Waveform [B, N] -> ids of codes, int64 [B, T] -> tokens [B, T, D], their learned embeddings.

    waves, quantizer: the front end and the quantiser that make the codes; they never learn. A token is the tuple of the
    entries that its groups chose. run: the finished run of objective=vq_wav2vec that both are of, with the signatures
    of its weights; None: both keep their random weights, as BEST-RQ's quantiser.
    From then on the encoder has all of it.

    vocab_size: at most so many tuples have an id of their own, those that are most frequent in the training set (the
    paper's 2 x 320 entries make 13.5 thousand of 102 thousand); all others share one.
    """

    modality = "speech"
    feature_dim = 0
    offers = frozenset({"codes"})
    vocabulary: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        waves: Frontend,
        quantizer: nn.Module,
        run: str | None = None,
        signatures: list[str] | None = None,
        vocab_size: int = 4096,
        init_std: float = 0.02,
    ):
        super().__init__()
        if vocab_size < 2:
            raise ConfigError(f"encoder.frontend.vocab_size must be 2 or more, got {vocab_size}")
        self.quantizer: Any = quantizer
        self.waves, self.run, self.signatures = waves, run, signatures
        self.dim, self.stride, self.reads = dim, waves.stride, waves.reads
        self.requires_grad_(False)
        self.register_buffer("vocabulary", torch.arange(vocab_size))
        self.register_buffer("fitted", torch.tensor(False))
        self.code_embedding = nn.Embedding(1 + vocab_size, dim)
        nn.init.normal_(self.code_embedding.weight, std=init_std)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.waves.eval()
        self.quantizer.eval()
        return self

    def fit(self, split: Split, seed: int) -> None:
        """Take over the run's weights, and number the codes by a pass over the training set."""
        if self.fitted:
            return
        if self.run is not None:
            self._inherit(Run(Path(self.run)))
        self.waves.fit(split, seed)
        rows = rng.permutation(seed, "codes", n=len(split))[:UTTERANCES]
        counts: dict[int, int] = {}
        for row in rows.tolist():
            item = split.read(row)[None]
            codes, found = self.codes(item, torch.tensor([item.shape[1]]))[0][0].unique(return_counts=True)
            for code, count in zip(codes.tolist(), found.tolist(), strict=True):
                counts[code] = counts.get(code, 0) + count
        if len(counts) < 2:
            raise UserError("all frames of the training set have one code: the quantiser has collapsed")
        likely = sorted(counts, key=lambda code: (-counts[code], code))[: len(self.vocabulary)]
        free = torch.iinfo(torch.int64).max
        self.vocabulary.copy_(torch.tensor(sorted(likely) + [free] * (len(self.vocabulary) - len(likely))))
        self.fitted.fill_(True)

    def _inherit(self, run: Run) -> None:
        mend = f"delete {run.folder}/DONE, and run its `sslzoo pretrain` again"
        if [weights.signature(path) for path in (run.weights, run.objective_weights)] != self.signatures:
            raise UserError(
                f"encoder.frontend.run={run.folder} has other weights than those that this run was to begin with"
            )
        for module, name, path in (
            (self.waves, "frontend.", run.weights),
            (self.quantizer, "quantizer.", run.objective_weights),
        ):
            found = weights.load(path, mend)
            module.load_state_dict({k.removeprefix(name): x for k, x in found.items() if k.startswith(name)})

    @torch.no_grad()
    def codes(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(the number of each token's tuple of entries, int64 [B, T], -1 in the padding; lengths [B])."""
        with torch.autocast(inputs.device.type, enabled=False):
            tokens, lengths = self.waves.project(*self.waves.features(inputs, lengths))
            chosen = self.quantizer.chosen(tokens.float().flatten(0, 1)).unflatten(0, tokens.shape[:2])
        number = torch.zeros_like(chosen[..., 0])
        for group in chosen.unbind(-1):
            number = number * self.quantizer.entries + group
        return number.where(valid_mask(lengths, number.shape[1], number.device), -1), lengths

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        codes, lengths = self.codes(inputs, lengths)
        place = torch.searchsorted(self.vocabulary, codes).clamp(max=len(self.vocabulary) - 1)
        return torch.where(self.vocabulary[place] == codes, 1 + place, UNKNOWN), lengths

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.code_embedding(features), lengths
