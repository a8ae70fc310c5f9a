"""Dropping tokens of a padded batch and putting them back."""

from torch import Tensor

from sslzoo.nn.masked import host, valid_mask


def gather_tokens(tokens: Tensor, places: Tensor) -> Tensor:
    """tokens [B, T, D], places [B, K] -> [B, K, D]."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def spread_tokens(tokens: Tensor, places: Tensor, size: int) -> Tensor:
    """The inverse: tokens [B, K, D] at their places [B, K], unlike within a row, of [B, size, D]; zero elsewhere."""
    empty = tokens.new_zeros(len(tokens), size, tokens.shape[-1])
    return empty.scatter(1, places[..., None].expand_as(tokens), tokens)


def kept_places(mask: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """What is left of each row without the places in `mask`, bool [B, T]: (their places in order, int64 [B, K]; their
    number, int64 [B]), on the host, as mask and lengths are. Rows with fewer than K are filled with other places."""
    valid = valid_mask(lengths, mask.shape[1])
    kept = (valid & ~mask).sum(1)
    order = (mask.long() + 2 * ~valid).argsort(dim=1, stable=True)
    return order[:, : int(kept.numpy().max())], kept  # by numpy: no wait for a device


def with_gaps(tokens: Tensor, lengths: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [B, K, D], zero beyond `lengths`, at their positions [B, K], with zeros for those that were dropped, and
    the rows' new lengths, up to the last token each. Positions on a device are copied."""
    places = host(positions)
    ends = places.masked_fill(~valid_mask(lengths, places.shape[1]), -1).amax(1) + 1
    return spread_tokens(tokens, positions.to(tokens.device), int(places.numpy().max()) + 1), ends
