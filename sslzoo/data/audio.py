"""Base classes of audio sets, and folders of audio files."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sslzoo.data import delimited, file_labels, files, index, labels, sound, splits, stored, tree
from sslzoo.data.base import SPLITS, Data, Split
from sslzoo.data.index import Check, Index, Listing
from sslzoo.data.remote import Member
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import ConfigError, UserError

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".sph",
)  # fmt: skip
# libsndfile cannot read these
UNREAD = (
    ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".amr", ".3gp", ".webm", ".mka", ".mkv", ".mov", ".avi", ".ape",
    ".alac", ".wv", ".tta", ".mp2", ".mpc", ".ra", ".spx", ".shn", ".dsf", ".pcm",
)  # fmt: skip


class AudioSplit(Split):
    """Files as float32 [N] at `sample_rate`; frames and rates [N]: of the files before resampling."""

    def __init__(self, root, names, frames, rates, columns, sample_rate: int, cut: int | None):
        self.root, self.names, self.sample_rate = root, names, sample_rate
        self.frames, self.rates = frames, rates
        self.lengths = sound.resampled(frames, rates, sample_rate)
        self.columns, self.intervals, self.cut = columns, {}, cut

    def file(self, index: int) -> Path | Member:
        return self.root / self.names[index]

    def read(self, index: int, seed: int | None = None) -> Tensor:
        start, stop = self.window(index, seed)
        path = self.file(index)
        samples = sound.decode_at(path, int(self.rates[index]), self.sample_rate, start, stop)
        # soxr may return one sample too few for very short files
        if len(samples) < stop - start - 1:
            raise UserError(f"{path} is shorter than when it was opened: it has changed since")
        return torch.from_numpy(np.pad(samples, (0, stop - start - len(samples))))

    def stamp(self) -> str | None:
        return files.stamp(self.root, self.names, "audio", str(self.sample_rate), np.asarray(self.lengths))


class AudioData(Data):
    """A set of audio files. A subclass implements `listing`.

    path: the folder of the set. sample_rate: Hz. max_seconds: training crops longer files to this length, at a
    random position. min_seconds: a shorter file is bad. on_error: "raise" stops at a bad file, "skip" logs it and
    leaves it out.

    check: how files are checked before the first run. "whole" decodes each file fully, and detects at every start
    files modified in place. "headers" reads only the lengths; later damage, and wrong lengths in the headers of
    variable-rate MP3s, are found during the run. "none" also reads the lengths, which batching needs, but never
    raises: files without a length or too short are left out whatever `on_error` is.
    null: "whole" up to 5000 files, "headers" above (`index.MANY`).
    """

    modality = "speech"

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        min_seconds: float = 0.1,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
    ):
        check_audio(sample_rate, max_seconds, min_seconds)
        batch.rate = sample_rate
        self.path, self.batch, self.sample_rate = path, batch, sample_rate
        self.max_seconds, self.min_seconds, self.on_error, self.check = max_seconds, min_seconds, on_error, check
        self._index: Index | None = None
        self._opened: dict[str, AudioSplit] = {}

    def listing(self) -> Listing:
        """All files of the set, of all splits. Raises UserError if there are none.

        A function of the files and the subclass's settings only: the result is cached (see `data.index`).
        """
        raise NotImplementedError

    @property
    def known_as(self) -> str:
        """The name of its index: a hash of the settings that `listing` depends on."""
        free = ("batch", "sample_rate", "max_seconds", "min_seconds", "on_error", "check", "download", "seed")
        return f"audio-{index.identity(self, *free)}"

    def split(self, name: str) -> AudioSplit:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _open(self, name: str) -> AudioSplit:
        if self._index is None:
            self._index = index.opened(
                self.known_as, self.listing, ("frames", "rates"), sound.inspect, self.check, self.on_error
            )
        found = self._index
        rows, arrays = found.rows(name), found.arrays
        names, faults, count = found.names(rows), found.faults(rows), rows.stop - rows.start
        if not count:
            raise UserError(f"{found.root} has no {name} split")
        frames, rates = arrays["frames"][rows], arrays["rates"][rows]
        short = np.flatnonzero(frames / np.maximum(rates, 1) < self.min_seconds)
        if len(short):
            short = short[~np.isin(short, list(faults))]
            for i in short[: files.SHOWN].tolist():
                faults[i] = (
                    f"{found.root / names[i]} is {frames[i] / rates[i]:.3g} s ({frames[i]} samples), "
                    f"shorter than data.min_seconds={self.min_seconds:g}"
                )
            faults |= dict.fromkeys(short[files.SHOWN :].tolist(), "too short")
        if faults:
            on_error = "skip" if found.check == "none" else self.on_error
            kept = files.drop_faulty(f"{found.root} ({name})", count, faults, on_error)
            rows, frames, rates = stored.narrowed(rows, kept), frames[kept], rates[kept]
        split = AudioSplit(
            found.root,
            found.names(rows),
            frames,
            rates,
            found.columns(rows),
            self.sample_rate,
            None if self.max_seconds is None else round(self.max_seconds * self.sample_rate),
        )
        split.on_error = self.on_error
        return split


class AudioFolder(AudioData):
    """All audio files under a folder, or those that a manifest lists.

    manifest: a .tsv or .csv file with a header, relative to `path`: a column "path", optionally a column "split",
    and label columns. Without one, folders are splits or classes (see `splits.layout`), and the label column
    "folder" is the name of a file's folder within its split. Missing splits are taken from the training files by a
    hash of their names. labels_from: a pattern that parses labels from file names (see `file_labels`).
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        min_seconds: float = 0.1,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
        manifest: str | None = None,
        labels_from: str | None = None,
    ):
        super().__init__(path, batch, sample_rate, max_seconds, min_seconds, on_error, check)
        if manifest is not None and not manifest.lower().endswith(delimited.SUFFIXES):
            raise ConfigError(f"data.manifest must be a .tsv or .csv file, got {manifest}")
        self._labels = file_labels.read(labels_from)
        self.manifest, self.labels_from = manifest, labels_from

    def listing(self) -> Listing:
        root = files.rooted(self.path)
        found = self._from_folders(root) if self.manifest is None else self._from_manifest(root)
        if self._labels is not None:
            if self.manifest is not None and (twice := set(self._labels.fields) & set(found.columns)):
                raise UserError(
                    f"data.labels_from and {root / self.manifest} both say '{min(twice)}': rename one of them"
                )
            fields, found.misfits = self._labels.columns(found.names, str(root))
            found.columns |= fields
        return found

    def _from_folders(self, root: Path) -> Listing:
        walk = (root, (*SUFFIXES, *UNREAD))
        mend = "convert them to .wav or .flac, as `ffmpeg -i a.m4a a.flac` does"
        names, left = files.readable(root, tree.look(*walk).names(), SUFFIXES, UNREAD, mend)
        found = splits.layout(names, str(root))
        split = splits.fill(found.split, names, str(root))
        folders = [splits.label(name.split("/")[-2]) if "/" in name else "" for name in found.inner]
        return Listing(root, names, split, {"folder": folders}, walks=[walk], notes=[*left, *found.said()])

    def _from_manifest(self, root: Path) -> Listing:
        manifest = root / self.manifest
        table, lines = delimited.manifest(manifest)
        names = table.pop("path")
        given = table.pop("split", ["train"] * len(names))
        known = splits.named(given)
        split = [known.get(name) for name in given]
        for line, name, said, found in zip(lines, names, given, split, strict=True):
            if not name:
                raise UserError(f"{manifest}, line {line}: 'path' is empty")
            if found is None:
                raise UserError(f"{manifest}, line {line}: split '{said}' is none of {', '.join(SPLITS)}")
        columns = {key: list(map(labels.name, values)) for key, values in table.items()}
        return Listing(root, names, splits.fill(split, names, str(manifest)), columns, walks=[], read=[manifest])


def check_audio(sample_rate: int, max_seconds: float | None, min_seconds: float) -> None:
    if sample_rate < 1000:
        raise ConfigError(f"data.sample_rate is in Hz and must be at least 1000, got {sample_rate}")
    if min_seconds * sample_rate < 1:
        raise ConfigError(f"data.min_seconds must be at least one sample (1/{sample_rate} s), got {min_seconds:g}")
    if max_seconds is not None and max_seconds < min_seconds:
        raise ConfigError(f"data.max_seconds={max_seconds:g} is less than data.min_seconds={min_seconds:g}")


def download(dataset: str, path: str, **arguments) -> None:
    """Let torchaudio's `dataset` download itself to `path`.

    The only use of torchaudio outside `nn.mel`: its downloader has the archives' URLs and checksums.
    """
    import torchaudio

    Path(path).mkdir(parents=True, exist_ok=True)
    try:
        getattr(torchaudio.datasets, dataset)(path, download=True, **arguments)
    except Exception as error:  # network, checksum, disk: the downloader has no exception class
        raise UserError(f"cannot download {dataset} to {path}: {error}") from error
