"""Tiny jobs of `sslzoo adapt` over every modality: a finished run of a tiny encoder, and what is learned on it."""

import tempfile
from functools import cache
from pathlib import Path

import torch
import yaml

from sslzoo import build, own, weights
from sslzoo.cli.compose import head_of
from sslzoo.run import Run, write_json

_kept = []  # temporary folders, until the session ends

TASKS = {  # encoder, method, a setting of the head, kind of task, label
    "image-full": ("tiny_image", "full", "features=layers", "classification", "label"),
    "resnet-full": ("tiny_resnet", "full", "features=pooled", "classification", "label"),
    "resnet-head": ("tiny_resnet", "head", "features=pooled", "classification", "label"),
    "speech-full": ("tiny_speech", "full", "features=layers", "classification", "label"),
    "speech-head": ("tiny_wave", "head", "features=layers", "classification", "label"),
    "text-full": ("tiny_text", "full", "features=pooled", "classification", "label"),
    "text-head": ("tiny_text", "head", "features=pooled", "classification", "label"),
    "image-score": ("tiny_image", "full", "features=pooled", "regression", "value"),
    "text-score": ("tiny_text", "full", "features=pooled", "regression", "value"),
    "speech-tags": ("tiny_speech", "full", "features=last", "frames", "half"),
    "text-tags": ("tiny_text", "full", "features=layers", "frames", "tag"),
    "text-answers": ("tiny_text", "full", "max_answer=3", "answers", None),
    "text-tags-head": ("tiny_text", "head", "features=last", "frames", "tag"),
    "speech-bitfit": ("tiny_speech", "bitfit", "features=layers", "classification", "label"),
    "text-lora": ("tiny_text", "lora", "features=layers", "classification", "label"),
    "image-houlsby": ("tiny_image", "adapter_houlsby", "features=layers", "classification", "label"),
    "text-prefix": ("tiny_text", "prefix", "features=pooled", "classification", "label"),
    "text-prompt": ("tiny_roomy", "soft_prompt", "features=pooled", "classification", "label"),
    "text-pabee": ("tiny_text", "pabee", "dropout=0.1", "classification", "label"),
    "speech-letters": ("tiny_speech", "full", "recurrent=1", "transcripts", "said"),
    "speech-turns": ("tiny_speech", "full", "hidden=6", "diarization", "half"),
    "text-pfeiffer": ("tiny_text", "adapter_pfeiffer", "features=layers", "classification", "label"),
    "text-cloze": ("tiny_reviews", "prompt", "prompt.words=[bad,good]", "classification", "label"),
    "text-demonstrated": ("tiny_reviews", "lm_bff", "prompt.words=[bad,good]", "classification", "label"),
    "text-poles": ("tiny_ratings", "prompt", "prompt.words=[low,high]", "regression", "label"),
    "text-shared": ("tiny_text", "layer_sharing", "features=pooled", "classification", "label"),
    "text-poles-demonstrated": ("tiny_ratings", "lm_bff", "prompt.words=[low,high]", "regression", "label"),
}
TABLES = {  # runs with a language model, on a table of texts
    "tiny_reviews": ["data.label=label"],
    "tiny_ratings": ["data.label=value", "data.scores=[0,5]"],
}
PROMPT = ["prompt.template='{text} it is {mask} .'"]
KINDS = {"image": "image", "resnet": "image", "speech": "speech", "text": "text"}
BATCH = {
    "speech": "_target_:sslzoo.data.sampler.BySeconds,seconds:4.0,buckets:3,max_items:{}",
    "image": "_target_:sslzoo.data.sampler.ByCount,size:{}",
    "text": "_target_:sslzoo.data.sampler.ByCount,size:{}",
}
AUGMENT = "{_target_:sslzoo.augment.spec_augment.SpecAugment,time_warp:2,time_width:4,feature_width:5}"
METRICS = {
    "classification": "accuracy",
    "frames": "accuracy",
    "regression": "pearson_spearman",
    "answers": "f1",
    "transcripts": "wer",
    "diarization": "der",
}
SMALL = {  # further settings of the head and the task
    "speech-letters": [
        "objective.projection_dim=12",
        "objective.hidden=8",
        "objective.dropout=0.2",
        f"objective.augment={AUGMENT}",
    ],
    "text-shared": ["method.groups=1"],
}
SYMBOLS = {"speech-letters": {"symbols": {"_target_": "sslzoo.data.transcripts.Characters"}, "metric": "cer"}}


def kind_of(task: str) -> str:
    return KINDS[task.split("-")[0]]


@cache
def reviews() -> Path:
    """A folder with a table of texts, which have a class and a number each."""
    _kept.append(tempfile.TemporaryDirectory())
    folder, lines = Path(_kept[-1].name), ["text\tlabel\tvalue"]
    for i in range(60):
        good, words = i % 2, " ".join(f"w{i * k % 7}" for k in range(1, 2 + i % 5))
        lines.append(f"film {i} {words} {('bad low', 'good high')[good]}\t{good}\t{3 * good + i % 5 / 2}")
    (folder / "train.tsv").write_text("\n".join(lines))
    return folder


@cache
def tiny_run(encoder: str, kind: str) -> Run:
    """A run's folder as `sslzoo pretrain` leaves it, of an encoder that was moved off its first weights."""
    from conftest import compose

    _kept.append(tempfile.TemporaryDirectory())
    overrides = [f"data=tiny_{kind}", f"encoder={encoder}"]
    if encoder in TABLES:
        table = ["data=text_table", f"data.path={reviews()}", "data.files={train:train.tsv}", "data.text=text"]
        small = [
            "data.vocab_size=120",
            "data.batch.size=8",
            "data.max_tokens=24",
            "encoder=tiny_text",
            "objective=bert",
        ]
        overrides = [*table, *small, *TABLES[encoder]]
    return write_run(Path(_kept[-1].name) / "run", compose(*overrides))


def write_run(folder: Path, config: dict) -> Run:
    run = Run(folder)
    run.folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(config))
    saved = {key: config[key] for key in ("seed", "encoder", "data")}
    write_json(run.encoder, saved | {"own": own.folders_of([config["encoder"], config["data"]])})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = build.make(config["encoder"]).state_dict()
    weights.save(run.weights, {k: w + 0.01 if w.is_floating_point() else w for k, w in state.items()})
    data = build.make(config["data"])
    data.save(run.folder)
    if config["objective"]["_target_"].endswith(".BERT"):
        write_head(run, config, data)
    run.finish()
    return run


def write_head(run: Run, config: dict, data) -> None:
    """The run's objective, as it is before the first step."""
    data.restore(run.folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        objective = build.make(config["objective"], encoder=build.make(config["encoder"]), data=data)
    prepared = {"items": 48, "epoch_steps": 6}
    weights.save(run.objective_weights, objective.state_dict())
    write_json(run.objective, {"objective": config["objective"], "seed": 0, "prepared": prepared, "targets": None})


def rows(task: str, count: int) -> list[str]:
    """Overrides for batches of so many rows."""
    kind = kind_of(task)
    return [f"batch={{{BATCH[kind].format(count)}}}"]


def tiny_task(task: str, *overrides: str) -> dict:
    """The plain config of a tiny `sslzoo adapt`, with its run's folder as `run`."""
    from conftest import compose

    encoder, method, setting, kind, label = TASKS[task]
    run = tiny_run(encoder, kind_of(task))
    chosen = [f"run={run.folder}", "task=digit", f"method={method}", f"head={head_of('digit', kind, method, [])}"]
    chosen += [*PROMPT, setting] if encoder in TABLES else [f"objective.{setting}"]
    config = compose(*chosen, "trainer.progress=false", *SMALL.get(task, []), *overrides, command="adapt")
    node = {
        "_target_": "sslzoo.probe.tasks.Task",
        "name": "tiny",
        "label": label,
        "kind": kind,
        "metric": METRICS[kind],
    }
    if task in SYMBOLS:
        node |= SYMBOLS[task]
    return {**config, "task": node, "weights": weights.signature(run.weights)}
