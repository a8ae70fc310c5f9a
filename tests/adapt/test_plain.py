"""Adapted encoders as plain ones: exported where they can be merged, refused where not."""

import json

import pytest
import torch
from safetensors.torch import load_file
from test_adapt import adapt, own  # noqa: F401 (a fixture)
from tiny_tasks import TASKS, kind_of

from sslzoo.adapt.job import load_adapted
from sslzoo.nodes import make


@pytest.fixture(autouse=True)
def tiny_classes_are_allowed(monkeypatch):
    monkeypatch.setenv("SSLZOO_ALLOW", "tiny_sets")


@pytest.mark.parametrize("task", ["text-lora", "speech-bitfit"])
def test_an_adapted_encoder_is_exported_as_a_plain_one(task, own, sslzoo, tmp_path):  # noqa: F811
    run = own(TASKS[task][0], kind_of(task))
    name = adapt(task, run).folder.name
    code, out, err = sslzoo(
        "export", f"run={run.folder}", f"adapted={name}", "to=safetensors", f"out={tmp_path / 'out'}"
    )
    assert (code, err) == (0, []) and "tensors under the names of sslzoo" in out
    plain = make(json.loads((tmp_path / "out" / "encoder.json").read_text())["encoder"]).eval()
    plain.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    adapted, _, data = load_adapted(run, name)
    split = data.split("test")
    item = split.read(0)[None]
    lengths = torch.tensor([item.shape[1]])
    before = make(json.loads(run.encoder.read_text())["encoder"]).eval()
    before.load_state_dict(load_file(run.weights))
    with torch.no_grad():
        found, expected, old = (encoder(item, lengths).last for encoder in (plain, adapted, before))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(old, expected, atol=1e-6)


def test_what_cannot_be_merged_is_refused_in_one_line(own, sslzoo, tmp_path):  # noqa: F811
    run = own(TASKS["text-pfeiffer"][0], "text")
    name = adapt("text-pfeiffer", run).folder.name
    words = [f"run={run.folder}", "to=safetensors", f"out={tmp_path / 'out'}"]
    code, _, err = sslzoo("export", f"adapted={name}", *words)
    assert code == 1 and len(err) == 1 and not (tmp_path / "out").exists()
    assert f"adapted/{name} of" in err[0] and "cannot be merged into a plain encoder (trunk.blocks.0" in err[0]
    assert "what lora, bitfit, full and head make can be exported" in err[0]
    code, _, err = sslzoo("export", "adapted=nothing", *words)
    assert code == 1 and len(err) == 1 and "nothing" in err[0]
