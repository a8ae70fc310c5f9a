"""From a run to a state dict of torchaudio, torchvision or timm, with the arguments of the class that takes it."""

from pathlib import Path

from sslzoo.errors import UserError
from sslzoo.initial import described
from sslzoo.interop import names
from sslzoo.interop.card import write_card
from sslzoo.interop.configs import nested
from sslzoo.interop.counterpart import counterpart
from sslzoo.interop.exporting import check_covered, state_of
from sslzoo.interop.family import Family
from sslzoo.interop.folder import WEIGHTS
from sslzoo.interop.image_states import TIMM, resnet
from sslzoo.interop.wave_states import TORCHAUDIO
from sslzoo.run import Run, write_json

OPEN = """import json

from safetensors.torch import load_file
{imports}

arguments = json.load(open("FOLDER/config.json"))["arguments"]
{make}
model.load_state_dict(load_file("FOLDER/model.safetensors"))"""
MAKE = {
    "torchaudio": (
        "from torchaudio.models import wav2vec2_model",
        "given = {k: v for k, v in arguments.items() if k not in ('normalize', 'sample_rate')}  # those are of inputs",
        "model = wav2vec2_model(**given, aux_num_out=None)",
    ),
    "timm": (
        "from timm.models.vision_transformer import VisionTransformer",
        "given = {k: v for k, v in arguments.items() if k not in ('mean', 'std')}  # those are of inputs",
        "model = VisionTransformer(**given, num_classes=0)",
    ),
    "torchvision": (
        "import torch\nfrom torchvision.models import resnet",
        "model = resnet.ResNet(getattr(resnet, arguments['block']), arguments['layers'])",
        "model.fc = torch.nn.Identity()",
    ),
}


def to_torchaudio(run: Run, out: Path) -> str:
    return _export(run, out, TORCHAUDIO)


def to_timm(run: Run, out: Path) -> str:
    return _export(run, out, TIMM)


def to_torchvision(run: Run, out: Path) -> str:
    node = described(run)["encoder"]
    if not node["_target_"].endswith(".ResNet"):
        kind = node["_target_"].rsplit(".", 1)[-1]
        raise UserError(f"torchvision has residual networks, and this is a {kind}: to=hf or to=timm takes transformers")
    return _export(run, out, resnet(node.get("depths", [2, 2, 2, 2]), node.get("bottleneck", False)))


def _export(run: Run, out: Path, family: Family) -> str:
    from safetensors.torch import save_file

    node, state = described(run)["encoder"], state_of(run)
    found = counterpart(node, {family.name: family})
    table = names.expanded(family.weights, state.keys())
    check_covered(run, table, state, family.made)
    channels = node.get("frontend", {}).get("channels", 0)
    tensors = names.to_theirs(table, state, names.Rows((), 0), channels)
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    write_json(out / "config.json", {"class": family.model, "arguments": nested(found.config)})
    imports, *make = MAKE[family.name]
    write_card(run, out, OPEN.format(imports=imports, make="\n".join(make)), family.name, [])
    return f"{family.model.rsplit('.', 1)[-1]}, {len(tensors)} tensors"
