"""Parts of images: what size of them an encoder takes."""

from sslzoo.errors import ConfigError


def check_tile(encoder, data, side: int) -> None:
    """Raise ConfigError if an encoder of patches cannot take square parts of `side` pixels of the data's images."""
    if "patches" in encoder.offers and (side % encoder.stride or side > data.size):
        fits = min(max(round(side / encoder.stride), 1), data.size // encoder.stride) * encoder.stride
        raise ConfigError(
            f"an encoder of {encoder.stride}-pixel patches cannot take images of {side} pixels here: "
            f"set objective.size={fits}"
        )
