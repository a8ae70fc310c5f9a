"""Composing tiny jobs of every objective."""

import copy
import gc
import os
import re
import sys
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors; and processes are forked
if "OMP_WAIT_POLICY" not in os.environ:  # with more threads: as the command has it
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "10000"}

import pytest
import torch

TINY = Path(__file__).parent / "tiny"
sys.path.insert(0, str(TINY))
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))  # of nested levels, the first
os.environ["SSLZOO_ALLOW"] = "tiny_sets"  # runs of the tests name it, whichever test makes them
# OpenMP's threads do not survive a fork: a forked rank that asks for them waits for ever
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

from tiny_targets import tiny_targets

from sslzoo.config import CONF, choices, options, plain

OBJECTIVES = sorted(options("objective"))
SHARED = Path(__file__).parents[2] / "shared" / "data"


def compose(*overrides: str, command: str = "pretrain") -> dict:
    """The plain config of a command, with the tiny sets and encoders at hand."""
    return copy.deepcopy(_composed(command, overrides, os.environ.get("SSLZOO_DATA")))


@cache
def _composed(command: str, overrides: tuple[str, ...], root: str | None) -> dict:
    """As Hydra composes it: the choices of groups first, which takes a sixth of a second, then the values of settings.
    root: of data, which configs refer to."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    values = [o for o in overrides if re.match(r"(seed|\w+\.[\w.]+)=", o)]
    config = copy.deepcopy(_chosen(command, tuple(o for o in overrides if o not in values), root))
    for override in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    return plain(config)


@cache
def _chosen(command: str, choices: tuple[str, ...], root: str | None):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose(command, [f"hydra.searchpath=[file://{TINY}]", *choices])


@cache
def nodes_of(group: str) -> dict:
    """The composed nodes of all options of a group: at once, in a third of the time."""
    return choices(group, sorted(options(group)))


def node_of(objective: str):
    return nodes_of("objective")[objective]


@cache
def target_of(objective: str) -> type:
    """The class of an objective."""
    from sslzoo.build import target

    return target(node_of(objective)["_target_"], "objective")


@cache
def modality_of(objective: str) -> str:
    """The modality that an objective is for: of several, that of its views or its name's ending, or the first."""
    from sslzoo.build import target

    views = node_of(objective).get("views")
    if views is not None:
        return target(views["_target_"], "objective.views").modality
    several = target_of(objective).modalities
    return next((modality for modality in several if objective.endswith(f"_{modality}")), several[0])


def tiny(objective: str, *overrides: str) -> dict:
    """A tiny run of an objective: on its modality's tiny data and encoder."""
    kind = modality_of(objective)
    defaults = [
        f"objective={objective}",
        f"data=tiny_{kind}",
        f"encoder=tiny_{kind}",
        "trainer.progress=false",
        "trainer.val_every=null",
    ]
    small = {
        "albert": ["encoder=tiny_electra", "+encoder.trunk.share_layers=true", "encoder.frontend.max_tokens=32"],
        "apc": ["encoder=tiny_gru"],
        "best_rq": ["objective.entries=32", "objective.mask.length=5"],
        "bert_nsp": ["encoder.frontend.max_tokens=32"],  # rows are full: a test pads them further
        "deepcluster_v2": [
            "encoder=tiny_resnet",
            "objective.clusters=5",
            "objective.heads=2",
            "objective.hidden_dim=32",
            "objective.output_dim=16",
            "objective.views.count=2",
        ],
        "dino": [
            "encoder.pool=mean",
            "objective.prototypes=24",
            "objective.hidden_dim=512",
            "objective.views.count=2",
        ],
        "electra": ["encoder=tiny_electra", "objective.generator.dim=8", "objective.generator.depth=1"],
        "gpt": ["encoder=tiny_gpt"],
        "data2vec2": [
            "objective.decoder_dim=16",
            "objective.decoder_depth=2",
            "objective.decoder_groups=4",
            "objective.copies=2",
        ],
        "data2vec2_image": [
            "objective.decoder_dim=16",
            "objective.decoder_depth=2",
            "objective.decoder_groups=4",
            "objective.copies=2",
        ],
        "data2vec2_text": [
            "objective.decoder_dim=16",
            "objective.decoder_depth=2",
            "objective.decoder_groups=4",
            "objective.copies=2",
            "objective.decoder_groups=1",
        ],
        "eat": [
            "encoder=tiny_mel_patches",
            "objective.decoder_dim=16",
            "objective.decoder_depth=2",
            "objective.decoder_groups=4",
            "objective.copies=2",
        ],
        "data2vec_image": ["objective.mask.smallest=2"],
        "context": ["encoder=tiny_resnet", "objective.hidden_dim=16"],
        "wav2vec": ["encoder=tiny_gru", "objective.ahead=3", "objective.negatives=4"],
        "vq_bert": ["encoder=tiny_codes", "objective.mask.length=5"],
        "vq_wav2vec": ["encoder=tiny_gru", "objective.ahead=3", "objective.negatives=4", "objective.entries=8"],
        "vq_wav2vec_kmeans": [
            "encoder=tiny_gru",
            "objective.ahead=3",
            "objective.negatives=4",
            "objective.entries=32",
        ],
        "npc": ["encoder=tiny_masked_conv", "objective.groups=2", "objective.entries=8"],
        "vq_apc": ["encoder=tiny_gru", "objective.entries=16"],
        "audio2vec": ["objective.size=3", "objective.hidden_dim=16"],
        "audio2vec_skip": ["objective.size=3", "objective.hidden_dim=16"],
        "temporal_gap": ["objective.size=3", "objective.hidden_dim=16"],
        "simclr_audio": ["objective.hidden_dim=32", "objective.output_dim=16", "objective.views.frames=24"],
        "speech_simclr": [
            "objective.hidden_dim=32",
            "objective.output_dim=16",
            "objective.views.frames=24",
            "objective.corruption.width=5",
        ],
        "audio_mae": [
            "encoder=tiny_mel_patches",
            "objective.decoder.dim=16",
            "objective.decoder.depth=1",
            "objective.decoder.heads=2",
        ],
        "cpc": ["encoder=tiny_gru", "objective.ahead=3", "objective.negatives=6"],
        "wavlm": ["objective.output_dim=16", "objective.mixing.prob=0.8", "objective.mixing.seconds=0.3"],
        "hubert": ["objective.output_dim=16"],
        "igpt": ["encoder=tiny_colors"],
        "ibot": ["objective.prototypes=24", "objective.hidden_dim=512", "objective.views.count=1"],
        "ijepa": ["objective.predictor.dim=8", "objective.predictor.depth=1", "objective.predictor.heads=2"],
        "jigsaw": ["encoder=tiny_resnet", "objective.permutations=5", "objective.hidden_dim=16"],
        "lejepa": [
            "encoder=tiny_resnet",
            "objective.hidden_dim=32",
            "objective.output_dim=16",
            "objective.slices=16",
        ],
        "mae": ["objective.decoder.dim=16", "objective.decoder.depth=1", "objective.decoder.heads=2"],
        "roberta": ["encoder.frontend.max_tokens=32"],
        "tera": ["objective.corruption.width=5"],
        "barlow": ["encoder=tiny_resnet", "objective.hidden_dim=32", "objective.output_dim=16"],
        "barlow_audio": ["objective.hidden_dim=32", "objective.output_dim=16", "objective.views.frames=24"],
        "byol": ["encoder=tiny_resnet", "objective.hidden_dim=32", "objective.output_dim=16"],
        "byol_audio": ["objective.hidden_dim=32", "objective.output_dim=16", "objective.views.frames=24"],
        "deepcluster": ["encoder=tiny_resnet", "objective.clusters=5", "objective.pca_dim=8"],
        "moco": ["encoder=tiny_resnet", "objective.queue=24", "objective.hidden_dim=32", "objective.output_dim=16"],
        "moco_v1": ["encoder=tiny_resnet", "objective.queue=24", "objective.output_dim=16"],
        "moco_v3": ["encoder.pool=mean", "objective.hidden_dim=32", "objective.output_dim=16"],
        "npid": ["encoder=tiny_resnet", "objective.negatives=12", "objective.output_dim=16"],
        "simclr": ["encoder=tiny_resnet", "objective.hidden_dim=32", "objective.output_dim=16"],
        "simsiam": [
            "encoder=tiny_resnet",
            "objective.hidden_dim=32",
            "objective.output_dim=16",
            "objective.bottleneck=8",
        ],
        "swav": [
            "encoder=tiny_resnet",
            "objective.prototypes=12",
            "objective.queue=24",
            "objective.queue_epoch=0",
            "objective.hidden_dim=32",
            "objective.output_dim=16",
            "objective.views.count=2",
            "optim.lr=0.001",  # of SGD: with more, batch norm makes much of rounding; so too below
        ],
        "vicreg": ["encoder=tiny_resnet", "objective.hidden_dim=32", "objective.output_dim=16", "optim.lr=0.0002"],
        "visreg": [
            "encoder=tiny_resnet",
            "objective.hidden_dim=32",
            "objective.output_dim=16",
            "objective.slices=16",
            "optim.lr=0.001",
        ],
        "wav2vec2": [
            "objective.negatives=10",
            "objective.entries=8",
            "objective.code_dim=16",
            "objective.output_dim=16",
        ],
    }
    if target_of(objective).learns_targets:
        defaults.append(f"targets={tiny_targets()}")
    own = small.get(objective, [])
    if any(o.startswith("encoder=") for o in overrides):  # what was set of the encoder that is replaced goes with it
        own = [o for o in own if not o.lstrip("+").startswith("encoder")]
    chosen = {o.split("=")[0]: o for o in [*defaults, *own, *overrides]}
    return compose(*chosen.values())


def pytest_collection_finish(session) -> None:
    """What was imported and collected stays: the garbage collector need not look through it again and again."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def no_power_cut():
    """No test cuts the power: waiting for the disk would take a tenth of the time of all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(params=OBJECTIVES)
def objective(request) -> str:
    return request.param


@pytest.fixture
def real() -> Path:
    """The real sets, where they are."""
    if not SHARED.exists():
        pytest.skip("the real sets are not at ../shared/data")
    return SHARED


@pytest.fixture
def sslzoo(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder: (exit code, stdout, lines of stderr)."""
    from hydra.core.global_hydra import GlobalHydra

    from sslzoo import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("SSLZOO_TRACEBACK", "")  # and back to nothing afterwards, whatever a command sets

    def run(*words: str):
        GlobalHydra.instance().clear()  # what a process of its own would not find
        monkeypatch.setattr(sys, "argv", ["sslzoo", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    yield run
    GlobalHydra.instance().clear()
