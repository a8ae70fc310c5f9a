"""Discrete BERT: the codes are those of the vq-wav2vec run, the loss that of a slow loop,
and the run needs no other."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import compose, tiny
from tiny_tasks import write_run

from sslzoo import build, weights
from sslzoo.data.loader import ordered, read_rows
from sslzoo.encoders.codes import UNKNOWN
from sslzoo.errors import ConfigError, UserError
from sslzoo.initial import with_codes
from sslzoo.run import Run
from sslzoo.train.launch import pretrain


def some(split, count: int):
    return read_rows(split, ordered(np.arange(count), seed=0))


@pytest.fixture
def coded(tmp_path):
    """(a finished run of vq-wav2vec, the config of a discrete BERT on its codes)."""

    def make(objective: str = "vq_wav2vec") -> tuple[Run, dict]:
        config = tiny(objective)
        run = write_run(tmp_path / "runs" / "vq", config)
        job = build.build(config)
        weights.save(run.objective_weights, job.objective.state_dict())
        about = {
            "objective": config["objective"],
            "seed": 0,
            "prepared": {"items": 40, "epoch_steps": 1},
            "targets": None,
        }
        run.objective.write_text(json.dumps(about))
        mine = tiny("vq_bert", f"encoder.frontend.run={run.folder}", "trainer.max_steps=3")
        return run, {**mine, "encoder": with_codes(mine["encoder"], tmp_path / "runs")}

    return make


@pytest.mark.parametrize("objective", ["vq_wav2vec", "vq_wav2vec_kmeans"])
def test_ids_are_the_runs_codes(objective, coded):
    run, config = coded(objective)
    job = build.build(config)
    split = job.data.split("train")
    job.encoder.fit(split, 0)
    frontend = job.encoder.eval().frontend
    head, encoder, _ = build.load_objective(run)
    batch = some(split, 4)
    tokens, lengths = encoder.embed(batch.inputs, batch.lengths)
    chosen = head.quantized(tokens, lengths, batch.row_seeds, 0)[2]
    number = chosen[:, 0] * head.quantizer.entries + chosen[:, 1]
    ids, found = job.encoder.features(batch.inputs, batch.lengths)
    assert torch.equal(found, lengths)
    known = frontend.vocabulary.tolist()
    flat = torch.cat([row[:n] for row, n in zip(ids, lengths.tolist(), strict=True)]).tolist()
    assert flat == [1 + known.index(x) if x in known else UNKNOWN for x in number.tolist()]
    assert len(set(flat)) > 2 and all((row[n:] == UNKNOWN).all() for row, n in zip(ids, lengths.tolist(), strict=True))


def test_the_vocabulary_is_the_most_frequent(coded):
    _, config = coded()
    config["encoder"]["frontend"]["vocab_size"] = 3
    job = build.build(config)
    split = job.data.split("train")
    job.encoder.fit(split, 0)
    frontend = job.encoder.frontend
    items = [split.read(i)[None] for i in range(len(split))]
    found = torch.cat([frontend.codes(x, torch.tensor([x.shape[1]]))[0][0] for x in items]).tolist()
    count = {code: found.count(code) for code in set(found)}
    likely = sorted(count, key=lambda code: (-count[code], code))[:3]
    assert frontend.vocabulary.tolist() == sorted(likely)
    before = frontend.vocabulary.clone()
    job.encoder.fit(job.data.split("valid"), 1)
    assert torch.equal(before, frontend.vocabulary), "it is numbered once"


def test_the_loss_is_that_of_a_slow_loop(coded):
    _, config = coded()
    job = build.build(config)
    split = job.data.split("train")
    job.encoder.fit(split, 0)
    encoder, objective, batch = job.encoder.eval(), job.objective.eval(), some(split, 4)
    loss = objective(encoder, batch, 0)
    ids, lengths = encoder.features(batch.inputs, batch.lengths)
    mask = objective.mask(batch.row_seeds, lengths, ids.shape[1])
    tokens = encoder.frontend.code_embedding(ids)
    for b, t in mask.nonzero().tolist():
        tokens[b, t] = objective.mask_token
    hidden = encoder.contextualize(tokens, lengths).last
    weight = encoder.frontend.code_embedding.weight.detach().double().numpy()
    total = count = 0
    for b, t in mask.nonzero().tolist():
        assert t < lengths[b]
        with torch.no_grad():
            h = objective.norm(torch.nn.functional.gelu(objective.dense(hidden[b, t]))).double().numpy()
        logits = weight @ h + objective.bias.detach().double().numpy()
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[int(ids[b, t])]
        count += 1
    assert loss.count == count > 10 and float(loss.value.detach()) == pytest.approx(total / count, rel=1e-5)
    loss.value.backward()
    assert objective.mask_token.grad.abs().sum() > 0
    assert all(p.grad is None for p in [*encoder.frontend.waves.parameters(), *encoder.frontend.quantizer.parameters()])


def test_about_two_fifths_are_masked():
    mask = build.make(compose("objective=vq_bert", "encoder=tiny_codes", "data=tiny_speech")["objective"]["mask"])
    lengths = torch.full((200,), 400)
    share = float(mask(torch.arange(200), lengths, 400).float().mean())
    assert 0.36 < share < 0.42  # 1 - 0.95^10 is 0.40; spans end within the utterance


def test_the_run_is_whole_by_itself(coded, tmp_path):
    run, config = coded()
    mine = Run(tmp_path / "runs" / "bert")
    build.write_config(mine, config)
    assert pretrain(build.build(config), mine)
    before = build.load_encoder(run)[0].frontend.state_dict()
    shutil.rmtree(run.folder)
    encoder, data = build.load_encoder(mine)
    assert all(torch.equal(encoder.frontend.waves.state_dict()[name], x) for name, x in before.items())
    batch = some(data.split("test"), 2)
    assert encoder(batch.inputs, batch.lengths).last.isfinite().all()


def test_what_makes_no_codes(coded, tmp_path):
    run, config = coded()
    weights.save(run.objective_weights, {"x": torch.zeros(1)})
    with pytest.raises(UserError, match="has other weights than those that this run was to begin with"):
        build.build(config).encoder.fit(build.build(config).data.split("train"), 0)
    other = json.loads(run.objective.read_text())
    other["objective"]["_target_"] = "sslzoo.objectives.wav2vec.Wav2Vec"
    run.objective.write_text(json.dumps(other))
    with pytest.raises(ConfigError, match="makes no codes: it must be a run of objective=vq_wav2vec"):
        with_codes(config["encoder"], tmp_path / "runs")
    with pytest.raises(
        ConfigError, match="vq_bert|DiscreteBERT on this data needs an encoder with codes of a vq-wav2vec"
    ):
        build.build(tiny("vq_bert", "encoder=tiny_speech"))
    with pytest.raises(ConfigError, match="vocab_size must be 2 or more"):
        build.build(tiny("vq_bert", "encoder.frontend.vocab_size=1"))
