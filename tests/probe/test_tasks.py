import numpy as np
import pytest
import torch
from worlds import Framed, Held, Items, spoken

from sslzoo.data.base import Intervals
from sslzoo.errors import ConfigError, UserError
from sslzoo.probe.splits import ByGroup, ByItem, Pool
from sslzoo.probe.tasks import Task


def silent(*columns, name="x", start=0):
    """Splits of 4-sample items with the label column `name`, of the values given."""
    splits = []
    for number, column in enumerate(columns):
        items = [torch.zeros(4) for _ in column]
        values = np.array(column, dtype=object if any(v is None for v in column) else None)
        splits.append(Items(items, {name: values}, names=[f"{number}/{i}" for i in range(start, start + len(column))]))
    return Pool(Held(*splits))


def labels(question, part):
    return [question.classes[k] for k in question.parts[part].labels]


def test_official_parts_are_the_datas_own():
    question = Task("t", "x").prepare(silent(["a", "b", "a"], ["b"], ["a", "b"]), 1)
    assert [labels(question, p) for p in ("train", "valid", "test")] == [["a", "b", "a"], ["b"], ["a", "b"]]
    assert [question.parts[p].items.tolist() for p in ("train", "valid", "test")] == [[0, 1, 2], [3], [4, 5]]


@pytest.mark.parametrize("absent", ["", None, float("nan")])
def test_an_item_without_a_label_is_not_in_the_task(absent):
    values = ["1", absent, "2"] if absent == "" else [1.0, absent, 2.0]
    question = Task("t", "x").prepare(silent(values, values, values), 1)
    assert question.classes == ["1", "2"]
    assert question.parts["test"].items.tolist() == [6, 8]


def test_one_value_is_one_class_over_all_splits():
    question = Task("t", "x", classes=[1, 2.0]).prepare(silent([1, 2], [1.0, 2.0], ["1", "2"]), 1)
    assert question.classes == ["1", "2"] and question.parts["test"].labels.tolist() == [0, 1]
    with pytest.raises(UserError, match="task t: this data has labels '0' and 'False': booleans written in two ways"):
        Task("t", "x").prepare(silent([1, 0], [True, False], [1, 0]), 1)
    with pytest.raises(UserError, match=r"a label is a list, not a single value: \['a'\]"):
        Task("t", "x").prepare(silent([["a"], None], ["b"], ["b"]), 1)


def test_numbers_are_classes_in_their_order():
    column = np.arange(12)
    assert Task("t", "x").prepare(silent(column, column, column), 1).classes == [str(i) for i in range(12)]


def test_classes_and_min_count_leave_items_out():
    column = ["yes"] * 3 + ["no"] * 3 + ["bird"] * 3
    few = column + ["rare"]
    question = Task("t", "x", classes=["yes", "no"]).prepare(silent(column, column, column), 1)
    assert question.classes == ["no", "yes"] and len(question.parts["train"]) == 6
    question = Task("t", "x", min_count=4).prepare(silent(few, column, column), 1)
    assert question.classes == ["bird", "no", "yes"]


def test_max_items_takes_the_same_items_again(caplog):
    column = ["a", "b"] * 50
    pool = silent(column, column, column)
    first, second = (Task("t", "x", max_items=30).prepare(pool, 1).parts for _ in range(2))
    told = [record.getMessage() for record in caplog.records]
    assert "task t: 30 of 100 items of train are used: task.max_items=null for all" in told
    assert len(told) == len(set(told))
    assert [len(first[p]) for p in first] == [30, 30, 30]
    for part in first:
        assert first[part].items.tolist() == second[part].items.tolist() == sorted(set(first[part].items.tolist()))


def test_a_label_that_train_has_not_is_named():
    with pytest.raises(
        UserError, match="test has labels that train has not: q, z — set task/split=by_item.*task.classes"
    ):
        Task("t", "x").prepare(silent(["a", "b"], ["a"], ["z", "b", "q"]), 1)


def test_few_items_of_train_are_of_every_class():
    column = [*"ab" * 50, "c", "d"]
    question = Task("t", "x", max_items=5).prepare(silent(column, ["c"], ["d"]), 1)
    assert question.classes == ["a", "b", "c", "d"] and len(question.parts["train"]) == 5
    assert np.unique(question.parts["train"].labels).tolist() == [0, 1, 2, 3]
    with pytest.raises(UserError, match="task.max_items that is larger than the number of classes"):
        Task("t", "x", max_items=2).prepare(silent(column, ["c"], ["d"]), 1)


def test_classes_of_one_item_are_told_so_where_the_split_is_by_item():
    with pytest.raises(UserError, match="valid has no labelled items — task/split=by_item gives.*three items or more"):
        Task("t", "x", split=ByItem()).prepare(silent(["a", "b", "c"], ["d"], ["e"]), 1)


def test_one_class_is_nothing_to_tell_apart():
    with pytest.raises(UserError, match="all of train is labelled 'a'"):
        Task("t", "x").prepare(silent(["a", "a"], ["a"], ["a"]), 1)


def test_a_part_without_labels_says_what_to_do():
    with pytest.raises(UserError, match="test has no labelled items — set task/split=by_item"):
        Task("t", "x").prepare(silent(["a", "b"], ["a"], ["", ""]), 1)
    with pytest.raises(UserError, match="no item of this data has a label 'x'"):
        Task("t", "x").prepare(silent([""], [""], [""]), 1)


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(UserError, match="no labels 'digit'; it has: x"):
        Task("t", "digit").prepare(silent(["a"], ["a"], ["a"]), 1)


def test_a_column_that_only_some_splits_have_is_enough_to_split_anew():
    data = Held(*(Items([torch.zeros(4)] * 10, columns) for columns in ({"x": np.array(["a", "b"] * 5)}, {}, {})))
    question = Task("t", "x", split=ByItem()).prepare(Pool(data), 1)
    assert sum(len(part) for part in question.parts.values()) == 10


def test_values_are_kept_and_a_word_among_them_is_named():
    task = Task("t", "x", kind="regression", metric="pearson_spearman")
    question = task.prepare(silent(["1.5", "2"], ["3"], ["4"]), 1)
    assert question.classes is None and question.parts["train"].labels.tolist() == [1.5, 2.0]
    with pytest.raises(UserError, match="'many' of 0/1 is not a number"):
        task.prepare(silent(["1.5", "many"], ["3"], ["4"]), 1)


# --- frames


def phones(*items):
    """Splits of one utterance each: (samples, starts, ends, labels) at 10 samples a second."""
    splits = []
    for samples, *stretch in items:
        splits.append(Items([torch.zeros(samples)], intervals={"phone": [Intervals(*map(np.array, stretch))]}))
    return Pool(Held(*splits))


def test_a_frame_has_the_label_that_holds_at_its_centre():
    # frames of 5 samples, 0.5 s: centres at 0.25, 0.75, ... 2.75
    item = (33, [0.3, 1.0, 1.5], [1.0, 1.3, 2.75], ["a", "b", "c"])
    question = Task("t", "phone", kind="frames").prepare(phones(item, item, item), 5)
    assert question.parts["train"].centres.tolist() == [7.5, 12.5, 17.5, 22.5]  # 0.25 and 2.75 are in none
    assert labels(question, "train") == ["a", "b", "c", "c"]


def test_intervals_need_no_order_and_empty_ones_count_as_none():
    item = (20, [1.0, 0.0], [2.0, 1.0], ["", "a"])
    question = Task("t", "phone", kind="frames").prepare(phones(item, item, item), 5)
    assert labels(question, "test") == ["a", "a"]


def test_a_phone_that_train_has_not_is_scored_nevertheless():
    known, other = (20, [0.0], [2.0], ["a"]), (20, [0.0, 1.0], [1.0, 2.0], ["a", "b"])
    question = Task("t", "phone", kind="frames").prepare(phones(known, known, other), 5)
    assert question.classes == ["a", "b"] and question.unseen == ["b"]
    assert labels(question, "test") == ["a", "a", "b", "b"]


def test_max_frames_takes_the_same_frames_again():
    item = (500, [0.0], [50.0], ["a"])
    first, second = (
        Task("t", "phone", kind="frames", max_frames=20).prepare(phones(item, item, item), 5) for _ in "ab"
    )
    assert len(first.parts["train"]) == 20
    assert first.parts["train"].centres.tolist() == second.parts["train"].centres.tolist()
    assert np.ptp(first.parts["train"].centres) > 250  # from all of the utterance


def test_what_frames_lack_is_said():
    item, none = (20, [0.0], [2.0], ["a"]), (20, [5.0], [6.0], ["a"])
    with pytest.raises(UserError, match="no time-aligned labels 'tone'; it has: phone"):
        Task("t", "tone", kind="frames").prepare(phones(item, item, item), 5)
    with pytest.raises(UserError, match="no frame of test lies in an interval 'phone'"):
        Task("t", "phone", kind="frames").prepare(phones(item, item, none), 5)


# --- splitting anew


def test_no_group_is_in_two_parts():
    pool = silent(*[[f"s{(i * 7 + n) % 11}" for i in range(40)] for n in range(3)])
    parts = ByGroup("x")(pool, np.arange(120), None)
    groups = [{pool.column("x")[i] for i in parts[p]} for p in ("train", "valid", "test")]
    assert sum(len(g) for g in groups) == 11 == len(set.union(*groups)) and all(groups)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(120))


def test_two_groups_cannot_be_split():
    with pytest.raises(UserError, match="2 groups of 'x'"):
        ByGroup("x")(silent(["a"], ["b"], ["a"]), np.arange(3), None)
    with pytest.raises(
        UserError, match="this data has no labels 'speaker'; it has: x — set task.split.column to the one"
    ):
        ByGroup("speaker")(silent(["a"], ["b"], ["a"]), np.arange(3), None)


def test_each_class_is_split_in_the_same_shares():
    column = np.array(["a"] * 50 + ["b"] * 10 + ["c"] * 3)
    pool = silent(column, column[:0], column[:0])
    parts = ByItem()(pool, np.arange(63), column)
    counts = {p: [int((column[at] == k).sum()) for k in "abc"] for p, at in parts.items()}
    assert counts == {"train": [30, 6, 1], "valid": [10, 2, 1], "test": [10, 2, 1]}


def test_a_seed_splits_otherwise_and_the_same_one_alike():
    column = np.array(["a"] * 50)
    pool = silent(column, column[:0], column[:0])
    one, two, other = (ByItem(seed=s)(pool, np.arange(50), column)["test"].tolist() for s in (0, 0, 1))
    assert one == two != other


# --- what is refused before any data is read


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Task("t", "x", metric="pearson_spearman"), "pearson_spearman does not score classification"),
        (lambda: Task("t", "x", kind="regression", metric="accuracy"), "one that does: pearson_spearman"),
        (lambda: Task("t", "x", max_items=0), "must be 1 or more"),
        (lambda: Task("t", "x", modality=["smell"]), "image, speech, text"),
        (
            lambda: Task("t", "x", kind="regression", metric="pearson_spearman", classes=["a"]),
            "not for values",
        ),
        (lambda: ByItem(valid=0.5, test=0.5), "leave some to train on"),
        (lambda: ByGroup("x", test=0.0), "above 0"),
    ],
)
def test_a_wrong_config_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_a_task_that_does_not_fit_is_refused_without_reading():
    data = Held(None, None, None)
    encoder = Framed()
    with pytest.raises(ConfigError, match="about text data: its data is speech"):
        Task("t", "x", modality=["text"]).check(encoder, data)
    encoder.reads = {"sample_rate": 10}
    with pytest.raises(ConfigError, match="sample_rate 16000, but the encoder reads 10"):
        Task("t", "x", data=Held(None, None, None, sample_rate=16000)).check(encoder, data)
    encoder.offers = frozenset()
    with pytest.raises(ConfigError, match="labels frames, and Framed gives one vector"):
        Task("t", "x", kind="frames").check(encoder, data)


def test_a_pool_is_all_items_of_the_data_in_order():
    data = spoken((5, 3, 2))
    pool = Pool(data)
    assert len(pool) == 10 and pool.names()[5] == "1/0"
    found = {start: indices.tolist() for _, indices, start in pool.located(np.array([1, 4, 6, 9]))}
    assert found == {0: [1, 4], 5: [1], 8: [1]}
