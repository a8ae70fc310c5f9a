"""AudioMAE: reconstruct a spectrogram from a fifth of its patches (Huang et al. 2022, 2207.06405)."""

from typing import Any

import torch
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.nn.linear import Linear
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.nn.places import gather_tokens, kept_places, spread_tokens
from sslzoo.nn.positions import grid_sinusoids
from sslzoo.objectives.base import Loss, Objective


class AudioMAE(Objective):
    """MAE (`objectives.mae`) of utterances of any length: the encoder sees what is left of the patches, a small decoder
    gets their outputs, and a mask token for each masked patch M, with positions, and predicts the patches (section 3):

    loss = 1/|M| sum_{i in M} |y_i - x_i|^2 / C,  x_i a patch with zero mean and unit variance

    With frames for patches, an encoder of log-mel frames, it is Dasheng (Dinkel et al. 2024, 2406.06992). mask: chooses
    M, as many in all rows of one length. decoder: a trunk, as the encoder's; the paper's local attention is a window of
    its settings. standardize: of targets.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens"})
    skips_prefix = True
    min_tokens = 2

    def __init__(self, encoder, data, mask: Any, decoder: Any, standardize: bool = True):
        super().__init__()
        if not encoder.offers & {"patches", "frames"}:
            raise ConfigError(
                "audio_mae needs an encoder of patches or log-mel frames, as features that are learned are no target: "
                "encoder=mel_vit_small, logmel_small"
            )
        if getattr(decoder, "position", None) is not None:
            raise ConfigError("objective.decoder.position must be null: AudioMAE places the decoder's tokens itself")
        self.mask, self.decoder, self.standardize = mask, decoder, standardize
        self.decoder_embed = Linear(encoder.dim, decoder.dim)
        self.decoder_pred = Linear(decoder.dim, encoder.feature_dim)
        self.mask_token = nn.Parameter(torch.randn(decoder.dim) * 0.02)
        for layer in (self.decoder_embed, self.decoder_pred):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def target(self, features: Tensor) -> Tensor:
        if not self.standardize:
            return features
        var, mean = torch.var_mean(features, dim=-1, keepdim=True)
        return (features - mean) * torch.rsqrt(var + 1e-6)

    def rebuild(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(patches [B, T, C], their number [B], mask bool [B, T] on the host, the decoder's outputs [M, D] there)."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        size, prefix, device = features.shape[1], encoder.prefix, features.device
        columns = encoder.frontend.columns(size)
        mask = self.mask(batch.row_seeds, valid_mask(lengths, size), columns)
        places, kept = kept_places(mask, lengths)
        first = torch.arange(prefix).expand(len(places), -1)
        positions = torch.cat([first, prefix + places], dim=1)  # on the host
        tokens, _ = encoder.project(features, lengths)
        visible = gather_tokens(tokens, positions.to(device, non_blocking=True))
        hidden = self.decoder_embed(encoder.contextualize(visible, kept + prefix, positions=positions).last)
        whole = spread_tokens(hidden[:, prefix:], places.to(device, non_blocking=True), size)
        hide = mask.to(device, non_blocking=True)[..., None]
        whole = torch.where(hide, self.mask_token.to(whole.dtype), whole)
        whole = whole + grid_sinusoids(size, columns, self.decoder.dim).to(device, non_blocking=True)
        whole = torch.cat([hidden[:, :prefix], whole], dim=1)
        decoded = self.decoder(whole, lengths + prefix)[-1][:, prefix:]
        return features, lengths, mask, self.decoder_pred(take(decoded, indices(mask))).float()

    def forward(self, encoder, batch, step: int) -> Loss:
        features, _, mask, rebuilt = self.rebuild(encoder, batch)
        error = (rebuilt - self.target(take(features, indices(mask)))).square().mean(-1)
        return Loss(error.sum() / max(len(error), 1), len(error))

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        features, lengths, mask, rebuilt = self.rebuild(encoder, batch)
        here, size = mask[0].to(features.device), int(lengths[0])
        true = features[0, here]
        if self.standardize:  # with each patch's true mean and variance, which are not predicted
            var, mean = torch.var_mean(true, dim=-1, keepdim=True)
            rebuilt = rebuilt[: len(true)] * (var + 1e-6).sqrt() + mean
        found = features[0].clone()
        found[here] = rebuilt[: len(true)]
        altered = here[:, None].expand_as(found)
        frames = getattr(encoder.frontend, "frames", None) or encoder.frontend.unstack_frames
        each = [frames(x[None, :size].float())[0] for x in (features[0], found, altered)]
        return {"kind": "altered_frames", "frames": each[0], "prediction": each[1], "mask": each[2] > 0}
