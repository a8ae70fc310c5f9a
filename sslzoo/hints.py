"""Hydra's errors in one line, with a suggestion of the right setting. Imports no torch."""

import re
from pathlib import Path

import yaml

from sslzoo.config import CONF, GROUPS, options
from sslzoo.errors import nearest

BATCH = ("data.batch.size", "data.batch.seconds", "data.batch.tokens", "batch")
EPOCHS = (("trainer.max_steps",), "a run is counted in steps")
RESUME = ((), "the same command again continues a run that was stopped; init=RUN begins with another run's encoder")
OUTPUT = (("out",), "a run lies in root/name: set root=FOLDER, name=NAME")
PATH = ("data.path", "data.sets.fsdd.path", "task.data.path")
LOGGERS = ("logger",)
SHARE = "a share of the steps"

MEANT = {  # names of settings in other programs -> candidate settings here, and a note
    "lr learning_rate base_lr max_lr peak_lr": ("optim.lr",),
    "wd weight_decay l2": ("optim.weight_decay",),
    "warmup warmup_ratio warmup_steps warmup_epochs num_warmup_steps warmup_updates": (
        ("optim.schedule.warmup",),
        SHARE,
    ),
    "scheduler lr_scheduler lr_schedule schedule": ("optim/schedule",),
    "optimizer optimiser opt": ("optim",),
    "epochs max_epochs num_epochs n_epochs num_train_epochs total_epochs epoch": EPOCHS,
    "steps max_steps num_steps n_steps total_steps train_steps max_iters max_iter iterations max_updates max_update": (
        "trainer.max_steps",
    ),
    "ckpt_path ckpt checkpoint resume resume_from resume_from_checkpoint auto_resume restore": RESUME,
    "pretrained weights load_from init_from": ("init",),
    "batch_size bs batch train_batch_size per_device_train_batch_size global_batch_size": BATCH,
    "data.batch.size data.batch.seconds data.batch.tokens": BATCH,
    "gpus num_gpus n_gpus n_gpu ngpus devices num_devices nproc_per_node nproc world_size": ("trainer.devices",),
    "num_nodes nodes nnodes": ("trainer.nodes",),
    "device accelerator": ("device", "trainer.accelerator"),
    "num_workers workers n_workers dataloader_num_workers": ("workers", "trainer.workers"),
    "fp16 bf16 amp use_amp mixed_precision half precision": ("trainer.precision",),
    "strategy distributed_backend ddp": ("trainer.strategy",),
    "accumulate accumulate_grad_batches gradient_accumulation_steps grad_accum update_freq": ("trainer.accumulate",),
    "per_gpu_batch_size max_tokens_per_gpu max_sample_size micro_batch_size micro_batch": (
        "trainer.max_units_per_rank",
    ),
    "gradient_clip gradient_clip_val grad_clip clip_grad clip_norm max_grad_norm": ("trainer.gradient_clip",),
    "log_every log_every_n_steps log_interval logging_steps print_freq": ("trainer.log_every",),
    "val_every val_check_interval eval_every eval_steps check_val_every_n_epoch validate_interval": (
        "trainer.val_every",
    ),
    "save_every save_steps save_freq save_interval every_n_train_steps checkpoint_every": ("trainer.save_every",),
    "gradient_checkpointing grad_checkpoint activation_checkpointing": ("trainer.activation_checkpointing",),
    "compile torch_compile": ("trainer.compile",),
    "wandb tensorboard use_wandb loggers logger": LOGGERS,
    "seed seed_everything random_seed manual_seed random_state rng_seed": ("seed", "seeds"),
    "task downstream downstream_task": ((), "tasks are for `sslzoo probe` and `adapt`; a run learns by objective=…"),
    "max_new_tokens num_tokens n_tokens": ("steps",),
    "model backbone arch architecture net network encoder_name": ("encoder",),
    "method algorithm algo ssl_method pretext loss criterion": ("objective",),
    "dataset datamodule dm dataset_name data_name": ("data",),
    "data_root data_dir data_path dataset_path dataset_dir root_dir train_dir data_folder": PATH,
    "data.root data.dir data.folder data.data_dir data.root_dir dataset.root dataset.path dataset.dir": PATH,
    "output_dir out_dir output save_dir log_dir work_dir workdir exp_dir default_root_dir run_dir": OUTPUT,
    "exp_name experiment_name run_name job_name tag": ("name",),
    "experiment exp preset": ((), "settings that belong together are recipes: recipe=NAME (`sslzoo list recipes`)"),
    "augmentation augmentations augment transform transforms aug views": ("objective/views", "objective.views"),
    "mask masking": ("objective/mask", "objective.mask", "objective/corruption"),
    "temperature temp tau": ("objective.temperature",),
    "mask_prob mask_ratio masking_ratio mlm_probability mask_p": ("objective.mask.prob", "objective.ratio"),
    "mask_length mask_len span_length": ("objective.mask.length", "objective.corruption.length"),
    "queue_size queue_len": ("objective.queue",),
    "num_negatives n_negatives": ("objective.negatives",),
    "proj_dim projection_dim proj_output_dim out_dim_proj": ("objective.output_dim",),
    "proj_hidden_dim projector_dim": ("objective.hidden_dim",),
    "ema tau_base base_tau ema_decay": ("objective.momentum",),
    "image_size img_size input_size crop_size resolution": ("data.size",),
    "patch_size": ("encoder.frontend.patch",),
    "hidden_size embed_dim d_model dim width": ("encoder.trunk.dim", "encoder.width"),
    "num_layers n_layers n_layer layers depth num_hidden_layers": ("encoder.trunk.depth", "encoder.depths"),
    "num_heads n_heads n_head nhead heads num_attention_heads": ("encoder.trunk.heads",),
    "position pos_embed positional_encoding": ("encoder/trunk/position",),
    "frontend feature_extractor": ("encoder/frontend",),
    "trunk transformer": ("encoder/trunk",),
    "vocab vocab_size n_vocab": ("data.vocab_size",),
    "max_length max_len max_seq_len max_seq_length seq_len block_size context_length": ("data.max_tokens",),
    "sr sample_rate sampling_rate": ("data.sample_rate",),
    "max_duration max_audio_len": ("data.max_seconds",),
}
WORDS = {word: value for words, value in MEANT.items() for word in words.split()}


def meant(key: str, here: set[str] | None) -> str:
    """ " — did you mean 'x'?" for a setting's name in other programs, or "". here: the composed config's keys, None if
    unknown."""
    key = key.lower().replace("-", "_")
    first = key.partition(".")[0]  # model.name
    for word in (key, key.rpartition(".")[2], *([] if here is None or first in here else [first])):
        found = WORDS.get(word)
        if found is None:
            continue
        names, note = found if len(found) == 2 and isinstance(found[0], tuple) else (found, "")
        if not names:
            return f" — {note}"
        fits = [n for n in names if n != key and (here is None or n.replace("/", ".") in here)]
        if fits:
            said = " or ".join(f"'{name}'" for name in (fits if here is None else fits[:1]))
            return f" — did you mean {said}?" + (f" ({note})" if note and found is not OUTPUT else "")
        if found is OUTPUT:
            return f" — {note}"
        if names := [n for n in names if n != key]:
            said = " or ".join(f"'{name}'" for name in names)
            return f" — it is called {said}, and the choices here have none: --cfg job shows their settings"
    return ""


def unknown(key: str, here: set[str] | None, folders: list[Path]) -> str:
    """The message for an unknown setting, with a suggestion. here: the keys of the composed config."""
    below = {k for k in here or () if k.endswith(f".{key}")}
    own = re.match(r"(callbacks|logger)\.\w+", key)
    if own and own[0] not in (here or ()):
        return f"there is no {own[0]} here: to add one of yours, write +{key}=…"
    if key in (here or ()):
        return f"'{key}' has not all of these keys here: to add to them, write ++{key}=…"
    if re.search(r"\.files\.\w+$", key) and key.rpartition(".")[0] in (here or ()):
        return f"'{key}' is not set here: to add it, write +{key}=…"
    if key.startswith("task.data."):
        return f"no data is chosen that {key.removeprefix('task.')} is a setting of: add data=… (`sslzoo list data`)"
    first, last = key.split(".")[0], key.split(".")[-1]
    alike = [k for k in here or () if k.startswith(f"{first}.") and k.endswith(f".{last}") and k.count(".") > 1]
    if key.count(".") > 1 and not key.startswith("data.batch.") and (near := nearest(key, alike)):
        return f"there is no setting '{key}'{near}"  # encoder.front.dim: of its frontend
    hint = meant(key, here)
    if hint and not key.startswith("data.batch."):
        return f"there is no setting '{key}'{hint}"
    every = [k for folder in (CONF, *folders) for k in keys_of(folder)]
    every += [p.name for p in CONF.iterdir() if p.is_dir()]
    if key in every:
        more = hint or f": --cfg job shows those of this one, and +{key}=… sets it where this one takes it too"
        return f"'{key}' is a setting of another choice than the one here{more}"
    if "/" in key:
        groups = GROUPS.values()
        return f"the choices here have no group '{key}'{'' if key in groups else nearest(key, groups)}"
    known = list(here or every)
    deeper = [
        k for k in known if k.startswith(f"{first}.") and k.endswith(f".{last}")
    ]  # encoder.patch: of its frontend
    return f"there is no setting '{key}'{nearest(key, deeper or sorted(below) or known)}"


def keys_here(config) -> set[str]:
    """The dotted keys of all nodes and values of a composed config."""
    from omegaconf import DictConfig, OmegaConf

    return set(_walk(OmegaConf.to_container(config) if isinstance(config, DictConfig) else config, ""))


def _walk(node, path: str, depth: int = 0):
    for name, value in node.items() if isinstance(node, dict) and depth < 8 else ():
        yield f"{path}{name}"
        yield from _walk(value, f"{path}{name}.", depth + 1)


def keys_without(name: str, overrides: list[str], folders: list[Path]) -> set[str] | None:
    """The keys of conf/<name>.yaml composed with its valid overrides; None if it cannot be composed."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    try:
        taken = first_of_sweep(overrides)
        if GlobalHydra.instance().is_initialized():  # within a command, with its config folders
            return _tried(name, taken)
        if folders:
            taken.append(f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders)}]")
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return _tried(name, taken)
    except Exception:  # noqa: BLE001 (already reported)
        return None


def first_of_sweep(overrides: list[str]) -> list[str]:
    """Overrides with the first value of each sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = []
    for one in OverridesParser.create().parse_overrides(overrides):
        value = next(one.sweep_string_iterator()) if one.is_sweep_override() else None
        found.append(one.input_line if value is None else f"{one.input_line.partition('=')[0]}={value}")
    return found


def _tried(name: str, overrides: list[str]) -> set[str]:
    """The keys of a config, dropping overrides that Hydra refuses."""
    from hydra import compose
    from hydra.errors import HydraException

    while True:
        try:
            return keys_here(compose(name, overrides))
        except HydraException as error:
            found = re.search(r"Could not override '([^']+)'", str(error))
            kept = [word for word in overrides if found and word.lstrip("+~").partition("=")[0] != found[1]]
            if len(kept) == len(overrides) or not found:
                raise
            overrides = kept


def keys_of(folder: Path) -> list[str]:
    """Every dotted key that the files of a config folder set, as written in an override."""
    found = []
    for path in folder.rglob("*.yaml"):
        parts = path.relative_to(folder).parts
        prefix = "" if parts[0] in ("recipe", "comparison", "method") else "".join(f"{part}." for part in parts[:-1])
        try:
            node = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, OSError):
            continue  # another program's yaml: custom tags, two documents, latin-1
        if isinstance(node, dict):
            found += _walk({key: value for key, value in node.items() if key != "defaults"}, prefix)
    return sorted(set(found))


def one_line(error: Exception, folders: list[Path], name: str = "", overrides: list[str] = []) -> str:  # noqa: B006
    """An error of Hydra or OmegaConf in one line, with the closest valid name. name: of the command composed with
    `overrides`."""
    text = str(error)
    if found := re.search(r"Could not find '([\w/-]+)/([^'/]+)'", text):
        group, name = found.groups()
        if group in ("hydra/launcher", "hydra/sweeper"):
            package = f"hydra-{name.partition('_')[0]}-{group.removeprefix('hydra/')}"
            return f"there is no {group} '{name}' here: those of Hydra's plugins are packages (pip install {package})"
        names = list(options(group, folders))
        return f"there is no {group} '{name}'{nearest(name, names)} — `sslzoo list` shows: {', '.join(names)}"
    if found := re.search(r"You must specify '([\w-]+)'", text):
        return (
            f"{found[1]} is required: set {found[1]}=… — `sslzoo list` shows: {', '.join(options(found[1], folders))}"
        )
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown(found[1], keys_without(name, overrides, folders) if name else None, folders)
    if "Config group override must be a string" in text:
        return (
            f"a group takes the name of a choice: {text.splitlines()[0]} (for none, write dots: objective.views=null)"
        )
    if found := re.search(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"'{found[1]}' is there already: leave out the +"
    if re.search("mismatched input|extraneous input|no viable alternative|token recognition|LexerNoViable", text):
        return f"cannot read the override: {text.splitlines()[0]} (quote values with special characters), as in 'KEY=\"VALUE\"'"
    return " ".join(text.split())
