"""A probe beside the training: what the encoder knows by now, on held-out data."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslzoo import distributed, rng
from sslzoo.data.base import Batch, Data, Split
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import Frozen, units
from sslzoo.nn.rank import lidar, rankme
from sslzoo.probe.heads import Neighbours, fit
from sslzoo.probe.reader import Scale
from sslzoo.train.callback import StepCallback
from sslzoo.train.validate import evaluating

_log = logging.getLogger("sslzoo")
_FEWEST = 10  # items of LiDAR


class OnlineProbe(StepCallback):
    """Logs, every so many steps and at the last one, how well the encoder's last layer predicts a label on the
    validation split: `probe_linear`, of a linear head, and `probe_knn`, of weighted nearest neighbours, both fitted
    anew to items of the training split; and `rankme` and `lidar`, which need no labels. Accuracies from 0 to 1.

    The encoder is in eval mode, without gradients; nothing is drawn from torch's generators, and nothing is kept from
    one time to the next, so that a run has the same weights with it as without, and a resumed run the same curve. Long
    items are cropped as in training. Every rank computes the same.

    label: the label column; None: the only one, and without one the accuracies are left out, which is said. every:
    steps; None: a tenth of the run. items: of train and of valid, at most. penalty: of the linear head. k, temperature:
    of the neighbours. lidar_items, lidar_views: of LiDAR, in the objective's own views, or else in crops of long items;
    without either it is left out, which is said.
    """

    def __init__(
        self,
        label: str | None = None,
        every: int | None = None,
        items: int = 1000,
        penalty: float = 0.01,
        k: int = 20,
        temperature: float = 0.07,
        lidar_items: int = 100,
        lidar_views: int = 10,
    ):
        if min(items, k, 1 if every is None else every, lidar_items) < 1 or min(penalty, temperature) <= 0:
            raise ConfigError("every, items, k, lidar_items, penalty and temperature must be above 0")
        if lidar_views < 2:
            raise ConfigError(f"lidar_views must be 2 or more, got {lidar_views}")
        self.label, self.every, self.items = label, every, items
        self.penalty, self.k, self.temperature = penalty, k, temperature
        self.lidar_items, self.lidar_views = lidar_items, lidar_views

    def on_fit_start(self, trainer, module) -> None:
        self.data: Data = trainer.datamodule.data
        every = self.every or max(1, module.total_steps // 10)
        self.steps = every
        module.also_log = [*module.also_log, every]
        self.splits = {name: self.data.split(name) for name in ("train", "valid")}
        label = self.label or self._only(self.splits["train"])
        self.chosen: dict[str, np.ndarray] = {}
        self.truth: dict[str, np.ndarray] = {}
        for name, split in self.splits.items():
            values = np.full(len(split), "all") if label is None else split.column(label).astype(str)
            self.chosen[name] = self._some(np.flatnonzero(values != ""), "online probe", name)
            self.truth[name] = values[self.chosen[name]]
        self.classes = np.unique(self.truth["train"]).tolist()
        if label is not None and len(self.classes) < 2:
            raise UserError(
                f"callbacks.online_probe: the items of train have {len(self.classes)} classes of '{label}': there is "
                "nothing to tell apart — set callbacks.online_probe.label to another column"
            )
        known = np.isin(self.truth["valid"], self.classes)
        self.chosen["valid"], self.truth["valid"] = self.chosen["valid"][known], self.truth["valid"][known]
        if not known.any():
            raise UserError(f"callbacks.online_probe: no item of valid has a class of '{label}' that train has")
        self.views = getattr(module.objective, "views", None)
        self.varied = self._varied()
        if len(self.varied) < _FEWEST:
            _log.warning(
                "callbacks.online_probe: no LiDAR: it takes %d items of valid in different views, of an objective that "
                "has views or of items that training crops", _FEWEST,
            )  # fmt: skip

    def _only(self, split: Split) -> str | None:
        """The only label column; None, with a warning, if there is none. Raises UserError if there are several."""
        if len(split.columns) > 1:
            some = ", ".join(split.columns)
            raise UserError(
                f"callbacks.online_probe: this data has several labels, {some}: set callbacks.online_probe.label"
            )
        if not split.columns:
            _log.warning("callbacks.online_probe: this data has no labels: only RankMe and LiDAR are logged")
        return next(iter(split.columns), None)

    def _some(self, places: np.ndarray, *words: str, most: int | None = None) -> np.ndarray:
        """At most `items` of these places, sorted, by a fixed hash."""
        return np.sort(places[rng.permutation(0, *words, n=len(places))[: most or self.items]])

    def _varied(self) -> np.ndarray:
        """Items of valid that have different views."""
        split = self.splits["valid"]
        able = np.arange(len(split))
        if self.views is None:
            able = able[:0] if split.cut is None else np.flatnonzero(split.lengths > split.cut)
        return self._some(able, "lidar", most=self.lidar_items)

    def after_step(self, trainer, module) -> None:
        step = trainer.global_step
        if step % self.steps and step != module.total_steps:
            return
        context = trainer.precision_plugin.val_step_context()
        with evaluating(module), module.gathered(), distributed.alone(), context:
            module.logged |= self.measure(module)

    @torch.no_grad()
    def measure(self, module) -> dict[str, float]:
        """What is logged, of the module's encoder as it is, in eval mode."""
        source = Frozen(module.encoder, module.device)
        train, valid = (self._features(source, name) for name in ("train", "valid"))
        with torch.autocast(module.device.type, enabled=False):
            found = {"rankme": rankme(valid)}
            if len(self.classes) > 1:
                found |= self._accuracies(train, valid)
        if len(self.varied) >= _FEWEST:
            found["lidar"] = lidar(self._views(module))
        return found

    def _features(self, source: Frozen, name: str) -> Tensor:
        """[N, D], the last layer's means of the chosen items of a split."""
        split, chosen = self.splits[name], self.chosen[name]
        found: list[Any] = [None] * len(chosen)
        for batch in ordered_loader(split, units(self.data), rng.derive_seed(0, "online probe"), indices=chosen):
            planes = source.item_planes(source.encode(batch)).cpu()
            for row, plane in zip(np.searchsorted(chosen, batch.index.numpy()).tolist(), planes, strict=True):
                found[row] = plane[source.main]
        return torch.stack(found)

    def _accuracies(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        number = {name: i for i, name in enumerate(self.classes)}
        known, asked = (torch.tensor([number[x] for x in self.truth[name]]) for name in ("train", "valid"))
        scale = Scale.of(train[None], per_dimension_scale=True)
        train, valid = scale(train[None].clone()), scale(valid[None].clone())
        head = fit(train, known, len(self.classes), self.penalty, steps=100)
        votes = Neighbours.of(train[0], torch.eye(len(self.classes))[known], self.k, self.temperature)
        right = {"probe_linear": head(valid).argmax(1) == asked, "probe_knn": votes(valid[0]).argmax(1) == asked}
        return {name: float(x.float().mean()) for name, x in right.items()}

    def _views(self, module) -> Tensor:
        """[N, Q, D], pooled vectors of the items of LiDAR in different views."""
        split = self.splits["valid"].for_views() if getattr(self.views, "crops", False) else self.splits["valid"]
        per = 1 if self.views is None else 2  # views of a draw
        draws = [self._draw(module, split, number)[:per] for number in range(-(-self.lidar_views // per))]
        return torch.stack([view for drawn in draws for view in drawn], 1)[:, : self.lidar_views]

    def _draw(self, module, split: Split, number: int) -> list[Tensor]:
        """Views [N, D] of all items of LiDAR, in the order of `varied`."""
        parts: dict[int, list[Tensor]] = {}
        seed = rng.derive_seed(0, "lidar", number)
        for batch in ordered_loader(split, units(self.data) / 4, seed, indices=self.varied):
            for place, *views in zip(batch.index.tolist(), *self._pooled(module, batch), strict=True):
                parts[place] = views
        return [torch.stack(view) for view in zip(*(parts[place] for place in self.varied.tolist()), strict=True)]

    def _pooled(self, module, batch: Batch) -> list[Tensor]:
        batch = batch.to(module.device)
        if self.views is None:
            return [module.encoder(batch.inputs, batch.lengths).pooled.float().cpu()]
        drawn = self.views.draw(module.encoder, batch)
        kept = replace(drawn, views=drawn.views[:2])  # of multi-crop, the global views
        return [view.float().cpu() for view in self.views.embed(module.encoder, kept)]
