"""A pretrained encoder as a transformer of scikit-learn.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sslzoo.sklearn import Encoder

model = make_pipeline(Encoder("my_run", layer=4), LogisticRegression())
model.fit(["a.wav", "b.wav"], [0, 1])
"""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags, check_array

import sslzoo
from sslzoo.errors import InputError


class Encoder(TransformerMixin, BaseEstimator):
    """A frozen encoder: items (waves, images, texts, paths of files; see `sslzoo.load`) -> float32 [N, D].

    run: a run's folder or name, or SOURCE:WHAT (`hf:FOLDER`, see docs/weights.md). layer: the layer whose mean over an
    item's tokens is taken, 0 for the trunk's input, -1 for the last; None for the encoder's pooled vector. rate:
    samples per second of waves in arrays, None for the encoder's own. root, device: see `sslzoo.load`.

    `fit` learns nothing, it loads the encoder. A pickled one keeps these settings only, and loads it again when used.
    """

    def __init__(
        self,
        run: str = "",
        layer: int | None = None,
        root: str = "runs",
        device: str = "auto",
        rate: int | None = None,
    ):
        self.run = run
        self.layer = layer
        self.root = root
        self.device = device
        self.rate = rate

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the encoder and check the first item. Raises UserError if there is no such run, InputError (a
        ValueError) or InputTypeError (a TypeError) for an item of another kind."""
        self.encoder_ = sslzoo.load(self.run, root=self.root, device=self.device)
        self.n_features_out_ = self.encoder_.dim
        self._items(X)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """float32 [N, D], in the order of the items."""
        if not hasattr(self, "encoder_"):
            self.fit(X)
        return self._features(self._items(X))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        if not hasattr(self, "encoder_"):
            self.encoder_ = sslzoo.load(self.run, root=self.root, device=self.device)
        return np.array([f"encoder{i}" for i in range(self.encoder_.dim)], dtype=object)

    def _items(self, X: Any) -> Any:
        """X as `sslzoo.load`'s encoders take it; of a table of numbers, for speech, each row as a wave."""
        if hasattr(X, "toarray"):
            raise InputError("sparse matrices hold no waves, images or texts: give an array or a list of items")
        if self.encoder_.modality == "speech" and hasattr(X, "__array__") and np.asarray(X).ndim == 2:
            return list(check_array(X, dtype="numeric").astype(np.float32, copy=False))
        return X

    def _features(self, X: Any) -> np.ndarray:
        if self.layer is None:
            found: torch.Tensor = self.encoder_(X, rate=self.rate).pooled
        else:
            found = self.encoder_.features(X, self.layer, "items", rate=self.rate)
        return found.numpy()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("encoder_", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.string = True
        return tags
