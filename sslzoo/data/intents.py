"""Sets of spoken requests: Fluent Speech Commands, and Picovoice's speech-to-intent benchmark."""

import json

import numpy as np

from sslzoo.data import delimited, files, splits, tree
from sslzoo.data.audio import AudioData
from sslzoo.data.index import Listing
from sslzoo.errors import UserError

NONE = "none"  # the class of a slot that an utterance has not
_SLOTS = ("action", "object", "location")


class FluentSpeechCommands(AudioData):
    """Fluent Speech Commands (1904.03670): data/{train,valid,test}_data.csv and wavs/speakers/<speaker>/<file>.wav.
    Labels: action, object, location, speaker, transcript."""

    def listing(self) -> Listing:
        root = files.rooted(self.path, "fluent_speech_commands_dataset")
        names, split, tables = [], [], []
        columns: dict[str, list[str]] = {key: [] for key in (*_SLOTS, "speaker", "transcript")}
        for part in ("train", "valid", "test"):
            table = root / "data" / f"{part}_data.csv"
            if not table.exists():
                raise UserError(f"there is no {table}, which Fluent Speech Commands has{files.elsewhere(table)}")
            found, _ = delimited.manifest(table, ("path",))
            for key in ("speakerId", "transcription", *_SLOTS):
                if key not in found:
                    raise UserError(f"{table} has no column '{key}', which Fluent Speech Commands has")
            names += found["path"]
            split += [part] * len(found["path"])
            columns["speaker"] += found["speakerId"]
            columns["transcript"] += found["transcription"]
            for key in _SLOTS:
                columns[key] += found[key]
            tables.append(table)
        return Listing(root, names, np.array(split), columns, walks=[], read=tables)


class Barista(AudioData):
    """Picovoice's speech-to-intent benchmark: speech/clean/<file>, label/label.json with each file's intent and slots,
    and optionally label/{train,valid,test}.lst, file names by line; without them, parts are taken by a hash of the
    names. Labels: intent and every slot, "none" where an utterance has it not; slots, the values of all, marked, in the
    order of the slots' names, for the set has neither the words around them nor the order in which they are said."""

    def listing(self) -> Listing:
        root = files.rooted(self.path, "speech-to-intent-barista")
        table = root / "label" / "label.json"
        if not table.exists():
            raise UserError(f"there is no {table}, which the set has{files.elsewhere(table)}")
        try:
            said = json.loads(files.read_text(table))
        except ValueError as error:
            raise UserError(f"{table} is not JSON: {error}") from error
        lists = {part: root / "label" / f"{part}.lst" for part in ("train", "valid", "test")}
        part_of = {
            line.strip(): part
            for part, path in lists.items()
            if path.exists()
            for line in files.lines(path)
            if line.strip()
        }
        folder = root / "speech" / "clean"
        names = [name for name in tree.walk(folder, (".flac", ".wav")) if name in said]
        if not names:
            raise UserError(f"{folder} has no file that {table} names")
        for name in names:
            if part_of and name not in part_of:
                raise UserError(f"{name} of {table} is in none of {', '.join(path.name for path in lists.values())}")
        slots = sorted({slot for name in names for slot in said[name]["slots"]})
        columns = {slot: [said[name]["slots"].get(slot, NONE).strip() for name in names] for slot in slots}
        pairs = [[(slot, columns[slot][i]) for slot in slots] for i in range(len(names))]
        columns["slots"] = [" ".join(f"[{slot} {x}]" for slot, x in found if x != NONE) for found in pairs]
        columns["intent"] = [said[name]["intent"] for name in names]
        split = splits.fill([part_of.get(name, "train") for name in names], names, str(root))
        return Listing(
            folder, names, split, columns, walks=[(folder, (".flac", ".wav"))], read=[table, *lists.values()]
        )
