"""A run goes on with the items that it was begun on, and with no others, wherever they lie."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import yaml
from PIL import Image

from sslzoo.data.base import Split
from sslzoo.pretrain import Pretrain
from sslzoo.train.items import described


def images(folder, count=24):
    rng = np.random.default_rng(0)
    for part, i in [("train", i) for i in range(count)] + [(part, i) for part in ("val", "test") for i in range(8)]:
        path = folder / part / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


def pretrain(sslzoo, folder, name="mine", *words):
    return sslzoo(
        "pretrain", "objective=rotation", "objective.views=null", "encoder=resnet_small", "encoder.width=4",
        "data=image_folder", f"data.path={folder}", "data.size=8", "data.batch.size=8", "trainer.max_steps=4",
        "trainer.val_every=null", f"name={name}", *words,
    )  # fmt: skip


@pytest.fixture
def stopped(sslzoo, tmp_path, monkeypatch):
    """A run that was stopped after its second step, and its images' folder."""
    folder, step = images(tmp_path / "first"), Pretrain.optimizer_step

    def signalled(self, *args, **kwargs):
        if self.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretrain, "optimizer_step", signalled)
        code, _, err = pretrain(sslzoo, folder)
    assert code and "stopped by signal" in err[-1]
    return tmp_path / "runs" / "mine", folder


def test_it_goes_on_where_the_data_lie_now(stopped, sslzoo, tmp_path):
    run, folder = stopped
    moved = shutil.copytree(folder, tmp_path / "scratch" / "job-17")
    assert pretrain(sslzoo, folder, "whole")[0] == 0
    shutil.rmtree(folder)
    assert pretrain(sslzoo, moved)[0] == 0
    weights = [(tmp_path / "runs" / name / "encoder.safetensors").read_bytes() for name in ("mine", "whole")]
    assert weights[0] == weights[1]
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["path"] == str(moved)
    code, _, err = pretrain(sslzoo, images(tmp_path / "other"))  # of a finished run nothing is read again
    assert code == 2 and "is a run of another config (data.path: " in err[-1]


def test_another_setting_is_refused_as_ever(stopped, sslzoo):
    code, _, err = pretrain(sslzoo, stopped[1], "mine", "data.resolution=16")
    assert code == 2 and "is a run of another config (data.resolution: " in err[-1]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda folder: images(folder, 25), "was begun on 24 training items, and there are 25 now — give it the same"),
        (lambda folder: (folder / "train/a/00.png").unlink(), "was begun on 24 training items, and there are 23 now"),
        (
            lambda folder: (folder / "train/a/00.png").rename(folder / "train/a/99.png"),
            "was begun on 24 training items, and now some have other names — give",
        ),
    ],
)
def test_other_items_are_refused(change, said, stopped, sslzoo, tmp_path):
    run, folder = stopped
    before = (run / "config.yaml").read_text()
    change(moved := shutil.copytree(folder, tmp_path / "moved"))
    code, _, err = pretrain(sslzoo, moved)
    assert code == 1 and said in err[-1], err
    assert (run / "config.yaml").read_text() == before


def test_what_is_stored_of_items():
    class Sounds(Split):
        names, lengths = [f"{i}.wav" for i in range(3000)], np.arange(3000)

    one, two = Sounds(), Sounds()
    two.lengths = np.arange(3000) + (np.arange(3000) == 7)
    a, b = described(one), described(two)
    assert a["count"] == 3000 and a["names"] == b["names"] and a["lengths"] != b["lengths"]
    assert json.loads(json.dumps(a)) == a
