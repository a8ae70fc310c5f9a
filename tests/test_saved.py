"""Nothing of a finished run is thrown away: its objective is loaded again, and other runs begin with its encoder."""

import json
import shutil

import pytest
import torch
from conftest import compose, tiny
from test_contracts import batch_of, ready, train

from sslzoo import build, initial, weights
from sslzoo.config import fingerprint
from sslzoo.data import tokenizer_training
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import Run
from sslzoo.train import checkpoint

STORED = {"npid": {"memory"}}  # has an entry per item, and its loss in eval mode is of it


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(x, b[name]) for name, x in a.items())


def test_the_objective_is_loaded_as_it_was_trained(objective, tmp_path):
    config = tiny(objective, "trainer.max_steps=3")
    run, job = train(config, tmp_path / "run"), ready(config)
    state = checkpoint.load(checkpoint.latest_checkpoint(run))["state_dict"]
    torch.nn.ModuleDict({"encoder": job.encoder, "objective": job.objective}).load_state_dict(state)

    loaded, encoder, data = build.load_objective(run)
    assert not loaded.training and not encoder.training and data.modality == job.data.modality
    batch = batch_of(job, 0)
    with torch.no_grad():
        expected = job.objective.eval()(job.encoder.eval(), batch, 3)
        found = loaded(encoder, batch, 3)
    assert torch.equal(found.value, expected.value) and torch.isfinite(found.value)
    saved = weights.load(run.objective_weights, "")
    assert saved.keys() == job.objective.state_dict().keys() - job.objective.per_item
    before = {name: x.shape for name, x in job.objective.state_dict().items()}
    job.objective.prepare(len(job.data.split("train")) + 1, 6, 0)
    sized = {name for name, x in job.objective.state_dict().items() if x.shape != before[name]}
    stored = STORED.get(objective, set())
    assert sized == job.objective.per_item | stored, "what has an entry for each training item says so"

    # and another run of the same encoder begins with it, copies in its objective included
    begun = build.build({**config, "init": initial.pinned(str(run.folder), tmp_path)})
    assert equal(begun.encoder, encoder) and not equal(begun.encoder, build.build(config).encoder)
    assert all(equal(m, encoder) for m in begun.objective.modules() if isinstance(m, Encoder))


def test_another_tokenizer_than_the_encoders_is_refused(tmp_path):
    text = "".join(f"line {i} of a text that is read\n" for i in range(300))
    (tmp_path / "a.txt").write_text(text)
    how = [f"data.path={tmp_path}/a.txt", "data.vocab_size=60", "data.max_tokens=16", "data.batch.size=2"]
    run = train(tiny("bert", "data=plain_text", *how, "trainer.max_steps=1"), tmp_path / "run")
    _, data = build.load_encoder(run)
    tokenizer_training.train("wordpiece", [text.upper()], 30, lowercase=False).save(run.folder / "tokenizer.json")
    with pytest.raises(
        UserError, match="run/tokenizer.json is not the tokenizer that the run's encoder was trained with"
    ):
        build.load_encoder(run)
    data.tokenizer.save(run.folder / "tokenizer.json")
    assert build.load_encoder(run)[1].tokenizer.digest == data.tokenizer.digest
    (run.folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="is not the tokenizer"):
        build.load_encoder(run)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Run:
    return train(tiny("mae", "trainer.max_steps=2"), tmp_path_factory.mktemp("runs") / "source")


def with_init(run: Run, *overrides: str) -> dict:
    return {**tiny("rotation", "encoder=tiny_image", *overrides), "init": initial.pinned(run.name, run.folder.parent)}


def test_a_run_that_begins_with_another_learns_from_there(source, tmp_path):
    config = with_init(source, "trainer.max_steps=1", "optim.lr=1e-9")
    run = train(config, tmp_path / "second")
    encoder, _ = build.load_encoder(run)
    for name, tensor in build.load_encoder(source)[0].state_dict().items():
        assert torch.allclose(encoder.state_dict()[name], tensor, atol=1e-6), name
    assert train(config, tmp_path / "second").done  # and may be said again


def test_its_name_depends_on_the_weights_it_begins_with(source, tmp_path):
    plain, begun = tiny("rotation"), with_init(source)
    old = {key: value for key, value in plain.items() if key != "init"}
    assert fingerprint(plain) == fingerprint(old) != fingerprint(begun)
    moved = Run(tmp_path / "moved")
    shutil.copytree(source.folder, moved.folder)
    assert fingerprint(with_init(moved)) == fingerprint(begun)
    weights.save(moved.weights, {"other": torch.ones(1)})
    assert fingerprint(with_init(moved)) != fingerprint(begun)


def test_a_source_that_changed_is_noticed(source, tmp_path):
    moved, second = Run(tmp_path / "moved"), Run(tmp_path / "second")
    shutil.copytree(source.folder, moved.folder)
    config = with_init(moved)
    build.write_config(second, config)
    weights.save(moved.weights, {k: v + 1 for k, v in weights.load(moved.weights, "").items()})
    with pytest.raises(UserError, match="moved has other weights than those that this run was to begin with"):
        build.build(config)
    with pytest.raises(ConfigError, match="is a run of another config .init.weights: .* -> "):
        build.write_config(second, with_init(moved))
    moved.weights.write_bytes(b"damaged")
    with pytest.raises(UserError, match="encoder.safetensors is damaged.*delete .*moved/DONE, and run its"):
        with_init(moved)


def test_a_run_from_before_a_setting_of_its_encoder_is_begun_with(source):
    """The setting counts as its default."""
    words = "+encoder.trunk.drop_path=0.0", "+encoder.trunk.layer_scale=null"
    assert build.build(with_init(source, *words)).encoder.trunk.drop_path == 0.0
    with pytest.raises(ConfigError, match=r"another encoder \(trunk.drop_path: 0.0 -> 0.1\)"):
        build.build(with_init(source, "+encoder.trunk.drop_path=0.1"))


def test_another_encoder_is_refused_by_the_setting_that_differs(source):
    config = with_init(source, "encoder.trunk.depth=3")
    with pytest.raises(ConfigError, match=r"init=.*source has another encoder \(trunk.depth: 2 -> 3\): set encoder="):
        build.build(config)


def test_what_is_no_finished_run_is_refused(source, tmp_path, sslzoo):
    with pytest.raises(UserError, match="no run 'nowhere'"):
        initial.pinned("nowhere", tmp_path)
    with pytest.raises(ConfigError, match="init must be the folder or the name of a run, got 3"):
        initial.pinned(3, tmp_path)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text("{}")
    code, _, err = sslzoo("pretrain", f"init={unfinished}")
    assert code == 1 and len(err) == 1 and "has no finished encoder yet" in err[0]


def test_an_old_run_has_no_objective(source, tmp_path):
    old = Run(tmp_path / "old")
    shutil.copytree(source.folder, old.folder)
    old.objective.unlink()
    with pytest.raises(UserError, match="old has no objective.json"):
        build.load_objective(old)


def test_targets_may_be_gone(tmp_path):
    """HuBERT's head says by itself how many clusters there are."""
    run = train(tiny("hubert", "trainer.max_steps=1"), tmp_path / "run")
    said = json.loads(run.objective.read_text())
    run.objective.write_text(json.dumps(said | {"targets": {**said["targets"], "folder": str(tmp_path / "gone")}}))
    objective, _, data = build.load_objective(run)
    assert objective.clusters == data.targets.clusters == said["targets"]["clusters"]


def test_the_setting_is_there():
    assert compose()["init"] is None


def test_tied_weights_are_written(tmp_path):
    shared = torch.arange(6.0)
    weights.save(tmp_path / "w.safetensors", {"a": shared, "b": shared, "c": shared.view(2, 3).T})
    found = weights.load(tmp_path / "w.safetensors", "")
    assert torch.equal(found["a"], shared) and torch.equal(found["b"], shared)
    assert torch.equal(found["c"], shared.view(2, 3).T)


def test_an_imported_quantiser_goes_on_to_the_bit(tmp_path):
    config = tiny("wav2vec2", "trainer.max_steps=1")
    run = train(config, tmp_path / "first")
    begun = initial.pinned(str(run.folder), tmp_path, config["objective"])
    job, fresh, learned = (
        build.build({**config, "init": begun}),
        build.build(config),
        weights.load(run.objective_weights, ""),
    )
    assert job.objective.state_dict().keys() == learned.keys()
    for name, x in job.objective.state_dict().items():
        assert torch.equal(x, learned[name]), name
    assert not torch.equal(fresh.objective.quantizer.codes, learned["quantizer.codes"])
    larger = {**config, "objective": {**config["objective"], "entries": 16}, "init": begun}
    with pytest.raises(
        ConfigError, match=r"head of init=.*first has another size: its quantizer.* — set the objective's"
    ):
        build.build(larger)


def test_a_language_model_s_head_goes_on_too(tmp_path):
    """And is told apart by its weights; one of another kind of objective begins anew."""
    config = tiny("bert", "trainer.max_steps=1")
    run = train(config, tmp_path / "first")
    begun = initial.pinned(str(run.folder), tmp_path, config["objective"])
    job, fresh = build.build({**config, "init": begun}), build.build(config)
    learned = weights.load(run.objective_weights, "")
    for name in ("dense.weight", "norm.weight", "bias"):
        assert torch.equal(job.objective.state_dict()[name], learned[name])
        assert not torch.equal(fresh.objective.state_dict()[name], learned[name])
    assert begun["head"] == weights.signature(run.objective_weights)
    assert "head" not in initial.pinned(str(run.folder), tmp_path, tiny("electra")["objective"])
    with pytest.raises(UserError, match="other weights"):
        build.build({**config, "init": {**begun, "head": "0"}})
