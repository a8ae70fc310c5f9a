"""The page of an objective, written from its docstring, its yaml and stored results."""

import inspect
import re
from pathlib import Path

from sslzoo.build import OFFERED
from sslzoo.config import CONF, options
from sslzoo.docs import figures
from sslzoo.docs.example import class_of, example, modality_of, offered
from sslzoo.objectives.base import Objective

ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
EQUATION = re.compile(r"^\S.{0,40}? (=|<-) ")
MODALITIES = {"image": "images", "speech": "speech", "text": "text"}


def linked(text: str) -> str:
    """With the numbers of arXiv papers as links."""
    return ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", text)


def prose(docstring: str) -> str:
    """A docstring as Markdown: paragraphs, equations in blocks of their own."""
    parts = []
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        lines = paragraph.splitlines()
        if EQUATION.match(lines[0]) and not paragraph.rstrip().endswith("."):
            parts.append("```text\n" + paragraph + "\n```")
        else:
            parts.append(linked(" ".join(line.strip() for line in lines)))
    return "\n\n".join(parts)


def encoders_with(modality: str, needs: frozenset[str]) -> list[str]:
    return [name for name, (of, offers) in offered().items() if of == modality and needs <= offers]


def when(objective: str, kind: type[Objective]) -> list[str]:
    """When to use it, as far as its class and the results say."""
    shown, modality = example(objective), modality_of(objective)
    fit = ", ".join(f"`{name}`" for name in encoders_with(modality, kind.needs))
    needs = " and ".join(OFFERED.get(name, name) for name in sorted(kind.needs))
    says = [f"On {MODALITIES[modality]}, with encoders{f' that offer {needs}' if needs else ''}: {fit}."]
    if kind.batch_terms:
        says.append(
            f"Its loss compares the rows of a batch ({kind.batch_terms}): a larger batch changes what is learned."
        )
    elif kind.min_batch == 1:
        says.append("Its loss is a sum over items: any batch will do.")
    if kind.min_batch > 1:
        says.append(f"A batch has at least {kind.min_batch} items.")
    if kind.learns_targets:
        says.append("It learns targets, which `sslzoo label` makes first.")
    if shown.teacher:
        says.append("It keeps a slow copy of the encoder, a second one in memory and in time.")
    if shown.refreshes:
        says.append("It reads the whole training set again from time to time, to cluster it.")
    for s in figures.scores().get(objective, []):
        says.append(f"In `{s.comparison}`, on {s.task}, it is {s.place} of {s.of}, {s.beyond}.")
    return says


def page(objective: str, folder: Path) -> str:
    """The Markdown of an objective's page; its pictures are written to a folder."""
    kind, summary = class_of(objective), options("objective")[objective]
    text = (CONF / "objective" / f"{objective}.yaml").read_text(encoding="utf-8")
    module = inspect.getdoc(inspect.getmodule(kind)) or ""
    shown = example(objective)
    if not re.match(r"\S*\d", summary):  # a name, such as wav2vec
        summary = summary[:1].upper() + summary[1:]
    parts = [f"# {objective}", linked(summary) + ".", linked(module)]
    parts += ["## Idea and equation", prose(kind.__doc__ or ""), "## What it predicts"]
    if shown.drawn:
        parts.append(f"Drawn with `{' '.join(shown.words)}`, before the first step:")
        parts.append(f'<div class="shown">{shown.picture}</div>')
    else:
        parts.append(shown.picture)
    parts.append("## When to use it")
    parts.append("\n".join(f"- {line}" for line in when(objective, kind)))
    parts += ["## Config", f"`conf/objective/{objective}.yaml`:", f"```yaml\n{text.rstrip()}\n```"]
    commands = [f"sslzoo label {' '.join(shown.before)}"] if shown.before else []
    parts.append("\n".join(["```sh", *commands, f"sslzoo pretrain {' '.join(shown.words)}", "```"]))
    parts.append("## A healthy run")
    if (band := figures.band_of(objective)) is None:
        parts.append("No curve is stored yet: `benchmarks/healthy.py` makes one of three finished runs.")
    else:
        figures.draw_band(band, folder / f"{band.name}.png")
        steps, data = band.config["trainer"]["max_steps"], band.config["data"]["_target_"].rpartition(".")[2]
        parts.append(
            f"The loss of {band.seeds} runs of {steps} steps on {data}; a report draws a run of this config on it."
        )
        parts.append(f"![The loss of healthy runs of {objective}]({band.name}.png)")
    parts.append("## Figures")
    own = figures.scores().get(objective)
    if own:
        parts += ["Linear probes on frozen features, times 100, mean ± deviation over seeds:", figures.table(own)]
    else:
        parts.append("No comparison with it is stored yet.")
    return "\n\n".join(parts) + "\n"
