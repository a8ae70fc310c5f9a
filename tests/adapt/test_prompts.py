"""What learns before the tokens, of text, speech and images: keys and values (prefix tuning), or tokens
(prompt tuning)."""

import json

import pytest
import torch
from conftest import compose
from test_adapt import adapt, own, real_words  # noqa: F401 (fixtures)
from test_contracts import batch_of, still
from test_methods import PROMPTED, base, learning, node_of, off_the_start
from tiny_tasks import TASKS, kind_of, tiny_run, tiny_task, write_run

import sslzoo as package
from sslzoo import build, weights
from sslzoo.adapt.job import build_adapt, load_adapted
from sslzoo.adapt.prefix import Prefix, PrefixTuning, flatten
from sslzoo.adapt.soft_prompt import PromptTuning
from sslzoo.data.base import SPECIALS
from sslzoo.data.loader import IGNORE
from sslzoo.encoders.kv_cache import KVCache
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
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


@pytest.mark.parametrize("method", [PrefixTuning(length=0), PromptTuning(length=0)], ids=["prefix", "prompt"])
@torch.no_grad()
def test_an_empty_prompt_changes_nothing(method):
    encoder, plain = method(encoder_of()).eval(), encoder_of()
    assert torch.allclose(encoder(IDS[:, :7], LENGTHS[0]).last, plain(IDS[:, :7], LENGTHS[0]).last, atol=1e-6)


@pytest.mark.parametrize("method", [PrefixTuning(length=3), PromptTuning(length=3)], ids=["prefix", "prompt"])
@torch.no_grad()
def test_a_text_that_goes_on_has_its_prompt_once(method):
    encoder = off_the_start(method(encoder_of(causal=True)).eval())
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
    other[:, 0] = (other[:, 0] - 4) % 25 + 5
    changed = (encoder(other, LENGTHS[0]).hidden[0] != found.hidden[0]).any(-1)
    assert changed[:, 0].all() and not changed[:, 1:].any(), "the first state is the first token's"


@pytest.mark.parametrize("method", PROMPTED)
@pytest.mark.parametrize("task", ["text-prompt", "speech-full", "image-full"])
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


@pytest.mark.parametrize("method", PROMPTED)
def test_a_prompt_alone_learns_to_tell_texts_apart(method):
    """Under a fixed head, which reads one state of each."""
    encoder = build.make(node_of(method))(encoder_of("first"))
    ids, labels = IDS.view(8, 50)[:, :6], torch.arange(8) % 2
    optimizer, losses = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], 0.01), []
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(encoder(ids, torch.full((8,), 6)).pooled[:, :2], labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0] and losses[-1] < 0.6, losses[::10]


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


def test_a_loss_summed_over_a_sentence():
    """Prefix tuning's: the rate would depend on how long sentences are. It is the mean over all labelled words."""
    job = still(build_adapt(tiny_task("text-tags", "method=prefix"), tiny_run("tiny_text", "text")))
    batch, total, count = batch_of(job, 0), 0.0, 0
    with torch.no_grad():
        loss = job.objective(job.encoder, batch, 0)
        logits = job.objective.logits(job.encoder, batch).double().log_softmax(2)
    for row, labels in zip(logits, batch.targets["label"].tolist(), strict=True):
        for token, label in zip(row.tolist(), labels, strict=False):
            if label != IGNORE:
                total, count = total - token[label], count + 1
    assert loss.count == count > 2 * len(batch) and len(set(batch.lengths.tolist())) > 1
    assert float(loss.value) == pytest.approx(total / count, rel=1e-5)


def test_a_prompt_of_base_size():
    encoder = base()
    encoder.reads = {**encoder.reads, "max_tokens": 512}
    with torch.device("meta"):
        assert learning(PromptTuning(length=20, start="mean")(encoder)) == 15_360


@pytest.mark.parametrize("lengths", LENGTHS, ids=["padded", "rows apart"])
@pytest.mark.parametrize("settings", [{}, {"norm": "post"}, {"causal": True}, {"window": 8}], ids=str)
@torch.no_grad()
def test_a_prompt_of_words_is_these_words_before_the_text(settings, lengths):
    """Embedded, placed and read as they would be; the text's states are what is left."""
    encoder = PromptTuning(length=4, start="words")(encoder_of(**settings)).eval()
    ids, plain = IDS[:, : int(lengths.max())], encoder_of(**settings)
    words = [int((plain.frontend.token_embedding.weight == e).all(1).nonzero()) for e in encoder.prompt.embeddings]
    assert len(set(words)) == 4 and min(words) >= SPECIALS
    found = encoder(ids, lengths)
    expected = plain(torch.cat([torch.tensor(words).expand(2, -1), ids], 1), lengths + 4)
    for ours, theirs in zip(found.hidden, expected.hidden, strict=True):
        for row, length in enumerate(lengths.tolist()):
            assert torch.allclose(ours[row, :length], theirs[row, 4 : 4 + length], atol=1e-5)
    assert torch.equal(found.lengths, lengths)


def test_a_prompt_is_embedded_as_words_are_where_these_have_a_size_of_their_own():
    torch.manual_seed(0)
    frontend = WordPieces(8, vocab_size=30, max_tokens=16, embedding_dim=6).eval()
    ids = torch.tensor([[7, 9, 11]])
    expected, _ = frontend.project(ids, torch.tensor([3]))
    found = frontend.project_prompt(frontend.token_embedding(ids[0]))
    assert torch.allclose(found, expected[0], atol=1e-6)
    encoder = SequenceEncoder(frontend, Transformer(8, 1, 2, input_norm=False))
    assert PromptTuning(length=4)(encoder).prompt.embeddings.shape == (4, 6)


def test_what_a_prompt_begins_as():
    table = encoder_of().frontend.token_embedding.weight[SPECIALS:]
    mean = PromptTuning(length=2, start="mean")(encoder_of()).prompt.embeddings
    assert torch.allclose(mean, table.mean(0).expand(2, -1))
    torch.manual_seed(1)
    normal = PromptTuning(length=200, start="normal")(encoder_of()).prompt.embeddings.detach()
    assert float(normal.std()) == pytest.approx(0.02, rel=0.1)
    run = tiny_run("tiny_image", "image")
    config = tiny_task("image-full") | {"method": node_of("soft_prompt") | {"start": "words"}}
    with pytest.raises(ConfigError, match="and this encoder has no words: set method.start=normal"):
        build_adapt(config, run)


def test_prompts_longer_than_the_positions():
    with pytest.raises(
        ConfigError, match=r"method.length=14 .* in the 16 positions of this encoder: choose 13 or less"
    ):
        PromptTuning(length=14)(encoder_of(max_tokens=16))
    assert PromptTuning(length=13)(encoder_of(max_tokens=16)).reads["max_tokens"] == 3
    with pytest.raises(ConfigError, match=r"leaves no room for a text in the 16 positions"):
        PromptTuning(length=20)(encoder_of(max_tokens=16))
    with pytest.raises(ConfigError, match="prompt leaves 23 of the encoder's positions, and texts are up to 24 tokens"):
        build_adapt(tiny_task("text-prompt", "method.length=25"), tiny_run("tiny_roomy", "text"))
    assert build_adapt(tiny_task("text-prompt", "method.length=24"), tiny_run("tiny_roomy", "text"))


def test_a_prompt_leaves_its_places_to_no_text(tmp_path, real_words, sslzoo):  # noqa: F811
    """Refused until texts are said to be shorter; then texts to be predicted are cut to that length, too."""
    run = write_run(
        tmp_path / "run",
        compose(
            "data=text_table", f"data.path={real_words}", "data.files={train: train.tsv, test: dev.tsv}",
            "data.text=sentence", "data.vocab_size=60", "data.max_tokens=16", "encoder=tiny_text",
        ),
    )  # fmt: skip
    words = [f"run={run.folder}", "task=sst2", f"task.data.path={real_words}", "method=soft_prompt", "method.length=8"]
    words += ["trainer.max_steps=2", "batch={_target_: sslzoo.data.sampler.ByCount, size: 8}"]
    code, _, err = sslzoo("adapt", *words)
    assert code == 2 and len(err) == 1 and err[0].endswith("up to 16 tokens: set task.data.max_tokens=8"), err
    code, out, err = sslzoo("adapt", *words, "task.data.max_tokens=8")
    assert code == 0 and "trained: encoder.prompt 128, objective.head" in out, err
    encoder = package.load(str(run.folder), adapted="sst2-soft_prompt", device="cpu")
    assert len(encoder.predict(["good " * 20, "bad"])) == 2
