"""The subject of a probe: a run's encoders and data, and the features that were read with them."""

from pathlib import Path

import numpy as np
import torch

from sslzoo.data.base import Data
from sslzoo.encoders.base import Encoder
from sslzoo.features.compatible import with_run_tokenizer
from sslzoo.features.frozen import Frozen
from sslzoo.features.store import FeatureCache
from sslzoo.probe import raw
from sslzoo.probe.bags import BagReader
from sslzoo.probe.reader import Reader
from sslzoo.probe.splits import Pool
from sslzoo.probe.stored_reader import StoredReader
from sslzoo.probe.tasks import Task

RAW = "raw"


class OpenedData:
    """A data set as a pool, and a reader for each kind of features. Features are kept for all tasks."""

    def __init__(self, data: Data, encoders: dict[str, Encoder], device: str | torch.device, cache: FeatureCache):
        self.pool = Pool(data)
        self.readers: dict[str, Reader] = {
            kind: StoredReader(Frozen(encoder, device), self.pool, kind, cache) for kind, encoder in encoders.items()
        }

    def reader(self, kind: str, train: np.ndarray) -> Reader:
        """The reader of an encoder's features or raw ones. train: places on which a bag's vocabulary is chosen."""
        learns = kind == RAW and self.pool.data.modality == "text"
        if learns or kind not in self.readers:
            reads = BagReader if self.pool.data.modality == "text" else Reader
            self.readers[kind] = reads(raw.source(self.pool, train), self.pool, kind)
        return self.readers[kind]


class ProbeSubject:
    """encoders: {"pretrained": encoder, "untrained": encoder}; raw features are added. data: the run's.
    folder: the run's, with the tokenizer for a task's own data. cache: where features are kept; None: in a temporary
    folder, as long as this subject. leakage_items: see `probe.leakage`, its `most`."""

    def __init__(
        self,
        encoders: dict[str, Encoder],
        data: Data,
        folder: Path | None = None,
        device: str | torch.device = "cpu",
        cache: FeatureCache | None = None,
        leakage_items: int = 100_000,
    ):
        self.encoders, self.data, self.folder, self.device = encoders, data, folder, torch.device(device)
        self.cache, self.leakage_items = cache or FeatureCache(), leakage_items
        self.kinds = [*encoders, RAW]
        self._own: OpenedData | None = None

    @property
    def encoder(self) -> Encoder:
        return next(iter(self.encoders.values()))

    def opened(self, task: Task) -> OpenedData:
        """The data of a task: its own, or the run's, which stays open for the next task."""
        if task.data is not None:
            return OpenedData(
                with_run_tokenizer(task.data, self.data, self.folder), self.encoders, self.device, self.cache
            )
        if self._own is None:
            self._own = OpenedData(self.data, self.encoders, self.device, self.cache)
        return self._own
