"""conf/data: what is composed there can be made, at no cost, and says what encoders' configs ask of it."""

import pytest
from conftest import CONF
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sslzoo import build
from sslzoo.data.base import MODALITIES, Data

NAMES = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
SAYS = {
    "image": ("size", "channels", "mean", "std"),
    "speech": ("sample_rate",),
    "text": ("vocab_size", "max_tokens"),
}
GIVEN = {
    "multilingual": [f"data.sets.{name}.path=nowhere" for name in ("de", "es", "ru", "zh")],
    "speech": ["data.sets.fsdd.path=nowhere"],
    "text_table": ["data.path=nowhere", "data.files={train: train.tsv}", "data.text=sentence"],
}


def made(name: str, *overrides: str) -> Data:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = OmegaConf.to_container(compose(overrides=["+seed=0", f"+data={name}", *overrides]), resolve=True)["data"]
    build.check(node, "data")
    return build.make(node)


@pytest.mark.parametrize("name", NAMES)
def test_every_set_is_made_without_touching_the_disk(name):
    has_path = "path: " in (CONF / "data" / f"{name}.yaml").read_text()
    data = made(name, *GIVEN.get(name, ["data.path=nowhere"] if has_path else []))
    assert data.modality in MODALITIES
    assert all(getattr(data, key) for key in SAYS[data.modality])
    assert data.batch.rate == data.sample_rate if data.modality == "speech" else data.batch


def test_three_speech_sets_are_found_in_one_folder_or_each_in_its_own():
    data = made("speech", "data.sets.fsdd.path=here", "data.sets.librispeech.path=there")
    assert {name: part.path for name, part in data.sets.items()} == {
        "fsdd": "here",
        "speech_commands": "here",
        "librispeech": "there",
    }
