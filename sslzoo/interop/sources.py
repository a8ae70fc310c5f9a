"""SOURCE:WHAT, which names an encoder of another library wherever a run may be named. Local files alone: nothing is
downloaded, no code of a file is run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.interop.family import Family
from sslzoo.interop.folder import Folder
from sslzoo.interop.grammar import PREFIXES
from sslzoo.interop.image_states import open_timm, open_torchvision
from sslzoo.interop.wave_states import FAIRSEQ, TORCHAUDIO, open_wave


class Source(Protocol):
    """What an import reads. path: of its folder or file. config: its settings, as its family has them. assumed: what
    was taken for granted. mend: advice where weights and settings do not fit."""

    mend: str

    @property
    def path(self) -> Path: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def family(self) -> Family: ...
    @property
    def assumed(self) -> str: ...
    def tensors(self) -> dict[str, Tensor]: ...
    def pooling(self) -> str | None: ...
    def digest(self) -> str: ...


def open_hf(what: str) -> Source:
    return Folder.open(Path(what).expanduser())


def open_torchaudio(what: str) -> Source:
    """A file, or the name of a bundle whose weights lie in torch's cache, such as WAV2VEC2_BASE."""
    if os.path.exists(os.path.expanduser(what)) or not what.isidentifier():
        return open_wave(what, TORCHAUDIO)
    from torchaudio import pipelines

    bundle: Any = getattr(pipelines, what, None)
    if "encoder_embed_dim" not in getattr(bundle, "_params", {}):
        known = [name for name in dir(pipelines) if name.startswith(("WAV2VEC2", "HUBERT"))]
        raise UserError(
            f"torchaudio has no encoder {what}{nearest(what, known)} — it has {', '.join(known)}, or name a file"
        )
    if bundle._model_type == "WavLM":
        raise UserError(f"torchaudio:{what} is a WavLM: give it as transformers saves it, hf:FOLDER")
    said = {**bundle._params, "normalize": bundle._normalize_waveform}
    return open_wave(
        str(cached(bundle._path.rsplit("/", 1)[-1], f"torchaudio.pipelines.{what}.get_model()")), TORCHAUDIO, said
    )


def open_torchvision_named(what: str) -> Source:
    """A file, or the name of a residual network whose weights lie in torch's cache, such as resnet50."""
    if os.path.exists(os.path.expanduser(what)) or not what.isidentifier():
        return open_torchvision(what)
    from torchvision import models

    known = [name for name in models.list_models() if name.startswith("resnet")]
    if what not in known:
        raise UserError(f"of torchvision {', '.join(known)} are read{nearest(what, known)}, or a file; got {what}")
    url = models.get_model_weights(what).DEFAULT.url
    return open_torchvision(str(cached(url.rsplit("/", 1)[-1], f"torchvision.models.{what}(weights='DEFAULT')")))


def open_timm_named(what: str) -> Source:
    """A file or a folder, or the name of a vision transformer in the hub's cache, such as
    vit_small_patch16_224.dino."""
    if os.path.exists(os.path.expanduser(what)) or "/" in what:
        return open_timm(what)
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    found = sorted(hub.glob(f"models--timm--{what}*/snapshots/*/model.safetensors"))
    if not found:
        raise UserError(
            f"{hub} has no weights of timm's {what}, and nothing is downloaded here: fetch them where there is a network "
            f"(timm.create_model('{what}', pretrained=True)), or name a file: timm:FILE"
        )
    return open_timm(str(found[0].parent))


def cached(name: str, how: str) -> Path:
    """A file in torch's cache. Raises UserError, saying how it comes there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / name).exists():
        raise UserError(
            f"{folder} has no {name}, and nothing is downloaded here: fetch it where there is a network ({how}), or put it "
            "there"
        )
    return folder / name


SOURCES: dict[str, Callable[[str], Source]] = {
    "hf": open_hf,
    "torchaudio": open_torchaudio,
    "torchvision": open_torchvision_named,
    "timm": open_timm_named,
    "fairseq": lambda what: open_wave(what, FAIRSEQ),
}


def opened(source: str) -> Source:
    """What SOURCE:WHAT names. Raises ConfigError for a source that is not known, UserError for what cannot be read."""
    prefix, _, what = source.partition(":")
    if prefix not in SOURCES or not what:
        raise ConfigError(
            f"an encoder of another library is one of {', '.join(f'{x}:…' for x in PREFIXES)}; got {source}"
        )
    return SOURCES[prefix](what)
