"""Checks of what a comparison's config names."""

import re

from sslzoo.errors import ConfigError


def key_of(item: str) -> str:
    return item.lstrip("+~").split("=")[0]


def value_of(item: str) -> str:
    return item.partition("=")[2].strip("'\"")


def not_ours(items: list[str], where: str, ours: tuple[str, ...]) -> None:
    """Raise ConfigError for an override of a setting that the comparison sets."""
    for item in items:
        if key_of(item) in ours:
            raise ConfigError(f"{where} sets {item}, which the comparison itself does")


def tasks_of(items, where: str) -> dict[str, list[str]]:
    """[digit, {sst2: [task.data.path=…]}] -> {task: overrides}."""
    if not isinstance(items, list) or not all(isinstance(item, str | dict) for item in items):
        raise ConfigError(f"{where} must be a list of tasks, or of task: [overrides]; got {items}")
    by_task: dict[str, list[str]] = {}
    for item in items:
        by_task |= {item: []} if isinstance(item, str) else item
    for task, overrides in by_task.items():
        named(task, f"a task in {where}")
        strings(overrides, f"{where}.{task}")
    return by_task


def strings(items, where: str) -> None:
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{where} must be a list of strings, got {items}")


def named(name, what: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(
            f"{what} must be a word of letters, digits, '_', '-' and '.', for it names a folder; got {name!r}"
        )
