"""What learns before the tokens: keys and values (prefix tuning), of text, speech and images."""

import json

import pytest
import torch
from test_adapt import adapt, own  # noqa: F401 (a fixture)
from test_contracts import batch_of
from test_methods import PROMPTED, base, learning, node_of, off_the_start
from tiny_tasks import TASKS, kind_of, tiny_run, tiny_task

from sslzoo import build, weights
from sslzoo.adapt.job import build_adapt, load_adapted
from sslzoo.adapt.prefix import Prefix, PrefixTuning, flatten
from sslzoo.encoders.kv_cache import KVCache
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.pretrain import Pretrain

IDS = torch.randint(5, 30, (2, 200), generator=torch.Generator().manual_seed(0))
LENGTHS = [torch.tensor([7, 5]), torch.tensor([200, 130])]  # padded, and so long that rows are taken apart


def encoder_of(pool: str = "mean", max_tokens: int = 256, **settings) -> SequenceEncoder:
    torch.manual_seed(0)
    frontend = WordPieces(8, vocab_size=30, max_tokens=max_tokens, segments=0 if settings.get("causal") else 2)
    return SequenceEncoder(frontend, Transformer(8, 3, 2, init_std=0.3, **settings), pool).eval()


def test_a_prefix_of_base_size():
    method = PrefixTuning(length=30)
    with torch.device("meta"):
        encoder = method(base())
        assert learning(encoder) == 30 * 768 + 512 * (768 + 1) + 12 * 2 * 768 * (512 + 1)
        assert learning(method.finished(encoder)) == 552_960


@pytest.mark.parametrize("lengths", LENGTHS, ids=["padded", "rows apart"])
@pytest.mark.parametrize("settings", [{}, {"norm": "post", "share_layers": True}, {"window": 4}], ids=str)
@torch.no_grad()
def test_a_prefix_flattened_is_the_one_that_was_learned(settings, lengths):
    encoder = off_the_start(PrefixTuning(length=3, hidden=6)(encoder_of(**settings)).eval())
    learned = encoder(IDS[:, : int(lengths.max())], lengths)
    assert type(flatten(encoder).trunk.prefix) is Prefix and set(dict(encoder.trunk.prefix.named_parameters())) == {
        "states"
    }
    found = encoder(IDS[:, : int(lengths.max())], lengths)
    assert all(torch.equal(*pair) for pair in zip(found.hidden, learned.hidden, strict=True))
    assert learning(encoder) == 3 * 2 * 3 * 8
    plain = encoder_of(**settings)(IDS[:, : int(lengths.max())], lengths)
    assert not torch.allclose(found.last, plain.last, atol=1e-2)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(IDS[row : row + 1, :length], lengths[row : row + 1])
        assert torch.allclose(alone.last[0], found.last[row, :length], atol=1e-5), "padding changes nothing"


@torch.no_grad()
def test_an_empty_prefix_changes_nothing():
    encoder, plain = PrefixTuning(length=0)(encoder_of()).eval(), encoder_of()
    assert torch.allclose(encoder(IDS[:, :7], LENGTHS[0]).last, plain(IDS[:, :7], LENGTHS[0]).last, atol=1e-6)


@torch.no_grad()
def test_a_text_that_goes_on_has_its_prefix():
    encoder = off_the_start(PrefixTuning(length=3)(encoder_of(causal=True)).eval())
    whole, cache, parts = encoder(IDS[:, :9], torch.tensor([9, 9])).last, KVCache(), []
    for part in IDS[:, :9].split([4, 1, 4], dim=1):
        found = encoder(part, torch.full((2,), part.shape[1]), cache)
        parts.append(found.last)
        cache = found.cache
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


@pytest.mark.parametrize("pool", ["first", "pooler", "mean"])
@pytest.mark.parametrize("method", PROMPTED)
@torch.no_grad()
def test_what_is_pooled_is_of_the_text_and_not_of_the_prompt(method, pool):
    """A known mistake: position 0 of a sequence with its prompt is the prompt's."""
    encoder = off_the_start(build.make(node_of(method))(encoder_of(pool)).eval())
    found, plain = encoder(IDS[:, :7], LENGTHS[0]), encoder_of(pool)(IDS[:, :7], LENGTHS[0])
    assert [h.shape for h in found.hidden] == [h.shape for h in plain.hidden]
    assert torch.equal(found.lengths, plain.lengths)
    expected = encoder_of(pool).pooled(found.last, LENGTHS[0])
    assert torch.equal(found.pooled, expected) and not torch.allclose(found.pooled, plain.pooled, atol=1e-3)
    other = IDS[:, :7].clone()
    other[:, 0] = 29 - other[:, 0]
    changed = (encoder(other, LENGTHS[0]).last - found.last).norm(dim=-1)
    assert (changed[:, 0] > 2 * changed[:, 1:5].amax(1)).all(), "the first state is the first token's"


@pytest.mark.parametrize("method", PROMPTED)
@pytest.mark.parametrize("task", ["text-prefix", "speech-full", "image-full"])
def test_every_transformer_is_prompted(task, method):
    config, run = tiny_task(task) | {"method": node_of(method)}, tiny_run(TASKS[task][0], kind_of(task))
    job = build_adapt(config, run)
    before = {name: x.clone() for name, x in job.encoder.state_dict().items()}
    learns = {name for name, p in job.encoder.named_parameters() if p.requires_grad}
    plain, _ = build.load_encoder(run)
    assert learns and learns == before.keys() - plain.state_dict().keys(), "nothing that the encoder had learns"
    batch = batch_of(job, 0)
    found, expected = (e.eval()(batch.inputs, batch.lengths) for e in (job.encoder, plain))
    assert found.last.shape == expected.last.shape and not torch.equal(found.last, expected.last)
    module = Pretrain(job.encoder.train(), job.objective.train(), job.optim, 0, 10)
    optimizer = job.optim.build(module)
    for _ in range(2):
        optimizer.zero_grad()
        job.objective(job.encoder, batch, 0).value.backward()
        optimizer.step()
    changed = {name for name, x in job.encoder.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == learns


def test_the_best_step_is_stored_flattened(own):  # noqa: F811
    run = own("tiny_text", "text")
    folder = adapt("text-prefix", run, "method.length=5", "trainer.val_every=2")
    saved, said = weights.load(folder.adapted_weights, ""), json.loads(folder.adapted.read_text())
    assert {name for name in saved if name.startswith("encoder.")} == {"encoder.trunk.prefix.states"}
    assert said["saved"]["encoder.trunk.prefix.states"] == 5 * 2 * 2 * 16
    assert sum(said["trained"].values()) == said["trained_parameters"] > sum(said["saved"].values())
    encoder, _, _ = load_adapted(run, "tiny-prefix")
    plain, _ = build.load_encoder(run)
    assert said["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert said["parameters"] == sum(p.numel() for p in plain.parameters()) + 5 * 2 * 2 * 16
