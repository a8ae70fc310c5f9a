"""An encoder in scikit-learn's pipelines, and as an upstream of s3prl."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

pytest.importorskip("transformers")
import foreign
import foreign_waves_and_images as theirs

import sslzoo as package
from sslzoo.errors import InputError, UserError
from sslzoo.s3prl import sslzoo_local
from sslzoo.sklearn import Encoder

NOT_OURS = {
    "check_n_features_in_after_fitting": "waves have lengths, not a number of features",
    "check_n_features_in": "waves have lengths, not a number of features",
    "check_fit1d": "one dimension is one wave",
    "check_fit2d_predict1d": "one dimension is one wave",
    "check_fit_idempotent": "its samples are beyond -1..1",
    "check_methods_subset_invariance": "products of other sizes are rounded otherwise, by 1e-7",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """SOURCE:WHAT of speech and of text, and the folder of their runs."""
    root = tmp_path_factory.mktemp("sklearn")
    speech, text = theirs.folder_of("hubert", root / "hubert"), foreign.folder_of("bert", root / "bert")
    return {"speech": f"hf:{speech}", "text": f"hf:{text}", "root": str(root / "runs")}


def test_estimator_checks(runs):
    check_estimator(
        Encoder(runs["speech"], root=runs["root"], device="cpu"), expected_failed_checks=NOT_OURS, on_skip=None
    )


@pytest.mark.parametrize("layer", [None, 1])
def test_a_pipeline_of_texts(runs, layer):
    texts = ["the sea is large", "pots are caught"] * 6
    model = make_pipeline(Encoder(runs["text"], layer, runs["root"], "cpu"), LogisticRegression(max_iter=500, C=100.0))
    assert model.fit(texts, [0, 1] * 6).score(texts, [0, 1] * 6) == 1.0
    encoder = package.load(runs["text"], root=runs["root"], device="cpu")
    expected = encoder(texts).pooled if layer is None else encoder.features(texts, layer, "items")
    found = model[0].transform(texts)
    assert found.dtype == np.float32 and np.array_equal(found, expected.numpy())
    assert model[0].get_feature_names_out().tolist()[:2] == ["encoder0", "encoder1"]
    assert clone(model[0]).get_params() == model[0].get_params()
    again = pickle.loads(pickle.dumps(model))  # without the weights, which it loads again
    assert len(pickle.dumps(model[0])) < 2000 and np.array_equal(again.predict(texts), model.predict(texts))


def test_what_is_no_item(runs):
    with pytest.raises(UserError, match="nowhere"):
        Encoder("nowhere", root=runs["root"]).fit(["a"])
    speech = Encoder(runs["speech"], root=runs["root"], device="cpu")
    with pytest.raises(InputError, match="samples up to 300"):
        speech.fit_transform([np.full(900, 300.0, np.float32)])


def test_an_upstream_of_s3prl(runs):
    upstream = sslzoo_local(runs["speech"], root=runs["root"])
    waves = list(map(torch.from_numpy, theirs.waves(9000, 4000)))
    with torch.no_grad():
        found = upstream(waves)
    expected = package.load(runs["speech"], root=runs["root"], device="cpu")(waves)
    assert upstream.get_downsample_rates("hidden_states") == 80 and len(found["hidden_states"]) == 4
    for row, n in enumerate(expected.lengths.tolist()):
        for a, b in zip(found["hidden_states"], expected.hidden, strict=True):
            torch.testing.assert_close(a[row, :n], b[row, :n], atol=1e-6, rtol=1e-5)
    with pytest.raises(UserError, match="speech at 16000 Hz, and hf:.* is of text"):
        sslzoo_local(runs["text"], root=runs["root"])
