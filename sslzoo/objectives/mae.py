"""MAE: reconstruct an image from a quarter of its patches (He et al. 2022, 2111.06377)."""

import torch
from torch import Tensor, nn

from sslzoo import rng
from sslzoo.errors import ConfigError
from sslzoo.nn.linear import Linear
from sslzoo.nn.places import gather_tokens
from sslzoo.nn.positions import sinusoids_2d
from sslzoo.objectives.base import Loss, Objective


class MAE(Objective):
    """The encoder sees the visible patches only; a small decoder gets their tokens, and a mask token for each
    masked patch M, with positions, and predicts pixels (section 3):

    loss = 1/|M| sum_{i in M} |y_i - x_i|^2 / C,  x_i a patch with zero mean and unit variance

    ratio: the share of masked patches. decoder: a trunk, as the encoder's. standardize: whether target patches are
    normalised by their own mean and variance (section 4, "reconstruction target"). views: crops and flips of the images
    (section 4, "data augmentation"), or None for no augmentation.
    """

    modalities = ("image",)
    needs = frozenset({"tokens", "patches"})

    def __init__(
        self,
        encoder,
        data,
        decoder: nn.Module,
        ratio: float = 0.75,
        standardize: bool = True,
        views: nn.Module | None = None,
    ):
        super().__init__()
        if views is not None:
            views.check(encoder, data)
        self.views = views
        patches = (data.size // encoder.stride) ** 2
        self.kept = patches - round(ratio * patches)
        if not 0 < ratio < 1 or not 0 < self.kept < patches:
            raise ConfigError(
                f"objective.ratio={ratio} leaves {self.kept} of {patches} patches: choose it between 0 and 1"
            )
        if getattr(decoder, "position", None) is not None:
            raise ConfigError("objective.decoder.position must be null: MAE places the decoder's tokens itself")
        self.decoder, self.standardize = decoder, standardize
        self.decoder_embed = Linear(encoder.dim, decoder.dim)
        self.decoder_pred = Linear(decoder.dim, encoder.feature_dim)
        self.mask_token = nn.Parameter(torch.randn(decoder.dim) * 0.02)
        place = sinusoids_2d(data.size // encoder.stride, decoder.dim)
        self.register_buffer("decoder_pos_embed", torch.cat([torch.zeros(encoder.prefix, decoder.dim), place]))
        for layer in (self.decoder_embed, self.decoder_pred):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def shuffle(self, seeds: Tensor, patches: int, device) -> tuple[Tensor, Tensor]:
        """(a random order of each row's patches [B, P], the first `kept` of which are visible; its inverse)."""
        order = rng.uniform(seeds, "mask", patches, device=device).argsort(dim=1, stable=True)
        return order, order.argsort(dim=1)

    def target(self, features: Tensor) -> Tensor:
        if not self.standardize:
            return features
        var, mean = torch.var_mean(features, dim=-1, keepdim=True)
        return (features - mean) * torch.rsqrt(var + 1e-6)

    def untarget(self, prediction: Tensor, features: Tensor) -> Tensor:
        """The inverse of `target`: predictions with each patch's true mean and variance, which are not predicted."""
        if not self.standardize:
            return prediction
        var, mean = torch.var_mean(features, dim=-1, keepdim=True)
        return prediction * (var + 1e-6).sqrt() + mean

    def decode(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(original patches [B, P, C], their random order [B, P], the decoder's hidden states in that order [B, P, D]:
        the first `kept` are visible)."""
        images = batch.inputs if self.views is None else self.views(batch.inputs, batch.row_seeds, "view")
        features, lengths = encoder.features(images, batch.lengths)
        order, _ = self.shuffle(batch.row_seeds, features.shape[1], features.device)
        tokens, _ = encoder.project(features, lengths)
        first, tokens = tokens[:, : encoder.prefix], tokens[:, encoder.prefix :]
        visible = torch.cat([first, gather_tokens(tokens, order[:, : self.kept])], dim=1)
        sizes = torch.full((len(visible),), visible.shape[1])
        cls_places = torch.arange(encoder.prefix, device=order.device).expand(len(order), -1)
        positions = torch.cat([cls_places, encoder.prefix + order[:, : self.kept]], dim=1)
        hidden = self.decoder_embed(encoder.contextualize(visible, sizes, positions=positions).last)
        mask_tokens = self.mask_token.to(hidden.dtype).expand(len(hidden), features.shape[1] - self.kept, -1)
        # attention depends on the positions, not on the order: the tokens need not be unshuffled
        place = self.decoder_pos_embed[encoder.prefix + order]
        place = torch.cat([self.decoder_pos_embed[: encoder.prefix].expand(len(hidden), -1, -1), place], dim=1)
        whole = torch.cat([hidden, mask_tokens], dim=1) + place
        return features, order, self.decoder(whole, torch.full((len(whole),), whole.shape[1]))[-1][:, encoder.prefix :]

    def rebuild(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(original patches, predicted patches [B, P, C], mask bool [B, P])."""
        features, order, hidden = self.decode(encoder, batch)
        back = order.argsort(dim=1)
        return features, gather_tokens(self.decoder_pred(hidden).float(), back), back >= self.kept

    def forward(self, encoder, batch, step: int) -> Loss:
        features, order, hidden = self.decode(encoder, batch)
        rebuilt = self.decoder_pred(hidden[:, self.kept :]).float()
        error = (rebuilt - self.target(gather_tokens(features, order[:, self.kept :]))).square()
        return Loss(error.mean(), error.shape[0] * error.shape[1])

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        features, prediction, mask = self.rebuild(encoder, batch)
        images = [encoder.frontend.images(x[:8].float()) for x in (features, self.untarget(prediction, features))]
        shown = {"kind": "masked_patches", "images": images[0], "prediction": images[1]}
        return shown | {"mask": mask[:8], "mean": encoder.frontend.mean}
