"""`sslzoo probe`: from a composed config and a finished run to a file of results."""

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from sslzoo import build
from sslzoo.config import fingerprint, protocol
from sslzoo.disk import remove_unfinished
from sslzoo.errors import ConfigError
from sslzoo.features.compatible import agreeing_task
from sslzoo.features.device import chosen_device
from sslzoo.features.store import FeatureCache
from sslzoo.lock import sole_writer
from sslzoo.probe.baselines import Baselines
from sslzoo.probe.leakage import checked_most
from sslzoo.probe.subject import ProbeSubject
from sslzoo.progress import bars
from sslzoo.run import Run, write_json


def run_probe(config: dict, choices: dict[str, str], given: Collection[str] = ()) -> Path:
    """Probe the run on config.task, with config.data if set; print the scores and return the path of the results.
    given: dotted keys of the settings that the user wrote."""
    settings = protocol(config, choices, given)
    for node, setting in settings.items():
        build.check(setting, node)
    probe, device = build.make(config["probe"]), chosen_device(config["device"])
    build.make(settings["task"]).check_probed()  # fail before the run is looked up
    run = Run.find(config["run"], Path(str(config["root"])))
    subject = _subject(
        run.folder.resolve(), _identity(run), device, _cache_gb(config), checked_most(config["leakage_items"])
    )
    node, changed = agreeing_task(settings["task"], subject.encoder, subject.data, config, given)
    task = build.make(node)
    if "task.name" not in given:
        task.name += probe.suffix
    if changed:
        print(changed)
    more = {}
    if config["baselines"] is not None:
        more["known"] = Baselines(Path(str(config["baselines"])), run, subject.data, settings)
    path = run.probes / f"{task.name}.json"
    with sole_writer(run.probes, name=task.name):
        remove_unfinished(run.probes)
        with bars() as progress:
            results = probe(subject, task, progress, **more)
        subject.cache.trim()
        write_json(path, {kind: {**result, "protocol": fingerprint(settings)} for kind, result in results.items()})
    print(summary(task.name, results))
    return path


@lru_cache(maxsize=1)  # so that a sweep over tasks reads a run's features once
def _subject(folder: Path, identity: tuple[str, ...], device: str, cache_gb: float, leakage_items: int) -> ProbeSubject:
    encoder, data = build.load_encoder(Run(folder))
    untrained, _ = build.load_encoder(Run(folder), untrained=True)
    encoders = {"pretrained": encoder, "untrained": untrained}
    return ProbeSubject(encoders, data, folder, device, FeatureCache(cache_gb), leakage_items)


def _cache_gb(config: dict) -> float:
    found = config["cache_gb"]
    if not build.fits(found, float) or found < 0:
        raise ConfigError(f"cache_gb must be how many GB of features to keep, 0 for none; got {found}")
    return float(found)


def _identity(run: Run) -> tuple[str, ...]:
    """Distinguishes a run's encoder from an earlier one in the same folder."""
    files = run.encoder, Path(f"{run.weights}.sha256")
    return tuple(path.read_text(encoding="utf-8") if path.exists() else "" for path in files)


def summary(name: str, results: dict[str, dict]) -> str:
    """A task's results in a few lines for a terminal, scores times 100."""
    one = next(iter(results.values()))
    lines = [f"{name}: {one['metric']} on {one['n_test']} of test, chance {100 * one['chance']:.1f}"]
    for kind, result in results.items():
        knn = f"{result['knn']['k']} neighbours {100 * result['knn']['test']:5.1f}"
        if "linear" not in result:
            lines.append(f"  {kind:10}  {knn}   in layer {result['knn']['layer']}, which validation chose")
            continue
        linear = 100 * result["linear"]["test"]
        edge = f"   at the edge of the penalties, {result['linear']['penalty']:g}" if result["linear"]["edge"] else ""
        lines.append(f"  {kind:10}  linear {linear:5.1f}   {knn}{edge}")
        if "by_layer" in result["linear"]:
            scores = zip(result["linear"]["layers"], result["linear"]["by_layer"]["test"], strict=True)
            lines.append("    each layer  " + "  ".join(f"{name}: {100 * value:.1f}" for name, value in scores))
    if "leakage" in one:
        lines.append(f"  {one['leakage']['said']}")
    return "\n".join(lines)
