"""From a run to a model.onnx of any batch and length, checked in onnxruntime."""

import contextlib
import importlib.util
import io
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslzoo.build import load_encoder
from sslzoo.data.base import SPECIALS
from sslzoo.encoders.base import Encoder
from sslzoo.errors import UserError
from sslzoo.initial import TOKENIZER
from sslzoo.interop.card import write_card
from sslzoo.run import Run

NEEDS = ("onnx", "onnxscript", "onnxruntime")
CLOSE = 1e-4  # of the largest value of an output: kernels differ, a wrong graph by far more
SECONDS = 1.0  # of speech that a model is traced with


class Exportable(nn.Module):
    """(inputs, lengths) -> hidden states, the number of their valid steps, one vector an item."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        out = self.encoder(inputs, lengths)
        return (*out.hidden, out.lengths, out.pooled)


def to_onnx(run: Run, out: Path) -> str:
    """Write model.onnx. Raises UserError for an encoder that cannot be traced, or computes otherwise in onnxruntime."""
    if lacks := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise UserError(f"to=onnx needs {', '.join(lacks)}: pip install 'sslzoo[onnx]'")
    encoder, data = load_encoder(run)
    model = Exportable(encoder).eval()
    hidden = [f"hidden_{i}" for i in range(encoder.depth + 1)]
    outputs = [*hidden, "token_lengths", "pooled"]
    inputs, lengths = example(encoder, data, 2, 1.0)
    batch = torch.export.Dim.DYNAMIC
    shape: dict[int, Any] = {0: batch}
    if encoder.modality != "image":
        most = data.max_tokens if encoder.modality == "text" else 2**31
        least = 2 if encoder.modality == "text" else getattr(encoder.frontend, "receptive_field", 2)
        shape[1] = torch.export.Dim("length", min=least, max=most)
    path = out / "model.onnx"
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                model,
                (inputs, lengths),
                str(path),
                input_names=["inputs", "lengths"],
                output_names=outputs,
                dynamic_shapes=(shape, {0: batch}),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's own are many
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
        kind = type(getattr(encoder, "frontend", encoder)).__name__
        raise UserError(
            f"an encoder with {kind} cannot be traced for ONNX ({lines[0].strip()[:160]}): to=safetensors takes any"
        ) from error
    worst = check(path, model, encoder, data)
    if encoder.modality == "text":
        shutil.copyfile(run.folder / TOKENIZER, out / TOKENIZER)
    of = {
        "text": "ids [B, T], int64",
        "speech": "samples [B, N], float32",
        "image": "pixels in 0..1 [B, C, S, S], float32",
    }
    use = (
        'import onnxruntime\n\nsession = onnxruntime.InferenceSession("FOLDER/model.onnx")\n'
        f"# inputs: {of[encoder.modality]}; lengths: int64 [B], valid ones of each row (1 for images)\n"
        f'*hidden, token_lengths, pooled = session.run(None, {{"inputs": inputs, "lengths": lengths}})'
    )
    write_card(run, out, use, "onnx", [])
    return f"model.onnx of {path.stat().st_size / 1e6:.1f} MB, in onnxruntime within {worst:.1e} of torch"


def example(encoder: Encoder, data: Any, rows: int, share: float) -> tuple[Tensor, Tensor]:
    """Random inputs [rows, …] and lengths, of which the last row is shorter. share: of the usual length."""
    g = torch.Generator().manual_seed(0)
    if encoder.modality == "image":
        size = data.size
        return torch.rand(rows, data.channels, size, size, generator=g), torch.ones(rows, dtype=torch.long)
    if encoder.modality == "text":
        length = max(int(share * min(data.max_tokens, 32)), 4)
        inputs = torch.randint(SPECIALS, data.vocab_size, (rows, length), generator=g)
    else:
        length = max(int(share * SECONDS * data.sample_rate), 2 * getattr(encoder.frontend, "receptive_field", 1))
        inputs = 0.1 * torch.randn(rows, length, generator=g)
    lengths = torch.full((rows,), length)
    lengths[-1] = max(length * 2 // 3, getattr(encoder.frontend, "receptive_field", 1))
    return inputs, lengths


def check(path: Path, model: nn.Module, encoder: Encoder, data: Any) -> float:
    """The largest difference of an output from torch's, over its largest value, at batches and lengths other than the
    traced ones; of valid steps. Raises UserError above `CLOSE`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for rows, share in ((1, 0.8), (3, 0.6)):
        inputs, lengths = example(encoder, data, rows, share)
        with torch.no_grad():
            *ours, sizes, pooled = model(inputs, lengths)
        try:
            *theirs, _, their_pooled = session.run(None, {"inputs": inputs.numpy(), "lengths": lengths.numpy()})
        except Exception as error:  # onnxruntime's own have no common base
            raise UserError(
                f"what the tracer wrote fails in onnxruntime at a batch of {rows}: to=safetensors takes any encoder"
            ) from error
        pairs = [(pooled, torch.from_numpy(their_pooled))]
        for a, b in zip(ours, theirs, strict=True):
            valid = torch.arange(a.shape[1]) < sizes[:, None]
            pairs.append((a[valid], torch.from_numpy(b)[valid]))
        worst = max(worst, *(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in pairs))
    if not worst <= CLOSE:
        raise UserError(
            f"onnxruntime's answers differ from torch's by {worst:.1e} of their size: to=safetensors takes any encoder"
        )
    return worst


@contextlib.contextmanager
def quiet() -> Any:
    """Without the exporter's progress and warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
