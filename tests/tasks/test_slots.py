"""Slot filling: symbols around characters, scores worked by hand and against s3prl's."""

import json

import numpy as np
import pytest
from tiny_tasks import tiny_task

from sslzoo.adapt.command import run_adapt
from sslzoo.data.builtin.spoken import slots
from sslzoo.data.transcripts import Slots, Unknown
from sslzoo.errors import ConfigError, UserError
from sslzoo.tasks.slot_scores import slots_of, transcript_scores, type_f1, value_cer


def test_slots_are_symbols_around_the_characters_of_their_values(tmp_path):
    symbols = Slots(["room", "thing"])
    assert len(symbols.names) == 35 and symbols.names[-4:] == ["B-room", "E-room", "B-thing", "E-thing"]
    numbers = symbols.encode("turn on the [room living room] [thing fan]")
    names = [symbols.names[i] for i in numbers]
    assert (
        names[12:15] == ["B-room", "L", "I"] and names[-1] == "<eos>" and names[-6:-1] == ["B-thing", *"FAN", "E-thing"]
    )
    assert names[names.index("E-room") + 1] == " " and "  " not in "".join(names)
    assert symbols.decode(numbers) == "TURN ON THE B-room LIVING ROOM E-room B-thing FAN E-thing"
    with pytest.raises(Unknown, match="the slot door — it is none of"):
        symbols.encode("[door a]")
    path = tmp_path / "slots.txt"
    path.write_text("O\nroom\nthing\n")
    found = Slots(str(path))
    found.load()
    assert found.names == symbols.names
    with pytest.raises(UserError, match="there is no file of slots"):
        Slots("none.txt").load()
    with pytest.raises(ConfigError, match="one or more"):
        Slots([])


def test_scores_by_hand():
    truth = ["PLAY B-artist THE BAND E-artist", "B-room HALL E-room B-thing FAN E-thing", "NOTHING"]
    assert slots_of(truth[1]) == {"room": ["HALL"], "thing": ["FAN"]} and slots_of(truth[2]) == {}
    assert type_f1(truth, truth) == 1 and value_cer(truth, truth) == 0
    said = ["PLAY B-artist THE BAN E-artist", "B-room HALL FAN", "B-room X E-room"]
    assert slots_of(said[1]) == {}  # not closed
    assert type_f1(said, truth) == pytest.approx((1 + 0 + 0) / 3)
    assert value_cer(said, truth) == pytest.approx((1 + 4 + 3) / (8 + 4 + 3))
    half = ["", "B-room HALL E-room", "NOTHING"]
    assert type_f1(half, truth) == pytest.approx((0 + 2 / 3 + 1) / 3)  # one of two: precision 1, recall a half
    two = ["B-room A E-room B-room HALL E-room"], ["B-room HAL E-room"]
    assert value_cer(*two) == pytest.approx(1 / 3)  # the closest of the same slot
    assert set(transcript_scores(["slot_f1", "slot_cer", "wer"], said, truth)) == {"slot_f1", "slot_cer", "wer"}


def test_slots_of_spoken():
    found = slots(np.array(["on light"]), np.array(["turn on the kitchen light"]))
    assert found["slots"].tolist() == ["turn on the [location kitchen] [object light]"]


def test_from_command_to_result():
    config = tiny_task("speech-letters", "trainer.max_steps=2", "objective.augment=null")
    config["task"] |= {"metric": "slot_f1", "label": "slotted"}
    config["task"]["symbols"] = {"_target_": "sslzoo.data.transcripts.Slots", "slots": ["x"]}
    found = json.loads(run_adapt({**config, "name": "sf"}, {"method": "full"}).read_text())
    assert {"slot_f1", "slot_cer", "wer", "cer", "loss", "unaligned"} == set(found["test"]) and len(
        found["classes"]
    ) == 33
    assert 0 <= found["test"]["slot_f1"] <= 1 and found["chance"] == 0
