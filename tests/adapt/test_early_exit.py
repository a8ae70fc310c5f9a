"""Early exit: what is computed for rows that leave, when they leave, what the classifiers learn, and what is kept."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import compose
from test_adapt import own  # noqa: F401 (a fixture)
from test_contracts import batch_of
from test_methods import base
from tiny_tasks import TASKS, kind_of, tiny_run, tiny_task

import sslzoo as package
from sslzoo import build, weights
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.early_exit import TwoStages
from sslzoo.adapt.job import build_adapt, load_adapted
from sslzoo.data.base import Batch
from sslzoo.data.loader import ordered_loader
from sslzoo.encoders.rotary import RotaryPosition
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import ConvPosition, Transformer
from sslzoo.errors import ConfigError, Stopped
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.tasks.deebert import DeeBERT, entropy
from sslzoo.tasks.exits import Outputs
from sslzoo.tasks.pabee import PABEE
from sslzoo.train import precision

METHODS = {"deebert": DeeBERT, "pabee": PABEE}
TRUNKS = {
    "pre": {},
    "post": {"norm": "post"},
    "causal": {"causal": True},
    "window": {"window": 4, "global_every": 2},
    "rotary": {"position": RotaryPosition(), "window": 4},
    "conv": {"position": ConvPosition(8, 4, 2), "norm": "post"},
    "shared": {"share_layers": True},
}


def of(kind: str = "classification", classes: int = 3) -> SimpleNamespace:
    metric = "accuracy" if kind == "classification" else "pearson"
    return SimpleNamespace(task=SimpleNamespace(metric=metric, kind=kind), classes=[*map(str, range(classes))])


def encoder_of(depth: int = 5, pool: str = "mean", **settings) -> SequenceEncoder:
    torch.manual_seed(0)
    segments = 0 if settings.get("causal") or "position" in settings else 2
    frontend = WordPieces(8, vocab_size=30, max_tokens=256, segments=segments)
    return SequenceEncoder(frontend, Transformer(8, depth, 2, init_std=0.4, **settings), pool).eval()


def objective_of(method: str, encoder: SequenceEncoder, kind: str = "classification", **settings):
    """With classifiers that are sure of some rows early and of others late."""
    torch.manual_seed(1)
    objective = METHODS[method](encoder, of(kind), **settings).eval()
    for head in objective.exits:
        torch.nn.init.normal_(head.head.weight, std=2.0)
    return objective


def texts(rows: int = 16, most: int = 12, least: int = 3) -> Batch:
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 30, (rows, most), generator=g)
    lengths = torch.randint(least, most + 1, (rows,), generator=g)
    lengths[0] = most
    ids[torch.arange(most) >= lengths[:, None]] = 0
    places = torch.arange(rows)
    return Batch(ids, lengths, places, places, {"label": places % 3})


def row_of(batch: Batch, i: int) -> Batch:
    n = int(batch.lengths[i])
    inputs = batch.inputs[i : i + 1] if batch.inputs.ndim > 2 else batch.inputs[i : i + 1, :n]
    return replace(
        batch, inputs=inputs, lengths=batch.lengths[i : i + 1], index=batch.index[i : i + 1],
        row_seeds=batch.row_seeds[i : i + 1], targets={k: y[i : i + 1] for k, y in batch.targets.items()},
    )  # fmt: skip


def middle(objective, encoder, batch: Batch) -> float:
    """A value of the criterion at which rows leave at several layers."""
    if objective.criterion == "patience":
        return 1
    return float(torch.stack([entropy(x) for x in objective.exit_logits(encoder, batch)]).quantile(0.2))


def agree(objective, encoder, batch: Batch, limit: float) -> torch.Tensor:
    """Hold a batch's rows to what each gives alone; the layers that they ran."""
    logits, layers = objective.leave(encoder, batch, limit)
    for i in range(len(batch)):
        alone, ran = objective.leave(encoder, row_of(batch, i), limit)
        assert int(ran) == int(layers[i]), i
        assert torch.allclose(alone[0], logits[i], atol=2e-5 * max(1.0, float(logits[i].abs().max()))), i
    every = torch.stack(objective.exit_logits(encoder, batch))
    assert torch.equal(objective.layers_of(every, limit), layers)
    there = every[layers - 1, torch.arange(len(layers))]
    assert torch.allclose(logits, there, atol=2e-5 * max(1.0, float(there.abs().max())))
    return layers


def test_parameters_of_base_size():
    with torch.device("meta"):
        encoder = base()
        count = {m: sum(p.numel() for p in kind(encoder, of(classes=2)).parameters()) for m, kind in METHODS.items()}
    assert count == {"pabee": 18_456, "deebert": 7_105_560}


def test_entropy_is_no_nan_where_a_probability_underflows():
    """DeeBERT's code divides infinities there."""
    logits = torch.tensor([[1e5, 0.0, -1e5], [200.0, 0.0, -200.0], [3.0, -torch.inf, 3.0]])
    assert torch.allclose(entropy(logits), torch.tensor([0.0, 0.0, np.log(2)]).float())
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    for row, found in zip(x.double().numpy(), entropy(x).tolist(), strict=True):
        p = [np.exp(v) / sum(np.exp(w) for w in row) for v in row]
        assert found == pytest.approx(-sum(q * np.log(q) for q in p), rel=1e-5)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_pabees_loss_counts_a_layer_as_often_as_its_number(kind):
    encoder, batch = encoder_of(), texts()
    objective = objective_of("pabee", encoder, kind)
    if kind == "regression":
        batch.targets["label"] = torch.randn(16)
    expected = 0.0
    for number, logits in enumerate(objective.exit_logits(encoder, batch), start=1):
        for row, label in zip(logits.detach().double().numpy(), batch.targets["label"].tolist(), strict=True):
            loss = (row[0] - label) ** 2 if kind == "regression" else np.log(np.exp(row).sum()) - row[label]
            expected += number * loss / 16 / (1 + 2 + 3 + 4 + 5)
    assert float(objective(encoder, batch, 0).value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stage", [0, 1])
def test_deeberts_loss_is_the_sum_of_the_classifiers_of_its_stage(stage):
    encoder, batch = encoder_of(), texts()
    objective = objective_of("deebert", encoder)
    TwoStages().begin(stage, encoder, objective)
    expected = 0.0
    for logits in (
        objective.exit_logits(encoder, batch)[-1:] if stage == 0 else objective.exit_logits(encoder, batch)[:-1]
    ):
        for row, label in zip(logits.detach().double().numpy(), batch.targets["label"].tolist(), strict=True):
            expected += (np.log(np.exp(row).sum()) - row[label]) / 16
    loss = objective(encoder, batch, 0).value
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    reached = [all(p.grad is not None for p in head.parameters()) for head in objective.exits]
    assert reached == [stage == 1] * 4 + [stage == 0]
    assert any(p.grad is not None for p in encoder.parameters()) == (stage == 0)


def test_classifiers_and_the_encoders_pooler_compute_in_half():
    encoder, batch = encoder_of(pool="pooler"), texts()
    objective, seen = objective_of("pabee", encoder), []
    for module in (encoder.pooler, *(head.head for head in objective.exits)):
        module.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
    precision.apply(encoder, objective, torch.bfloat16, "cpu")
    assert objective(encoder, batch, 0).value.dtype == torch.float32
    assert seen == [torch.bfloat16] * 11  # the pooler also of what the encoder gives by itself


def test_no_dropout_is_left_on_in_the_frozen_trunk():
    """Of DeeBERT's second stage; the classifiers have theirs."""
    encoder, batch = encoder_of(dropout=0.5, attention_dropout=0.5, layer_drop=0.5), texts()
    objective = objective_of("deebert", encoder, dropout=0.5)
    TwoStages().begin(1, encoder, objective)
    torch.nn.ModuleDict({"encoder": encoder, "objective": objective}).train()
    assert not any(module.training for module in encoder.modules()) and objective.exits[0].dropout.training
    a, b = (encoder(batch.inputs, batch.lengths).hidden for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(a, b, strict=True))
    again = [objective.exit_logits(encoder, replace(batch, row_seeds=batch.row_seeds + k))[0] for k in (0, 0, 9)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


def slow_patience(said: list[float], patience: int, tolerance: float | None) -> int:
    count = 0
    for i in range(1, len(said)):
        same = said[i] == said[i - 1] if tolerance is None else abs(said[i] - said[i - 1]) < tolerance
        count = count + 1 if same else 0
        if count == patience:
            return i + 1
    return len(said)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("patience", [1, 2, 3, 6])
def test_patience_is_each_rows_own(kind, patience):
    """PABEE's code has one count for the whole batch: right at a batch of 1 only."""
    logits = torch.randn(6, 50, 3, generator=torch.Generator().manual_seed(0))
    objective = objective_of("pabee", encoder_of(6), kind, tolerance=0.8)
    layers = objective.layers_of(logits, patience)
    for i in range(50):
        said = logits[:, i, 0].tolist() if kind == "regression" else logits[:, i].argmax(1).tolist()
        assert int(layers[i]) == slow_patience(said, patience, 0.8 if kind == "regression" else None)
    assert len(set(layers.tolist())) > (1 if patience < 6 else 0)


def test_entropy_decides_as_row_by_row():
    logits = 3 * torch.randn(6, 50, 3, generator=torch.Generator().manual_seed(0))
    objective = objective_of("deebert", encoder_of(6))
    layers = objective.layers_of(logits, 0.4)
    for i in range(50):
        low = [j + 1 for j in range(5) if float(entropy(logits[j, i])) < 0.4]
        assert int(layers[i]) == (low[0] if low else 6)
    assert set(layers.tolist()) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("trunk", TRUNKS)
@torch.no_grad()
def test_a_batch_is_its_rows_one_by_one(trunk, method):
    encoder, batch = encoder_of(**TRUNKS[trunk]), texts()
    objective = objective_of(method, encoder)
    assert len(set(agree(objective, encoder, batch, middle(objective, encoder, batch)).tolist())) >= 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pool", ["first", "pooler"])
@torch.no_grad()
def test_class_tokens_and_long_rows(pool, method):
    encoder, batch = encoder_of(pool=pool), texts(6, 200, 90)
    objective = objective_of(method, encoder)
    agree(objective, encoder, batch, middle(objective, encoder, batch))
    if method == "deebert" and pool == "pooler":
        assert all(torch.equal(head.pooler.weight, encoder.pooler.weight) for head in objective.exits)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["speech-full", "image-full", "text-score"])
@torch.no_grad()
def test_speech_images_and_values(task, method):
    if task == "text-score" and method == "deebert":
        with pytest.raises(ConfigError, match="is about regression, and DeeBERT is for classification"):
            build_adapt(tiny_task(task) | own_nodes(method), tiny_run(TASKS[task][0], kind_of(task)))
        return
    job = build_adapt(tiny_task(task) | own_nodes(method), tiny_run(TASKS[task][0], kind_of(task)))
    for head in job.objective.eval().exits:
        torch.nn.init.normal_(head.head.weight, std=2.0)
    batch = batch_of(job, 0)
    agree(job.objective, job.encoder.eval(), batch, middle(job.objective, job.encoder, batch))


def own_nodes(method: str) -> dict:
    config = compose("run=x", "task=digit", f"method={method}", command="adapt")
    return {name: config[name] for name in ("method", "objective")}


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_a_criterion_never_met_is_the_full_model(method):
    encoder, batch = encoder_of(norm="post"), texts()
    objective = objective_of(method, encoder)
    logits, layers = objective.leave(encoder, batch)
    encoded = encoder(batch.inputs, batch.lengths)
    last = objective.exits[-1](objective.vector(encoder, encoded.last, encoded.lengths), batch.row_seeds)
    assert torch.equal(logits, last) and layers.tolist() == [5] * 16
    always, layers = objective.leave(encoder, batch, 9.0 if method == "deebert" else 1)
    assert layers.min() == (1 if method == "deebert" else 2)
    assert method == "pabee" or torch.allclose(always, objective.exit_logits(encoder, batch)[0], atol=1e-5)


@torch.no_grad()
def test_rows_that_left_are_computed_no_more_and_padding_goes_with_the_longest(monkeypatch):
    encoder, batch = encoder_of(norm="post"), texts()
    objective, seen, block = objective_of("deebert", encoder), [], Transformer.block

    def watched(self, number, state):
        seen.append(tuple(state.x.shape[:2]))
        assert state.x.shape[1] == int(state.lengths.max())
        return block(self, number, state)

    limit = middle(objective, encoder, batch)
    monkeypatch.setattr(Transformer, "block", watched)
    _, layers = objective.leave(encoder, batch, limit)
    rows = [n for n, _ in seen]
    assert rows == [int((layers > number).sum()) for number in range(len(rows))], "each block has who is still there"
    assert sum(rows) == int(layers.sum()) < 5 * 16 and len(rows) == int(layers.max())
    assert seen[-1][1] <= seen[0][1] == 12


def test_validation_chooses_the_fewest_layers_that_cost_at_most_max_drop():
    objective = objective_of("pabee", encoder_of(4), max_drop=0.1)
    labels, logits = np.zeros(10, np.int64), torch.zeros(4, 10, 3)
    logits[:, :, 0] = 1.0
    logits[:2, 0, 1] = 2.0  # two layers agree on a wrong class of row 0
    logits[:3, 1, 2] = 2.0  # three do of row 1
    objective.outputs = lambda encoder, batches: Outputs(labels, logits)
    for drop, chosen in ((0.0, 3), (0.1, 2), (0.2, 1)):
        objective.max_drop = drop
        objective.calibrate(None, None, None)
        assert int(objective.patience) == chosen, drop
    fixed = objective_of("pabee", encoder_of(4), patience=4)
    fixed.outputs = objective.outputs
    fixed.calibrate(None, None, None)
    assert int(fixed.patience) == 4, "a setting stays"


def adapted(run: Run, method: str, *words: str, task: str = "text-full", name: str | None = None) -> Run:
    small = [f"method={method}", f"head={method}", "trainer.max_steps=6", "trainer.save_every=3", *words]
    config = tiny_task("text-pabee", *small)
    config |= {"run": str(run.folder), "name": name}
    return Run(run_adapt(config, {"method": method}).parent)


@pytest.fixture(scope="module")
def deebert(tmp_path_factory) -> Run:
    """Two stages of six and four steps."""
    run = Run(tmp_path_factory.mktemp("runs") / "tiny_text")
    shutil.copytree(tiny_run("tiny_text", "text").folder, run.folder)
    return adapted(run, "deebert", "method.steps=4", "method.lr=0.002", "trainer.val_every=2")


def test_deeberts_two_stages(deebert):
    first, second, both = (
        weights.load(Run(folder).adapted_weights, "")
        for folder in (deebert.folder / "stage_1", deebert.folder / "stage_2", deebert.folder)
    )
    start = build.load_encoder(Run(deebert.folder.parents[1]))[0].state_dict()
    for name, tensor in first.items():
        if name.startswith("encoder."):
            assert not torch.equal(tensor, start[name.removeprefix("encoder.")]), f"{name} learns in the first stage"
            assert torch.equal(tensor, both[name]) and name not in second, "and is frozen in the second"
    for name in (x for x in first if x.startswith("objective.exits.")):
        assert torch.equal(first[name], second[name]) == name.startswith("objective.exits.1."), name
        assert torch.equal(second[name], both[name])
    said = json.loads(deebert.adapted.read_text())
    assert set(said["saved"]) == set(both) and set(said["trained"]) == set(both) - {"objective.threshold"}
    found = json.loads(deebert.result.read_text())
    assert found["steps"] == 10 and len(said["stages"]) == 2
    assert found["head_parameters"] == 2 * (16 * 17 + 17 * 2)


def test_what_is_loaded_is_what_was_trained_and_predictions_leave(deebert):
    run = Run(deebert.folder.parents[1])
    encoder, objective, data = load_adapted(run, deebert.name)
    state = weights.load(deebert.adapted_weights, "")
    for part, module in (("encoder", encoder), ("objective", objective)):
        for name, x in module.state_dict().items():
            assert torch.equal(x, state[f"{part}.{name}"]), name
    found = json.loads(deebert.result.read_text())
    split = data.split("test")
    with torch.no_grad():
        scores = dict(objective.evaluate(encoder, ordered_loader(split, 1e9), split))
    assert found["test"] == pytest.approx(scores, abs=1e-6)
    exits = found["exits"]
    assert exits["criterion"] == "threshold" and exits["depth"] == 2 and exits["chosen"] == objective.limit
    [chosen] = [point for point in exits["test"] if point["threshold"] == exits["chosen"]]
    assert chosen["score"] == found["test"]["accuracy"] and chosen["layers"] == found["test"]["layers"]
    assert all({"threshold", "score", "layers", "speedup_1", "speedup_32"} == set(point) for point in exits["test"])
    assert exits["test"][0]["threshold"] == 0 and exits["test"][0]["score"] == exits["layer_scores"][-1]
    assert exits["test"][0]["layers"] == 2 >= exits["test"][-1]["layers"] and len(exits["test"]) == len(exits["valid"])

    enc = package.load(str(run.folder), adapted=deebert.name, device="cpu")
    inputs = [split.read(i) for i in range(20)]
    enc.objective.threshold.fill_(9.0)
    seen = []
    handle = enc.encoder.trunk.blocks[1].register_forward_hook(lambda *_: seen.append(1))
    early = enc.predict(inputs)
    assert not seen, "all leave at the first layer"
    enc.objective.threshold.fill_(0.0)
    late = enc.predict(inputs)
    assert seen
    handle.remove()
    with torch.no_grad():
        every = [objective.exit_logits(encoder, batch_of_one(x)) for x in inputs]
    for said, number in ((early, 0), (late, 1)):
        assert said == [enc.classes[int(x[number].argmax())] for x in every]


def batch_of_one(ids: torch.Tensor) -> Batch:
    zero = torch.zeros(1, dtype=torch.int64)
    return Batch(ids[None], torch.tensor([len(ids)]), zero, zero, {})


@pytest.mark.parametrize("stage", [1, 2])
def test_stopped_in_either_stage_and_continued_is_never_stopped(stage, own, deebert):  # noqa: F811
    run, step = own("tiny_text", "text"), Pretrain.optimizer_step
    words = ["method.steps=4", "method.lr=0.002", "trainer.val_every=2"]

    def signalled(self, *args, **kwargs):
        if self.global_step == 2 and self.total_steps == (6 if stage == 1 else 4):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretrain, "optimizer_step", signalled)
        with pytest.raises(Stopped, match="at step 3: the same command goes on"):
            adapted(run, "deebert", *words)
    folder = run.folder / "adapted" / deebert.name
    assert Run(folder / "stage_1").done == (stage == 2) and not Run(folder).done
    again = adapted(run, "deebert", *words)
    assert again.adapted_weights.read_bytes() == deebert.adapted_weights.read_bytes()
    a, b = (json.loads(x.result.read_text()) for x in (again, deebert))
    assert a["test"] == b["test"] and a["exits"]["chosen"] == b["exits"]["chosen"]


def test_two_ranks_train_both_stages(own):  # noqa: F811
    run = own("tiny_text", "text")
    words = ["trainer.accelerator=cpu", "objective.dropout=0"]
    two = adapted(run, "deebert", "trainer=ddp", "trainer.strategy=ddp_fork", *words, name="two")
    one = adapted(run, "deebert", *words, name="one")
    a, b = (weights.load(folder.adapted_weights, "") for folder in (one, two))
    assert a.keys() == b.keys() and two.done
    for name, x in a.items():
        assert name.endswith("threshold") or torch.allclose(b[name], x, atol=1e-3), name


@pytest.mark.parametrize("method", ["deebert"])
def test_resnets_are_refused_with_what_fits(method, own, sslzoo):  # noqa: F811
    run = own("tiny_resnet")
    words = [f"run={run.folder}", "task=image_class", f"method={method}"]
    code, _, err = sslzoo("adapt", "--config-dir", str(Path(__file__).parents[1] / "tiny"), *words)
    assert code == 2 and len(err) == 1, err
    assert "is for transformers, and this encoder (ResNet) has none: choose method=full or" in err[0]
    assert "vit" in err[0].split("another encoder=")[1]


def test_a_method_brings_its_head_whatever_the_tasks_kind(sslzoo):
    for words, target in (
        (["task=stsb", "task.data.path=x", "method=pabee"], "sslzoo.tasks.pabee.PABEE"),
        (["task=stsb", "task.data.path=x", "method=full"], "sslzoo.tasks.regression.Regression"),
        (["task=digit", "method=deebert"], "sslzoo.tasks.deebert.DeeBERT"),
        (["task=digit", "method=deebert", "head=classification"], "sslzoo.tasks.classification.Classification"),
    ):
        code, out, err = sslzoo("adapt", "run=x", *words, "--cfg", "job")
        assert code == 0 and f"_target_: {target}" in out, err


@pytest.mark.parametrize(
    ("method", "words", "match"),
    [
        ("pabee", ["objective.patience=0"], "objective.patience must be at least 1, got 0"),
        ("pabee", ["objective.tolerance=-1"], "objective.tolerance must be at least 0"),
        ("deebert", ["objective.threshold=-0.1"], "objective.threshold must be at least 0"),
        ("deebert", ["objective.max_drop=-0.1"], "objective.max_drop must be at least 0"),
        ("deebert", ["method.steps=0"], "method.steps must be at least 1"),
        ("deebert", ["method.lr=0"], "method.lr must be above 0"),
        ("deebert", ["head=classification"], "Classification is one on the last: leave out head="),
    ],
)
def test_settings_that_cannot_be(method, words, match):
    config = tiny_task("text-pabee", f"method={method}", *(["head=deebert"] if method == "deebert" else []), *words)
    with pytest.raises(ConfigError, match=match):
        build_adapt(config, tiny_run("tiny_text", "text"))
