"""`sslzoo export to=…`: what each target writes."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from sslzoo.errors import ConfigError
from sslzoo.initial import TOKENIZER, described
from sslzoo.interop.card import write_card
from sslzoo.interop.exporting import export_hf, state_of
from sslzoo.interop.folder import WEIGHTS
from sslzoo.interop.onnx_export import to_onnx
from sslzoo.interop.state_exports import to_timm, to_torchaudio, to_torchvision
from sslzoo.run import Run, write_json


def to_hf(run: Run, out: Path) -> str:
    found = export_hf(run, out)
    use = f"from transformers import AutoModel, {found.kind}\n\nencoder = AutoModel.from_pretrained(FOLDER)"
    if found.kind != found.base:
        use += f"\nmodel = {found.kind}.from_pretrained(FOLDER)"
    else:
        use = use.replace(f", {found.kind}", "")
    write_card(run, out, use, "transformers", found.left)
    return f"{found.kind}, {len(found.tensors)} tensors" + "".join(f"; left out: {what}" for what in found.left)


def to_safetensors(run: Run, out: Path) -> str:
    """Our own names, beside the config node that they are of."""
    from safetensors.torch import save_file

    saved, state = described(run), state_of(run)
    save_file({name: x.contiguous() for name, x in state.items()}, out / WEIGHTS)
    write_json(out / "encoder.json", {"encoder": saved["encoder"], "data": saved["data"]})
    if (run.folder / TOKENIZER).exists():
        shutil.copyfile(run.folder / TOKENIZER, out / TOKENIZER)
    use = (
        "import json\n\nfrom safetensors.torch import load_file\nfrom sslzoo.nodes import make\n\n"
        'encoder = make(json.load(open("FOLDER/encoder.json"))["encoder"])\n'
        f'encoder.load_state_dict(load_file("FOLDER/{WEIGHTS}"))'
    )
    write_card(run, out, use, "sslzoo", [])
    return f"{len(state)} tensors under the names of sslzoo"


TARGETS: dict[str, Callable[[Run, Path], str]] = {
    "hf": to_hf,
    "torchaudio": to_torchaudio,
    "torchvision": to_torchvision,
    "timm": to_timm,
    "onnx": to_onnx,
    "safetensors": to_safetensors,
}


def export(run: Run, to: str, out: Path) -> str:
    """Write a finished run to the folder `out`, which must not hold anything, and say what was written. Nothing is left
    of an export that fails."""
    if to not in TARGETS:
        raise ConfigError(f"to must be one of {', '.join(TARGETS)}, got {to}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already: choose another out=…, or delete it")
    run.check_finished()
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        said = TARGETS[to](run, beside)
        beside.chmod(0o755)
        if out.exists():
            out.rmdir()
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return said
