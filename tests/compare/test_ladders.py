"""The entries of a ladder can be trained on its data: no item of the built-in speech is too short for one."""

import pytest
import yaml
from conftest import compose

from sslzoo.build import build
from sslzoo.config import CONF
from sslzoo.train import plan

LADDER = yaml.safe_load((CONF / "comparison" / "ladder_spoken.yaml").read_text())
# the others take longer; those that learn what another entry makes are not built
ENTRIES = [
    pytest.param(name, marks=() if name.startswith("audio2vec") else pytest.mark.slow)
    for name, entry in LADDER["entries"].items()
    if "label" not in entry and not any("frontend.run" in word for word in entry["overrides"])
]


@pytest.mark.parametrize("name", ENTRIES)
def test_no_item_is_too_short_for_an_entry(name):
    pytest.importorskip("espeakng_loader")
    words = {word.partition("=")[0]: word for word in LADDER["shared"]["overrides"]}
    words |= {word.partition("=")[0]: word for word in LADDER["entries"][name]["overrides"]}
    job = build(compose(*words.values()))
    plan.check_lengths(job.data.split("train"), job.encoder, job.objective, job.data)
