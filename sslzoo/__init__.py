"""sslzoo: pretrain encoders for speech, images and text without labels, and measure what they learned."""

__version__ = "0.1.0"


def load_encoder(run: str):
    """A finished run's encoder, in eval mode: `encoder(inputs, lengths)` gives an `Encoded`."""
    from sslzoo import build
    from sslzoo.run import Run

    return build.load_encoder(Run.find(run))[0]
