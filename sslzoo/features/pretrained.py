"""A finished run's encoder for use in Python: the object that `sslzoo.load` returns."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Batch, Data
from sslzoo.data.loader import collate, ordered_batches
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.errors import InputError, InputTypeError, nearest
from sslzoo.features import windows
from sslzoo.features.device import chosen_device
from sslzoo.features.frozen import Frozen, units
from sslzoo.features.given import read, taken_apart
from sslzoo.features.inputs import array_of
from sslzoo.run import Run

CHUNK = 1024  # items that are read at once and sorted by length into batches

Layer = int | Literal["all"]
What = Literal["tokens", "items"]
Weights = str | Sequence[float] | np.ndarray | Tensor


@dataclass
class Output:
    """An encoder's output for B items, on the CPU.

    hidden: the trunk's input and each layer's output, float32 [B, T, D] each, zero in the padding. lengths: int64 [B],
    valid steps of each item. pooled: float32 [B, D], one vector per item. prefix: number of steps before the first
    token, such as a class token. An encoder without tokens (a residual network) has one step, the pooled vector.
    """

    hidden: list[Tensor]
    lengths: Tensor
    pooled: Tensor
    prefix: int
    source: "PretrainedEncoder" = field(repr=False)

    @property
    def last(self) -> Tensor:
        """The last layer's output [B, T, D]."""
        return self.hidden[-1]

    def __len__(self) -> int:
        return len(self.lengths)

    def features(self, layer: Layer = -1, what: What | None = None) -> Any:
        """As `PretrainedEncoder.features`, for these items."""
        planes, what = self.source._planes(self, what)
        place = self.source._layer(layer)
        taken = [x if place == "all" else x[..., place, :] for x in planes]
        return torch.stack(taken) if what == "items" else taken

    def weighted_sum(self, weights: Weights, what: What | None = None) -> Any:
        """As `PretrainedEncoder.weighted_sum`, for these items."""
        planes, what = self.source._planes(self, what)
        factors = self.source._factors(weights, planes[0].shape[-2], what)
        mixed = [torch.einsum("...ld,l->...d", x, factors) for x in planes]
        return torch.stack(mixed) if what == "items" else mixed


class PretrainedEncoder:
    """A frozen encoder in eval mode, for arrays, tensors, images, files and texts.

        enc = sslzoo.load("my_run", device="cuda")
        out = enc(waves)                                   # out.hidden, out.lengths, out.pooled
        frames = enc.features(waves, layer=4)              # a list of [T, D], as `sslzoo extract` writes them
        vectors = enc.features(waves, layer=4, what="items")             # [B, D], the mean over each item's tokens
        mixed = enc.weighted_sum(waves, "word", what="items")            # with the weights that `sslzoo probe` learned

    Inputs are one item or several; an input of another modality is an InputTypeError:

    - images: uint8 or floats in 0..1, [H, W], [H, W, C] or [C, H, W] with C of 1, 3 or 4, a batch [B, …] of them, PIL
      images, paths of files. They are cropped to the centre square, resized and converted to the encoder's channels,
      as the run's data was. Do not normalise them, the encoder does that.
    - speech: [N] or a batch [B, N], of floats in -1..1, int16, int32 or uint8, paths of files. The channels of a file,
      and of a list's item [C, N] or [N, C], are averaged. `rate`: samples per second of arrays, by default
      `sample_rate`; files have their own. Other rates are resampled.
    - text: a string, a list of strings, of pairs of strings, or token ids [T] or [B, T]. A text longer than the run's
      `max_tokens` is truncated, with a warning.

    Items of different lengths come in a list, or padded with `lengths` [B]; internally they are batched by length.
    Inputs may be NumPy arrays, tensors on any device or lists; results are float32 tensors on the CPU, in the order
    of the items.

    encoder: the module itself, to use gradients or its stages (see `sslzoo.encoders.base`). run: the run that it was
    loaded from. modality: "image", "speech" or "text". dim: D. depth: layers of the trunk. stride: samples, pixels or
    tokens between neighbouring tokens. sample_rate, size, channels: of its inputs, None if not applicable.
    """

    def __init__(self, encoder: Encoder, data: Data, run: Run, device: str = "auto"):
        self.run, self.data = run, data
        self._frozen = Frozen(encoder, chosen_device(device))

    @property
    def encoder(self) -> Encoder:
        return self._frozen.encoder

    @property
    def device(self) -> torch.device:
        return self._frozen.device

    @property
    def modality(self) -> str:
        return self.encoder.modality

    @property
    def dim(self) -> int:
        return self.encoder.dim

    @property
    def depth(self) -> int:
        return self.encoder.depth

    @property
    def stride(self) -> int:
        return self.encoder.stride

    @property
    def sample_rate(self) -> int | None:
        return getattr(self.data, "sample_rate", None)

    @property
    def size(self) -> int | None:
        return getattr(self.data, "size", None)

    @property
    def channels(self) -> int | None:
        return getattr(self.data, "channels", None)

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer, with `encode(text)`, `decode(ids)`, `tokens(ids)`. Raises InputTypeError if none."""
        found = getattr(self.data, "tokenizer", None)
        if found is None:
            raise InputTypeError(f"{self.run.folder} is of {self.modality}, and has no tokenizer")
        return found

    def __repr__(self) -> str:
        of = f"{self.modality} at {self.sample_rate} Hz" if self.sample_rate else self.modality
        return f"<encoder of {of}, dim {self.dim}, {self.depth} layers, on {self.device}, from {self.run.folder}>"

    def to(self, device: str | torch.device) -> "PretrainedEncoder":
        """Move the encoder to a device, "auto" for a GPU if available, and return self."""
        self._frozen = Frozen(self.encoder, chosen_device(str(device)))
        return self

    def __call__(self, inputs: Any, lengths: Any = None, rate: int | None = None) -> Output:
        """All layers of all items (see `Output`). `features` needs less memory for a single layer.

        Raises InputTypeError (a TypeError) for inputs of another kind, InputError (a ValueError) for empty ones,
        non-finite values and wrong shapes; both name the item.
        """
        parts = list(self._outputs(taken_apart(self.data, inputs, lengths, rate), rate))
        order = torch.cat([places for places, _ in parts]).argsort()
        steps = max(out.last.shape[1] for _, out in parts)

        def joined(tensors: list[Tensor]) -> Tensor:
            return torch.cat(tensors)[order]

        def padded(x: Tensor) -> Tensor:
            return torch.nn.functional.pad(x, (0, 0, 0, steps - x.shape[1]))

        hidden = [joined([padded(out.hidden[i]) for _, out in parts]) for i in range(len(parts[0][1].hidden))]
        lengths, pooled = (joined([getattr(out, name) for _, out in parts]) for name in ("lengths", "pooled"))
        return Output(hidden, lengths, pooled, self.encoder.prefix, self)

    def features(
        self, inputs: Any, layer: Layer = -1, what: What | None = None, lengths: Any = None, rate: int | None = None
    ) -> Any:
        """One layer's features, as `sslzoo extract` writes them: 0 is the trunk's input, -1 the last layer.

        what: "tokens" for a list of [T, D], one per item, without a class token; "items" for their means, [B, D].
        None: tokens, or items if the encoder has no tokens. layer: "all" for [T, L, D] or [B, L, D]; for items, the
        encoder's pooled vector comes last unless it is the mean of the last layer.
        """
        return self._streamed(inputs, lengths, rate, what, lambda out: out.features(layer, what))

    def weighted_sum(
        self, inputs: Any, weights: Weights, what: What | None = None, lengths: Any = None, rate: int | None = None
    ) -> Any:
        """The weighted sum of the layers, in the shape of one layer's `features`.

        weights: numbers, one per layer and one for the trunk's input, used as they are; or the name of a task that
        `sslzoo probe` ran on this run, for the weights that its linear head learned on pretrained features, which sum
        to 1. Unlike the probe, this does not standardise the dimensions of each layer before the sum.
        """
        return self._streamed(inputs, lengths, rate, what, lambda out: out.weighted_sum(weights, what))

    def learned_weights(self, task: str) -> dict[str, float]:
        """{layer's name: its weight in the linear head of the task's probe}. Raises InputError if not probed."""
        path = self.run.probes / f"{task}.json"
        if not path.exists() and self.run.folder.parent.name == "adapted":
            raise InputError(
                "the weights of a probe are of the encoder before it was adapted: give numbers, one a layer"
            )
        if not path.exists():
            names = sorted(p.stem for p in self.run.probes.glob("*.json"))
            raise InputError(
                f"{self.run.folder} was not probed on '{task}'{nearest(task, names)} — probed are: "
                f"{', '.join(names) or 'none'}; `sslzoo probe run={self.run.folder} task={task}` does so"
            )
        found = json.loads(path.read_text(encoding="utf-8"))["pretrained"]["linear"]
        return dict(zip(found["layers"], found["layer_weights"], strict=True))

    @torch.no_grad()
    def _outputs(self, items: list[Any], rate: Any) -> Iterator[tuple[Tensor, Output]]:
        """Yield (indices of a batch's items, their output)."""
        most = getattr(getattr(self.encoder, "frontend", None), "max_tokens", None)
        for first in range(0, len(items), CHUNK):
            found = read(self.data, items[first : first + CHUNK], first, rate, most)
            sizes = np.array([len(x) if x.ndim == 1 else 1 for x in found])
            for places in ordered_batches(sizes, np.arange(len(found)), units(self.data)):
                batch = collate([(found[i], first + i, -1, {}) for i in places])
                long = windows.needed(batch, self._frozen.rate)
                encoded = self._of_windows(batch) if long else self._frozen.encode(batch)
                yield torch.tensor(places) + first, self._output(encoded)

    def _of_windows(self, batch: Batch) -> Encoded:
        """Long audio, encoded in windows as by `sslzoo extract`."""
        planes, lengths = self._frozen.tokens(batch)
        prefix = planes.new_zeros(len(planes), self.encoder.prefix, *planes.shape[2:])  # windows' prefixes are dropped
        hidden = list(torch.cat([prefix, planes], 1).unbind(2))
        return Encoded(hidden, lengths + self.encoder.prefix, self._frozen.items(batch)[:, -1])

    def _output(self, encoded: Encoded) -> Output:
        """On the CPU, with zeros in the padding."""
        lengths = encoded.lengths.cpu()
        hidden = [h.float().cpu() for h in encoded.hidden]
        inside = (torch.arange(hidden[0].shape[1]) < lengths[:, None])[..., None]
        hidden = [h.where(inside, 0.0) for h in hidden]
        return Output(hidden, lengths, encoded.pooled.float().cpu(), self.encoder.prefix, self)

    def _streamed(self, inputs: Any, lengths: Any, rate: Any, what: What | None, take: Callable[[Output], Any]) -> Any:
        items = taken_apart(self.data, inputs, lengths, rate)
        found: list[Any] = [None] * len(items)
        for places, out in self._outputs(items, rate):
            for place, row in zip(places.tolist(), take(out), strict=True):
                found[place] = row.clone()  # a view would keep all layers of the batch
        return torch.stack(found) if self._what(what) == "items" else found

    def _what(self, what: What | None) -> What:
        if what not in (None, "tokens", "items"):
            raise InputError(f"what must be tokens or items, got {what!r}")
        if what == "tokens" and not self._frozen.in_tokens:
            raise InputError(f"{type(self.encoder).__name__} gives one vector an item and has no tokens: what='items'")
        return what or ("tokens" if self._frozen.in_tokens else "items")

    def _planes(self, out: Output, what: What | None) -> tuple[list[Tensor], What]:
        """([T, L, D] of each item, or [L, D] for what="items"; the resolved `what`)."""
        what, encoded = self._what(what), Encoded(out.hidden, out.lengths, out.pooled)
        if what == "items":
            return list(self._frozen.item_planes(encoded)), what
        planes = self._frozen.token_planes(encoded)
        return [x[:n] for x, n in zip(planes, (out.lengths - out.prefix).tolist(), strict=True)], what

    def _layer(self, layer: Any) -> Any:
        if layer == "all":
            return layer
        if isinstance(layer, bool) or not isinstance(layer, int | np.integer):
            raise InputTypeError(f"layer must be a number or 'all', got {layer!r}")
        if not -self.depth - 1 <= layer <= self.depth:
            raise InputError(f"layer must be from 0, the trunk's input, to {self.depth}, got {layer}")
        return int(layer) % (self.depth + 1)  # -1: the last layer, not the pooled vector

    def _factors(self, weights: Any, planes: int, what: What) -> Tensor:
        """The weights of the planes, float32 [L]."""
        if isinstance(weights, str):
            learned = self.learned_weights(weights)
            if len(learned) != planes:
                raise InputError(
                    f"the probe of {weights} weighs {', '.join(learned)}, and {what} have {planes} layers: "
                    "set what='items'"
                )
            return torch.tensor(list(learned.values()))
        found = torch.from_numpy(array_of(weights, "weights").astype(np.float32)) if weights is not None else None
        if found is None or found.shape != (planes,):
            got = "none" if found is None else list(found.shape)
            raise InputError(f"weights must be {planes} numbers, one a layer, or the name of a task; got {got}")
        if not found.isfinite().all():
            raise InputError("weights has numbers that are not finite")
        return found
