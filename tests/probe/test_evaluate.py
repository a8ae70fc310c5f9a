import json

import numpy as np
import pytest
import torch
from worlds import Framed, Held, Items, spoken, waves

from sslzoo.data.base import Intervals
from sslzoo.errors import ConfigError
from sslzoo.probe import evaluate
from sslzoo.probe.evaluate import Probe
from sslzoo.probe.neighbours import NearestNeighbours
from sslzoo.probe.subject import ProbeSubject
from sslzoo.probe.tasks import Task

WORD = {"name": "word", "label": "word", "modality": ["speech"]}


def mel_sized(data):
    """The same at a rate at which log-mel frames can be made."""
    data.sample_rate = 16000
    return data


def put(task, data, probe=None, **encoders):
    return (probe or Probe())(ProbeSubject(encoders or {"pretrained": Framed()}, mel_sized(data)), task)


def test_the_result_is_whole_and_is_json():
    data = spoken()
    result = put(Task(**WORD), data, pretrained=Framed(), untrained=Framed((0.0, 0.0, 0.0)))
    assert json.loads(json.dumps(result)) == result
    assert list(result) == ["pretrained", "untrained", "raw"]
    one = result["pretrained"]
    assert (one["kind"], one["task"], one["metric"]) == ("pretrained", "word", "accuracy")
    assert (one["n_train"], one["n_valid"], one["n_test"]) == (90, 30, 30)
    assert one["classes"] == ["w0", "w1", "w2"]
    assert one["chance"] == pytest.approx(1 / 3)
    shown = one["projections"]
    assert {len(plane) for plane in shown["planes"].values()} == {len(shown["label"])} == {30}
    assert set(shown["label"]) == {0, 1, 2} and set(one["per_class"]) == {"w0", "w1", "w2"}
    assert sum(count for *_, count in one["confusion"]) == 30
    right = sum(count for truth, predicted, count in one["confusion"] if truth == predicted)
    assert right / 30 == pytest.approx(one["linear"]["test"])
    truth = data.splits["test"].columns["word"]
    share = np.mean([one["per_class"][w] for w in truth])
    assert share == pytest.approx(one["linear"]["test"])


def test_an_encoder_that_knows_beats_one_that_does_not():
    result = put(Task(**WORD), spoken(), pretrained=Framed(), untrained=Framed((0.0, 0.0, 0.0)))
    assert result["pretrained"]["linear"]["test"] > 0.9
    assert result["untrained"]["linear"]["test"] < 0.7


def test_the_informative_middle_layer_gets_the_weight():
    one = put(Task(**WORD), spoken())["pretrained"]["linear"]
    assert one["layers"] == ["0", "1", "2"]
    assert one["layer_weights"][1] > 0.8 and sum(one["layer_weights"]) == pytest.approx(1)


def test_each_layer_alone_and_the_sum_as_it_is_without():
    data, plain = spoken(), put(Task(**WORD), spoken())
    found = put(Task(**WORD), data, Probe(by_layer=True))
    each = found["pretrained"]["linear"].pop("by_layer")
    assert [len(each[part]) for part in ("valid", "test")] == [3, 3]
    assert each["test"][1] > 0.9 and 0.7 > max(each["test"][0], each["test"][2]), "the middle one knows"
    assert found["pretrained"]["linear"] == plain["pretrained"]["linear"]
    assert "by_layer" not in found["raw"]["linear"], "raw input has one layer"


def test_neighbours_look_at_the_last_layer():
    knows = put(Task(**WORD), spoken(), pretrained=Framed((0.0, 0.0, 1.0)))["pretrained"]["knn"]
    does_not = put(Task(**WORD), spoken(), pretrained=Framed((1.0, 1.0, 0.0)))["pretrained"]["knn"]
    assert knows["layer"] == "2" and knows["test"] > 0.8 > does_not["test"]


def test_the_penalty_is_the_best_on_valid_and_of_equals_the_strongest():
    one = put(Task(**WORD), spoken(noise=3.0), Probe(penalties=[1e-4, 10.0, 1e-2]))["pretrained"]["linear"]
    assert list(one["sweep"]) == ["10", "0.01", "0.0001"]
    best = [p for p, value in one["sweep"].items() if value == max(one["sweep"].values())]
    assert one["penalty"] == float(best[0]) and one["valid"] == one["sweep"][best[0]]
    easy, strong = (
        put(Task(**WORD), spoken(noise=0.01), Probe(penalties))["pretrained"]["linear"]
        for penalties in ([1e-4, 1e-3], [1e-3])
    )
    assert easy["sweep"] == {"0.001": 1.0, "0.0001": 1.0} and easy["penalty"] == 1e-3
    assert easy["layer_weights"] == strong["layer_weights"]


@pytest.mark.parametrize(
    ("found", "tried", "chosen"),
    [
        ([0.0, 0.0, 0.0, 0.2, 0.1, 0.15, 0.3], 6, 1e-4),  # a metric that stands still is not worse
        ([0.3, 0.2, 0.3, 0.1, 0.9, 0.9, 0.9], 4, 1e-1),  # two worse ones end it, of equals the strongest counts
        ([0.1, 0.2, 0.1, 0.3, 0.4, 0.3, 0.5], 7, 1e-7),
    ],
)
def test_the_sweep_ends_when_two_weaker_penalties_are_worse(found, tried, chosen, monkeypatch):
    penalties, left = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7], iter(found)
    monkeypatch.setattr(evaluate, "score", lambda metric, truth, guess: next(left))
    x, y = torch.randn(1, 20, 3), torch.arange(20) % 2
    _, sweep = Probe(penalties)._choose("accuracy", x, y, x, y.numpy(), lambda answers: answers)
    assert sweep == dict(zip(penalties[:tried], found, strict=False)) and max(sweep, key=sweep.get) == chosen


def test_a_choice_at_an_edge_is_said():
    def edge(penalties):
        return put(Task(**WORD), spoken(noise=3.0), Probe(penalties))["pretrained"]["linear"]

    assert edge([100.0, 10.0])["edge"] and not edge([10.0])["edge"]
    assert not edge([10.0**-n for n in range(-3, 7)])["edge"]


def test_valid_decides_and_test_does_not():
    """With valid's labels turned round, the worst head on train is chosen; with test's, the same one."""
    plain, turned_valid, turned_test = spoken(noise=2.0), spoken(noise=2.0), spoken(noise=2.0)
    for data, part in ((turned_valid, "valid"), (turned_test, "test")):
        column = data.splits[part].columns["word"]
        data.splits[part].columns["word"] = np.roll(np.unique(column), 1)[np.unique(column, return_inverse=True)[1]]
    probe = Probe(penalties=[100.0, 1e-3])
    said, other, same = (
        put(Task(**WORD), data, probe)["pretrained"]["linear"] for data in (plain, turned_valid, turned_test)
    )
    assert said["penalty"] == 1e-3 and other["penalty"] == 100.0
    for key in ("penalty", "valid", "sweep", "layer_weights"):
        assert said[key] == same[key]
    assert said["test"] != same["test"]


class Watched(Items):
    """Says in `log` when it is read."""

    def __init__(self, name, log, *rest):
        super().__init__(*rest)
        self.name, self.log = name, log

    def read(self, index, seed=None):
        self.log.append((self.name, index))
        return super().read(index, seed)


@pytest.mark.parametrize("kind", ["pretrained", "raw"])
def test_test_is_read_once_after_all_is_chosen(kind, monkeypatch):
    log = []
    data = spoken((60, 20, 20))
    for name, split in data.splits.items():
        data.splits[name] = Watched(name, log, split.items, split.columns)
    chosen = Probe._choose

    def choose(self, *args):
        found = chosen(self, *args)
        log.append(("chosen", -1))
        return found

    monkeypatch.setattr(Probe, "_choose", choose)
    put(Task(**WORD), data)
    ends = [i for i, (name, _) in enumerate(log) if name == "chosen"]
    assert len(ends) == 2
    begun = 0 if kind == "pretrained" else max(i for i, (name, _) in enumerate(log[: ends[1]]) if name == "test") + 1
    end = ends[0] if kind == "pretrained" else ends[1]
    before = [name for name, _ in log[begun:end]]
    assert set(before) == {"train", "valid"}
    after = log[end + 1 :] if kind == "raw" else log[end + 1 : end + 21]
    assert sorted(after) == [("test", i) for i in range(20)]


def test_probing_twice_is_the_same_to_the_bit():
    first, second = (put(Task(**WORD), spoken()) for _ in range(2))
    for result in (first, second):
        for one in result.values():
            one.pop("seconds")
    assert first == second


def test_tasks_share_what_was_read():
    data = mel_sized(spoken())
    for split in data.splits.values():
        split.columns["half"] = np.array(["a" if w == "w0" else "b" for w in split.columns["word"]])
    subject, probe = ProbeSubject({"pretrained": Framed()}, data), Probe()
    first = probe(subject, Task(**WORD))
    count = len(data.splits["train"].read_at)
    assert count == 3 * 90  # for their hashes, by the encoder, and as log-mels
    half = probe(subject, Task("half", "half"))
    assert half["pretrained"]["linear"]["test"] > 0.9 and len(data.splits["train"].read_at) == count
    again = probe(subject, Task(**WORD))  # nothing of the other task is left in what is kept
    assert again["pretrained"]["linear"] == first["pretrained"]["linear"] and again["raw"]["knn"] == first["raw"]["knn"]


def test_values_are_predicted_in_their_own_unit():
    splits = []
    for seed, size in enumerate((120, 40, 40)):
        g = np.random.default_rng(seed)
        value = g.uniform(-1, 1, size)
        items = [
            torch.full((20,), float(v)) + 0.01 * torch.tensor(g.standard_normal(20), dtype=torch.float32) for v in value
        ]
        splits.append(Items(items, {"score": 100 + 7 * value}))
    task = Task("score", "score", kind="regression", metric="pearson_spearman")
    one = put(task, Held(*splits))["pretrained"]
    assert one["linear"]["test"] > 0.95 and one["knn"]["test"] > 0.3
    assert one["chance"] == 0.0 and one["classes"] is None and one["per_class"] is None
    assert one["confusion"] is None and min(one["projections"]["label"]) >= 93


def test_frames_are_told_apart():
    splits = []
    for seed, size in enumerate((20, 8, 8)):
        items, labels = waves(40 * size, seed, classes=3, noise=0.2, shortest=5, longest=6)
        joined = [torch.cat(items[i * 40 : (i + 1) * 40]) for i in range(size)]
        starts = np.arange(40) * 5 / 16000
        phones = [Intervals(starts, starts + 5 / 16000, labels[i * 40 : (i + 1) * 40].astype(str)) for i in range(size)]
        splits.append(Items(joined, intervals={"phone": phones}))
    task = Task("phones", "phone", kind="frames", max_frames=500)
    one = put(task, Held(*splits), pretrained=Framed())["pretrained"]
    assert (one["n_train"], one["n_valid"], one["n_test"]) == (500, 320, 320)
    assert one["linear"]["test"] > 0.95 and one["linear"]["layer_weights"][1] > 0.8


def test_a_task_brings_its_own_data_and_reads_it_as_the_run_did(tmp_path):
    class Text(Held):
        def restore(self, folder):
            self.restored = folder

    def texts(**says):
        g = np.random.default_rng(0)
        splits = []
        for size in (40, 20, 20):
            labels = np.arange(size) % 2
            items = [torch.tensor([2, *g.integers(5 + 4 * k, 9 + 4 * k, 3), 3]) for k in labels]
            splits.append(Items(items, {"label": labels}))
        return Text(*splits, modality="text", vocab_size=20, **says)

    class Words(Framed):
        modality = "text"

        def forward(self, inputs, lengths):
            return super().forward(inputs.float(), lengths)

    ours, theirs = texts(max_tokens=16), texts(max_tokens=64)
    task = Task("mine", "label", modality=["text"], data=theirs)
    result = Probe()(ProbeSubject({"pretrained": Words(stride=1)}, ours, tmp_path), task)
    assert theirs.restored == tmp_path and theirs.max_tokens == 16
    assert len(ours.splits["train"].read_at) <= 40, "for leakage alone"
    assert len(theirs.splits["test"].read_at) == 3 * 20
    assert result["raw"]["linear"]["test"] == 1.0


def test_a_misfit_is_refused_before_any_data_is_opened():
    class Shut(Held):
        def split(self, name):
            raise AssertionError("opened")

    with pytest.raises(ConfigError, match="task t is about image"):
        Probe()(ProbeSubject({"pretrained": Framed()}, Shut(None, None, None)), Task("t", "x", modality=["image"]))


@pytest.mark.parametrize(
    "wrong", [{"penalties": []}, {"penalties": [0.1, 0.0]}, {"k": 0}, {"temperature": 0.0}, {"max_gb": 0.0}]
)
def test_a_wrong_protocol_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"probe.{next(iter(wrong))}"):
        Probe(**wrong)


def test_neighbours_alone_choose_the_layer_on_valid_and_fit_nothing(monkeypatch):
    monkeypatch.setattr(evaluate, "fit", None)  # nothing is fitted
    result = put(Task(**WORD), spoken(), NearestNeighbours(k=5), pretrained=Framed(), untrained=Framed((0.0, 0.0, 0.0)))
    assert json.loads(json.dumps(result)) == result and "linear" not in result["pretrained"]
    one = result["pretrained"]["knn"]
    assert one["layer"] == "1" and one["layers"] == ["0", "1", "2"] and one["k"] == 5
    assert one["valid"] == max(one["by_layer"]["valid"]) and one["test"] > 0.9 > result["untrained"]["knn"]["test"]
    assert result["raw"]["n_test"] == 30 and result["raw"]["knn"]["layer"] == "log-mel"
