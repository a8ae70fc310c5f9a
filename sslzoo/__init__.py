"""sslzoo: pretrain encoders for speech, images and text without labels, and measure what they learned."""

__version__ = "0.1.0"


def load_encoder(run: str, adapted: str | None = None):
    """A finished run's encoder, in eval mode: `encoder(inputs, lengths)` gives an `Encoded`. adapted: as `sslzoo adapt`
    left it, by the name of its folder, such as "digit-full"."""
    from sslzoo import build
    from sslzoo.run import Run

    if adapted is None:
        return build.load_encoder(Run.find(run))[0]
    from sslzoo.adapt.job import load_adapted

    return load_adapted(Run.find(run), adapted)[0]
