"""From a finished run to a folder of transformers, by the tables that imports are read with."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sslzoo import compat, weights
from sslzoo.build import MEND
from sslzoo.config import choices, leaves
from sslzoo.errors import UserError
from sslzoo.initial import TOKENIZER, described
from sslzoo.interop import names, tokenizers
from sslzoo.interop.configs import config_of, nested
from sslzoo.interop.counterpart import counterpart
from sslzoo.interop.families import FAMILIES
from sslzoo.interop.family import Family, Head
from sslzoo.interop.folder import PREPROCESSOR, WEIGHTS
from sslzoo.interop.importing import FILE, FIRST_ROWS, THEIRS
from sslzoo.interop.task_heads import FORMS, PlainHead
from sslzoo.interop.text_settings import offset as offset_in
from sslzoo.nodes import target
from sslzoo.run import Run, write_json


@dataclass
class Exported:
    """A run under another library's names. kind: the class that opens it. base: that of the
    encoder alone. tensors: by their names. config: nested, with
    what prepares inputs as "preprocessor". left: parts of the run that have no place there."""

    kind: str
    base: str
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    left: list[str]

    def write(self, out: Path) -> None:
        from safetensors.torch import save_file

        config = dict(self.config)
        if preprocessor := config.pop("preprocessor", None):
            write_json(out / PREPROCESSOR, preprocessor)
        write_json(out / "config.json", config)
        save_file(self.tensors, out / WEIGHTS, metadata={"format": "pt"})


def state_of(run: Run) -> dict[str, Tensor]:
    return compat.translate_weights(weights.load(run.weights, MEND.format(run.folder)))


def export_hf(run: Run, out: Path) -> Exported:
    """Write a run's encoder, its head where the other library has it, and what prepares its inputs to the folder `out`,
    which `AutoModel.from_pretrained` opens.

    A run that was imported gets its own config, ids and tokenizer again, and its weights to the bit. Raises UserError
    for an encoder that has no counterpart there.
    """
    saved = described(run)
    node, state = saved["encoder"], state_of(run)
    imported = _imported(run)
    objective: Any = None
    if run.objective.exists():
        objective = json.loads(run.objective.read_text(encoding="utf-8"))["objective"]
    if imported is None:
        found = counterpart(node, FAMILIES, _family_of_head(objective, node))
        family, said = found.family, found.config
        rows = names.Rows(tuple(range(5)), node["frontend"].get("vocab_size", 0), int(family.offset))
    else:
        family, said = FAMILIES[imported["family"]], {}
        if not family.exports:
            raise UserError(
                f"{run.folder} is the encoder of a {family.name}, whose decoder was not kept: to=safetensors"
            )
        rows = names.Rows(tuple(imported["specials"]), 0)
        if family.modality == "text":
            offset = offset_in(imported["config"]) if family.offset else 0
            rows = names.Rows(tuple(imported["specials"]), imported["config"]["vocab_size"], offset)
    channels = node["frontend"].get("channels", 0)
    table = names.expanded(family.weights, state.keys())
    check_covered(run, table, state, family.made)
    tensors = {f"{family.at}{k}": x for k, x in names.to_theirs(table, state, rows, channels).items()}
    if imported is not None and (run.folder / THEIRS / FIRST_ROWS).exists():
        for name, x in weights.load(run.folder / THEIRS / FIRST_ROWS, MEND.format(run.folder)).items():
            tensors[name][: len(x)] = x
    head, why = _head(family, node, objective, said)
    task = PlainHead.load(run.folder)
    there = next((one for one in family.tasks if task is not None and one.form == task.form), None)
    left, more = [*filter(None, (why, family.lacks))], {}
    if task is not None and there is None:
        left.append(f"its head, {task.what}: {heads_there(family)}")
    if task is not None and there is not None:
        tensors = {f"{family.prefix}{k}": x for k, x in tensors.items() if there.pools or not k.startswith("pooler.")}
        tensors |= names.to_theirs(there.weights, task.tensors, rows, channels)
        more = task.settings(there)
    if head is not None:
        tensors = {f"{family.prefix}{name}": x for name, x in tensors.items()}
        parts = weights.load(run.objective_weights, MEND.format(run.folder))
        inside = names.expanded(head.inside, parts.keys())
        taken = names.expanded(head.weights, parts.keys())
        tensors |= names.to_theirs(taken, parts, rows, channels)
        tensors |= {f"{family.prefix}{k}": x for k, x in names.to_theirs(inside, parts, rows, channels).items()}
        own = {name for w in (*inside, *taken) for name in w.ours}
        if over := sorted({name.split(".")[0] for name in parts.keys() - own}):
            left.append(f"of its objective {names.listed(over)}")
        said |= config_of(head.settings, objective)
    kind = there.model if there is not None else family.model if head is None else head.model
    exported = Exported(kind, family.model, tensors, _config(family, said, imported, kind) | more, left)
    exported.write(out)
    if task is not None and task.form == "symbols_last" and not tokenizers.write_symbols(task.labels or [], out):
        left.append("a tokenizer, as its symbols are no characters: id2label has them")
    if family.modality == "text":
        if imported is not None and (run.folder / THEIRS).is_dir():
            for name in tokenizers.FILES:
                if (run.folder / THEIRS / name).exists():
                    shutil.copyfile(run.folder / THEIRS / name, out / name)
        else:
            tokenizers.write(run.folder / TOKENIZER, out, node["frontend"])
    return exported


def heads_there(family: Family) -> str:
    """Which heads of tasks a family has, in words."""
    if not family.tasks:
        return f"transformers has none for {family.name}"
    known = "; ".join(
        f"{one.model.removeprefix(family.model.removesuffix('Model'))}, {FORMS[one.form]}" for one in family.tasks
    )
    return f"{family.name} has {known}"


def _imported(run: Run) -> dict[str, Any] | None:
    """What is known of the folder that a run was imported from, with the tokenizer that its ids are of."""
    if not (run.folder / FILE).exists():
        return None
    found: dict[str, Any] = json.loads((run.folder / FILE).read_text(encoding="utf-8"))
    if found["family"] not in FAMILIES:
        return None
    texts = FAMILIES[found["family"]].modality == "text"
    return None if texts and not (run.folder / THEIRS).is_dir() else found


def _config(family: Family, said: dict[str, Any], imported: dict[str, Any] | None, kind: str) -> dict[str, Any]:
    """config.json, with preprocessor_config.json as "preprocessor"."""
    fixed = {} if imported is None else imported["config"]
    if imported is not None:  # its own, but for what stands for parts that were not kept
        always = {k: v for s in family.settings if not s.ours for k, v in s.write({}).items()}
        said = {k: v for k, v in (always | said).items() if not k.endswith("_token_id")}
    flat = {"model_type": family.name, **dict(leaves(fixed)), **said}
    flat |= {"architectures": [kind], "dtype": "float32"}
    if family.preprocessor and "preprocessor" not in fixed:
        flat |= {f"preprocessor.{k}": v for k, v in family.preprocessor.items()}
        if family.modality == "speech":  # a group norm sees the padding there, and was trained without a mask
            flat["preprocessor.return_attention_mask"] = flat.get("feat_extract_norm", "layer") == "layer"
    if family.modality == "text":
        flat["tie_word_embeddings"] = True
    return nested(flat)


def check_covered(run: Run, table: list[names.Weight], state: dict[str, Tensor], made: tuple[str, ...]) -> None:
    """Raise UserError, naming them, for weights of ours that a table has no place for."""
    taken = {name for weight in table for name in weight.ours}
    over = [name for name in state if name not in taken and not names.matches(name, made)]
    if over:
        raise UserError(f"{run.folder} has weights that have no place there: {names.listed(over)}")


def _is(objective: Any, option: str) -> bool:
    """Whether a node is of the class of an option of conf/objective, or of a subclass."""
    kind = target(choices("objective", [option])[option]["_target_"], "objective")
    return isinstance(objective, dict) and issubclass(target(objective["_target_"], "objective"), kind)


def _family_of_head(objective: Any, node: dict[str, Any]) -> str | None:
    """The family that has a head for the objective, to be preferred to others that an encoder fits."""
    for family in FAMILIES.values():
        heads = [head for head in family.heads if head.reads and _is(objective, head.objective)]
        if heads and family.modality != "text":
            return family.name
    return None


def _head(family: Family, node: dict[str, Any], objective: Any, said: dict[str, Any]) -> tuple[Head | None, str | None]:
    """(the head there for the run's objective, None if there is none; why not, if the run has one). said: the encoder's
    settings there, which the head's must not contradict."""
    if objective is None:
        return None, None
    for head in family.heads:
        pairs = any(w.ours[0].startswith("pair_head.") for w in head.weights)
        if not _is(objective, head.objective) or (pairs and node.get("pool") != "pooler"):
            continue
        own = config_of([s for s in head.settings if s.ours], objective)
        agrees = all(said.get(name, value) == value for name, value in own.items())
        agrees = agrees and objective.get("eps", node["trunk"].get("eps")) == node["trunk"].get("eps")
        if agrees and head.activation in (None, node["trunk"].get("activation", "gelu")):
            return head, None
    return None, f"the head of {objective['_target_'].rsplit('.', 1)[-1]}, which {family.name} has not"
