"""sslzoo: pretrain encoders for speech, images and text without labels, and measure what they learned."""

__version__ = "0.1.0"


def load_encoder(run: str, adapted: str | None = None):
    """A finished run's encoder, in eval mode: `encoder(inputs, lengths)` gives an `Encoded`. adapted: as `sslzoo adapt`
    left it, by the name of its folder, such as "digit-full"."""
    from sslzoo.run import Run

    found = Run.find(run)  # before torch is imported, which takes seconds
    if adapted is None:
        from sslzoo import build

        return build.load_encoder(found)[0]
    from sslzoo.adapt.job import load_adapted

    return load_adapted(found, adapted)[0]
