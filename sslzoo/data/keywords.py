"""Speech Commands' twelve classes: ten words, other words, and silence."""

from pathlib import Path

import numpy as np

from sslzoo.data import files, splits, tree
from sslzoo.data.audio import AudioData
from sslzoo.data.index import Listing
from sslzoo.errors import UserError

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
_TEST = ("speech_commands_test_set_v0.01", "speech_commands_test_set_v0.02")
_TRAIN = ("speech_commands_v0.01", "speech_commands_v0.02")


class Keywords(AudioData):
    """Speech Commands (1804.03209, section 7) as twelve classes. Labels: keyword (ten words, `_unknown_` for all other
    words, `_silence_`), word, speaker ("" for noise and for the test set).

    path: holds speech_commands_v0.01 and speech_commands_test_set_v0.01, the official test set with a folder a class,
    of which train and valid are the first's by its lists, without what they call testing; or a set alone, whose own
    lists then make the parts. The files of `_background_noise_` are silence: of a minute or more, training reads
    `max_seconds` at random, as s3prl does.
    """

    def listing(self) -> Listing:
        root = files.rooted(self.path, "SpeechCommands")
        train = next((name for name in _TRAIN if (root / name).is_dir()), "")
        test = next((name for name in _TEST if (root / name).is_dir()), None)
        names = [name for name in tree.walk(root / train, (".wav",)) if "/" in name and not name.startswith(_TEST)]
        if not any(name.split("/")[0] in WORDS for name in names):
            raise UserError(
                f"{root / train} has no folder of any of the words {', '.join(WORDS)} with .wav files in it"
            )
        lists = {"valid": root / train / "validation_list.txt", "test": root / train / "testing_list.txt"}
        split = np.full(len(names), "train", "<U5")
        for part, path in lists.items():
            if path.exists():
                split[np.isin(names, [line.strip() for line in files.lines(path)])] = part
        words = [name.split("/")[0] for name in names]
        speakers = ["" if word == NOISE else Path(name).stem.split("_nohash_")[0] for word, name in zip(words, names)]
        prefix = f"{train}/" if train else ""
        names = [prefix + name for name in names]
        walks = [(root / train, (".wav",))]
        if test is not None:
            kept = np.flatnonzero(split != "test")  # what the lists call testing is not trained on
            names, words, speakers = ([x[i] for i in kept] for x in (names, words, speakers))
            more = tree.walk(root / test, (".wav",))
            split = np.append(split[kept], np.full(len(more), "test", "<U5"))
            names += [f"{test}/{name}" for name in more]
            words += [name.split("/")[0] for name in more]
            speakers += [""] * len(more)
            walks.append((root / test, (".wav",)))
        noise = np.array([word == NOISE for word in words])
        by = np.array([speaker or name for name, speaker in zip(names, speakers, strict=True)])
        split[~noise] = splits.fill(split[~noise], by[~noise].tolist(), str(root))
        if noise.sum() > 2:
            split[noise] = splits.fill(["train"] * int(noise.sum()), by[noise].tolist(), str(root))
        if SILENCE in words:  # of the test set
            split[noise & (split == "test")] = "train"
        keyword = [w if w in WORDS else SILENCE if w in (NOISE, SILENCE) else UNKNOWN for w in words]
        columns = {"keyword": keyword, "word": words, "speaker": speakers}
        return Listing(root, names, split, columns, walks=walks, read=list(lists.values()))
