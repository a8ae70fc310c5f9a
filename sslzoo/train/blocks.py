"""Activation checkpointing and compilation of a transformer's blocks."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator

import torch
from torch import nn

from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError

BACKEND = "inductor"
SHAPES = 64  # of batches that a block may be compiled for; torch's default limit is 8


def trunks(*modules: nn.Module) -> Iterator[Transformer]:
    """The transformers in these modules, including teachers and decoders."""
    for module in modules:
        yield from (part for part in module.modules() if isinstance(part, Transformer))


def check(settings, encoder: nn.Module, objective: nn.Module) -> None:
    """Raise ConfigError, before any data is read, for settings without effect or that this machine does not support."""
    for name in ("activation_checkpointing", "compile"):
        if getattr(settings, name) and next(trunks(encoder, objective), None) is None:
            raise ConfigError(
                f"trainer.{name}=true is for the blocks of a transformer, and this encoder has none: "
                f"set trainer.{name}=false"
            )
    if settings.compile and not settings.on_gpu:
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        if shutil.which(compiler) is None:
            raise ConfigError(
                f"trainer.compile=true needs a C++ compiler, and there is no {compiler} on this machine: install it, "
                "say CXX=… in the environment, or set trainer.compile=false"
            )
    if settings.compile and settings.on_gpu and importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "trainer.compile=true needs Triton for this GPU: pip install triton, or set trainer.compile=false"
        )


def recompute(*modules: nn.Module) -> None:
    """Activation checkpointing: a block stores only its input, and recomputes the rest in the backward pass (Chen et
    al. 2016, 1604.06174), with the same dropout."""
    for trunk in trunks(*modules):
        trunk.recompute = True


def compile_blocks(*modules: nn.Module, ragged: bool, backend=None) -> None:
    """Compile each block on its own, in place, so that parameter names stay: without graph breaks, once per batch
    shape, so batches must have few shapes (see `data.sampler`). ragged: whether batches are padded; then an unpadded
    batch gets a mask too, since a block without one is another graph."""
    limit = torch._dynamo.config
    limit.recompile_limit = max(limit.recompile_limit, SHAPES)
    for trunk in trunks(*modules):
        trunk.compiled, trunk.always_mask = True, ragged
        for block in trunk.blocks:
            block.compile(backend=backend or BACKEND, fullgraph=True, dynamic=False)
