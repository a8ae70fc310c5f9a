"""What of an encoder learns a task."""

from typing import Any

from torch import nn

from sslzoo.build import matching_encoders
from sslzoo.encoders.base import Encoder
from sslzoo.encoders.convnext import ConvNeXt
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.run import Run
from sslzoo.train import launch


class Method:
    """Makes an encoder ready to be trained: what is frozen, and in which mode its parts are. It depends on the
    encoder's config alone, so that what was saved of the result can be loaded into another one; the first weights of
    what it adds are drawn from torch's generator.

    one_pass: whether it leaves the encoder as it is and trains the head in one run, so that heads at several learning
    rates can learn from one pass over the encoder.
    """

    one_pass: bool = False

    def __call__(self, encoder: Encoder) -> Encoder:
        """The encoder that is trained: the same one, or a wrapper of it. Raises ConfigError for one that it does not
        fit."""
        raise NotImplementedError

    def check(self, objective: type) -> None:
        """Raise ConfigError for a class of task objectives that it cannot train."""

    def settled(self, config: dict, run: Run, folder: Run) -> dict:
        """The config to train and to load by: the same, or with what the method searches and stores in the adaptation's
        folder, where it is found the next time."""
        return config

    def stages(self, config: dict) -> list[dict]:
        """The configs of the trainings that follow each other, of which each begins with what the one before reached:
        one, unless the method says otherwise."""
        return [config]

    def begin(self, stage: int, encoder: Encoder, objective: nn.Module) -> None:
        """Set what of both learns in a stage, from 0."""

    def finished(self, encoder: Encoder) -> Encoder:
        """The encoder as it is stored and used, which computes the same as the trained one: without what served
        training alone."""
        return encoder

    def train(self, job: Any, run: Run, folder: Run, shared: Run) -> bool:
        """Train a job of the run in its folder, or continue it there. True on the first rank, when all is done. shared:
        the folder for what is the same for all learning rates that are searched; the adaptation's own."""
        return launch.pretrain(job, folder)

    def spent(self, folder: Run) -> dict:
        """More entries for the result of a finished adaptation, beside those of every method."""
        return {}


def frozen(encoder: Encoder) -> Encoder:
    """An encoder of which nothing learns, in eval mode: without dropout, and with batch norm's statistics as they
    were."""
    encoder.frozen = True
    return encoder.requires_grad_(False).eval()


def transformer_of(encoder: Encoder, method: str) -> Transformer:
    """The transformer whose blocks a method changes. Raises ConfigError for an encoder that has none."""
    trunk = getattr(encoder, "trunk", None)
    if isinstance(trunk, Transformer):
        return trunk
    fit = matching_encoders(
        lambda e: e.modality == encoder.modality and isinstance(getattr(e, "trunk", 0), Transformer)
    )
    raise ConfigError(
        f"{method} is for transformers, and this encoder ({type(encoder).__name__}) has none: choose "
        f"method=full or method=head, or a run of another encoder={', '.join(fit) or 'none yet'}"
    )


class Full(Method):
    """Everything learns. drop_path: the encoder's stochastic depth while it does (see `encoders.transformer`), None for
    that of its pretraining; fine-tuning takes 0.1 for ViT-B after MAE (2111.06377, table 9) and BEiT (2106.08254)."""

    drop_path: float | None = None

    def __init__(self, drop_path: float | None = None):
        self.drop_path = drop_path

    def __call__(self, encoder: Encoder) -> Encoder:
        if self.drop_path is not None:
            deep = [x for x in encoder.modules() if isinstance(x, Transformer | ConvNeXt) and len(x.blocks) > 1]
            if not deep:
                raise ConfigError(
                    "method.drop_path is for transformers and ConvNeXt of several blocks, and this encoder "
                    f"({type(encoder).__name__}) is none: set method.drop_path=null"
                )
            for trunk in deep:
                trunk.drop_path = self.drop_path
        return encoder.train()


class Head(Method):
    """The encoder is frozen, and the head alone learns."""

    one_pass = True

    def __call__(self, encoder: Encoder) -> Encoder:
        return frozen(encoder)


class BitFit(Method):
    """The biases of the transformer's blocks learn, those of linear layers and of norms: 11 D a block with a perceptron
    of 4 D (Ben Zaken et al. 2022, 2106.10199, section 3); the rest of the encoder is frozen."""

    def __call__(self, encoder: Encoder) -> Encoder:
        trunk = transformer_of(encoder, "BitFit")
        biases = [p for name, p in trunk.blocks.named_parameters() if name.endswith(".bias")]
        if not biases:
            raise ConfigError(
                "BitFit trains biases, and this encoder's blocks have none (bias=false): choose method=lora"
            )
        frozen(encoder)
        for bias in biases:
            bias.requires_grad_()
        return encoder.train()
