"""VoxCeleb1 in the layout of its download."""

import numpy as np

from sslzoo.data import files, tree
from sslzoo.data.audio import AudioData
from sslzoo.data.index import Listing
from sslzoo.errors import UserError

LISTS = ("iden_split.txt", "veri_test_class.txt")  # lines: 1, 2 or 3 for train, valid or test, and a file
_PARTS = {"1": "train", "2": "valid", "3": "test"}
_FOLDERS = ("wav", "dev/wav", "test/wav")
_SOUND = (".wav", ".flac", ".m4a")


class VoxCeleb1(AudioData):
    """VoxCeleb1 (1706.08612): wav/<speaker>/<video>/<number>.wav, or dev/wav and test/wav, and iden_split.txt, whose
    split has every speaker in every part. Label: speaker."""

    def listing(self) -> Listing:
        root = files.rooted(self.path, "VoxCeleb1")
        lists = [root / name for name in LISTS if (root / name).exists()]
        if not lists:
            raise UserError(
                f"{root} has no iden_split.txt, VoxCeleb1's split for identification: put it there, from the set's page"
            )
        folders = [name for name in _FOLDERS if (root / name).is_dir()]
        there = {file: f"{folder}/{file}" for folder in folders for file in tree.look(root / folder, _SOUND).names()}
        names, split, gone = [], [], []
        for number, line in enumerate(files.lines(lists[0]), 1):
            part, _, file = line.strip().partition(" ")
            if not part:
                continue
            if part not in _PARTS or file.count("/") != 2:
                raise UserError(f"{lists[0]}, line {number} is not of the form 1 SPEAKER/VIDEO/FILE.wav")
            if file in there:
                names.append(there[file])
                split.append(_PARTS[part])
            else:
                gone.append(file)
        if not names:
            raise UserError(f"{root} has no file of {lists[0].name}, such as wav/{gone[0] if gone else 'id10001/…'}")
        notes = (
            [f"{root}: {len(gone)} of the files in {lists[0].name} are not there: used are the others"] if gone else []
        )
        columns = {"speaker": [name.split("/")[-3] for name in names]}
        walks = [(root / folder, _SOUND) for folder in folders]
        return Listing(root, names, np.array(split), columns, walks=walks, read=lists, notes=notes)
