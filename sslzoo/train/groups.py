"""Parameter groups: which parameters share a learning rate and a weight decay. They are chosen by the parameters' names
in the LightningModule (`encoder.trunk…`, `objective.…`), so the layout depends on the model and the config only, and an
optimiser's state can be loaded again."""

import re

from torch import Tensor, nn

from sslzoo.errors import ConfigError, nearest

GAIN = re.compile(r"(^|\.)(parametrizations\.\w+\.original0|weight_g)$")  # weight norm: torch's new and old
EMBEDDING = re.compile(
    r"(^|\.)(position_embedding|pos_embed|decoder_pos_embed|cls_token|register_tokens|reg_token|mask_token)$"
)
WRAPPER = re.compile(
    r"\b_(fsdp_wrapped_module|checkpoint_wrapped_module|orig_mod)\."
)  # what sharding and compiling add
BLOCK = re.compile(r"^encoder\.(?:trunk\.|model\.)?(?:layers|blocks)\.(\d+)\.")


def no_decay(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is excluded from weight decay (and from LARS's adaptation).

    Excluded: parameters with at most one dimension (biases, norms, class and mask tokens; DINO's and MAE's code), the
    gains of weight norm, which may have more, and an image encoder's learned positions (timm's and BEiT's
    `no_weight_decay`). Decayed: all other matrices and kernels, the direction `original1` of weight norm, and the
    embeddings of text tokens, positions and segments, as in BERT's and GPT-2's code.
    """
    return parameter.ndim <= 1 or bool(GAIN.search(name) or EMBEDDING.search(name))


def layer_number(name: str, depth: int, norm_last: bool = True) -> int:
    """The layer index of a parameter for layer-wise decay, as in MAE's `get_layer_id_for_vit`: 0 for the front end, its
    tokens and positions, i + 1 for the encoder's block i of `depth`, depth + 1 for what comes after the blocks (the
    norm of a pre-norm trunk, and everything outside the encoder). norm_last: whether `trunk.norm` comes after the
    blocks (pre-norm) or before them (post-norm)."""
    if found := BLOCK.match(name):
        return int(found[1]) + 1
    if name.startswith("encoder.") and not (norm_last and name.startswith("encoder.trunk.norm.")):
        return 0
    return depth + 1


def layer_scales(module: nn.Module, names: list[str], decay: float) -> dict[str, float]:
    """name -> decay ** (depth + 1 - layer): 1 for a head, `decay` for the last block (Bao et al. 2022, BEiT,
    appendix; He et al. 2022, MAE, A.1)."""
    depth = max((int(found[1]) + 1 for found in map(BLOCK.match, names) if found), default=0)
    if depth == 0:
        raise ConfigError(
            "optim.layer_decay needs an encoder made of blocks whose weights learn: set optim.layer_decay=null"
        )
    norm_last = getattr(getattr(module.encoder, "trunk", None), "pre", True)
    return {name: decay ** (depth + 1 - layer_number(name, depth, norm_last)) for name in names}


def prefix_scales(names: list[str], factors: dict[str, float]) -> dict[str, float]:
    """name -> the factor of its longest prefix in `factors`, matched by whole words between dots; 1 without one."""
    prefixes = {}  # of each name, longest first
    for name in names:
        words = name.split(".")
        prefixes[name] = [".".join(words[:count]) for count in range(len(words), 0, -1)]
    known = dict.fromkeys(prefix for found in prefixes.values() for prefix in reversed(found))
    for prefix in factors:
        if prefix not in known:
            raise ConfigError(
                f"optim.groups: no parameter that learns has a name that starts with '{prefix}'"
                f"{nearest(prefix, known)} — names begin with: {', '.join(dict.fromkeys(n.split('.')[0] for n in names))}"
            )
    return {name: next((factors[p] for p in found if p in factors), 1.0) for name, found in prefixes.items()}


def param_groups(
    module: nn.Module,
    weight_decay: float = 0.0,
    factors: dict[str, float] | None = None,
    layer_decay: float | None = None,
) -> list[dict]:
    """Groups for a torch optimiser, of all parameters with requires_grad: {params, weight_decay, lr_scale, decays}.

    factors: of the learning rate, by prefix of the name. lr_scale: the product of a parameter's factor and its
    layer's. decays: whether weight decay and LARS's adaptation apply. Groups and their members are in the order of
    `module.named_parameters()`; for each lr_scale, the decayed group comes first.
    """
    named = {WRAPPER.sub("", name): p for name, p in module.named_parameters() if p.requires_grad}
    if not named:
        raise ConfigError("no parameter learns: all are frozen")
    scales = prefix_scales(list(named), factors or {})
    if layer_decay is not None:
        layers = layer_scales(module, list(named), layer_decay)
        scales = {name: scale * layers[name] for name, scale in scales.items()}
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in named.items():
        groups.setdefault((scales[name], not no_decay(name, parameter)), []).append(parameter)
    order = list(dict.fromkeys(scales.values()))
    return [
        {"params": members, "weight_decay": weight_decay if decays else 0.0, "lr_scale": scale, "decays": decays}
        for (scale, decays), members in sorted(
            groups.items(), key=lambda group: (order.index(group[0][0]), not group[0][1])
        )
    ]
