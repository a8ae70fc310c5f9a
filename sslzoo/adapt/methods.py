"""What of an encoder learns a task."""

from torch import nn


class Method:
    """Makes an encoder ready to be trained: what is frozen, and in which mode its parts are. It depends on the
    encoder's config alone, so that what was saved of the result can be loaded into another one."""

    def __call__(self, encoder: nn.Module) -> nn.Module:
        """The encoder that is trained: the same one, or a wrapper of it."""
        raise NotImplementedError


class Full(Method):
    """Everything learns."""

    def __call__(self, encoder: nn.Module) -> nn.Module:
        return encoder.train()


class Head(Method):
    """The encoder is frozen: it takes no gradient, and is in eval mode, without dropout and with batch norm's
    statistics as they were."""

    def __call__(self, encoder: nn.Module) -> nn.Module:
        return encoder.requires_grad_(False).eval()
