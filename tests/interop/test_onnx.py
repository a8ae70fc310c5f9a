"""An encoder as model.onnx: onnxruntime's answers are torch's, at other batches and lengths than it was traced with."""

import pytest
import torch

pytest.importorskip("transformers")
import foreign
import foreign_waves_and_images as theirs

from sslzoo.build import load_encoder
from sslzoo.errors import UserError
from sslzoo.interop import onnx_export
from sslzoo.interop.importing import import_run
from sslzoo.interop.targets import export

SLOW = pytest.mark.slow  # seconds each, of the tracer's


@pytest.mark.parametrize(
    "family", ["bert", "wav2vec2", *(pytest.param(x, marks=SLOW) for x in ("gpt2", "vit", "wavlm"))]
)
def test_answers_in_onnxruntime(family, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    own = foreign if family in foreign.FAMILIES else theirs
    run, _ = import_run(f"hf:{own.folder_of(family, tmp_path / 'theirs')}", tmp_path / "runs")
    assert "in onnxruntime within" in export(run, "onnx", tmp_path / "out")
    assert "onnxruntime.InferenceSession" in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "tokenizer.json").exists() == (family in foreign.FAMILIES)
    encoder, data = load_encoder(run)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    inputs, lengths = onnx_export.example(encoder, data, 4, 0.9)
    with torch.no_grad():
        ours = encoder(inputs, lengths)
    *hidden, sizes, pooled = session.run(None, {"inputs": inputs.numpy(), "lengths": lengths.numpy()})
    assert sizes.tolist() == ours.lengths.tolist() and len(hidden) == len(ours.hidden)
    torch.testing.assert_close(torch.from_numpy(pooled), ours.pooled, atol=1e-5, rtol=1e-4)
    for a, b in zip(ours.hidden, map(torch.from_numpy, hidden), strict=True):
        for row, n in enumerate(ours.lengths.tolist()):
            torch.testing.assert_close(b[row, :n], a[row, :n], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_graph_of_one_batch_is_refused(tmp_path):
    """Whisper's chunks make the tracer's graph fail at other batches, which the check finds."""
    pytest.importorskip("onnxruntime")
    run, _ = import_run(f"hf:{theirs.folder_of('whisper', tmp_path / 'theirs')}", tmp_path / "runs")
    with pytest.raises(UserError, match=r"fails in onnxruntime at a batch of .*to=safetensors"):
        export(run, "onnx", tmp_path / "out")


def test_what_cannot_be_traced_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    run, _ = import_run(f"hf:{theirs.folder_of('vit', tmp_path / 'theirs')}", tmp_path / "runs")

    def on_values(self, inputs, lengths):
        return inputs if lengths[0] > 3 else 2 * inputs

    monkeypatch.setattr(onnx_export.Exportable, "forward", on_values)
    with pytest.raises(UserError, match=r"Patches cannot be traced for ONNX \(.*to=safetensors") as error:
        export(run, "onnx", tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
    monkeypatch.setattr(onnx_export, "NEEDS", ("onnx", "a_package_that_is_not_there"))
    with pytest.raises(UserError, match=r"needs a_package_that_is_not_there: pip install 'sslzoo\[onnx\]'"):
        export(run, "onnx", tmp_path / "out")
