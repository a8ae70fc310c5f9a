"""The commands. torch is imported only inside those that compute, so that help, lists and completion are fast."""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import sslzoo
from sslzoo.cli import following
from sslzoo.cli.caching import cache_
from sslzoo.cli.comparing import bench, compare
from sslzoo.cli.compose import composed, fitting_head, given, of_the_task, typed, with_head, with_tasks
from sslzoo.cli.documenting import docs
from sslzoo.cli.exporting import export
from sslzoo.cli.flags import Parser, config_folders
from sslzoo.cli.importing import import_
from sslzoo.cli.launching import launch
from sslzoo.cli.listing import list_
from sslzoo.cli.registry import runs, watch
from sslzoo.cli.sharding import shard
from sslzoo.cli.terminal import end_on_signals, streams
from sslzoo.config import FURTHER
from sslzoo.errors import ConfigError, nearest, one_line_error


def pretrain(argv: list[str]) -> None:
    """train an encoder with an objective: sslzoo pretrain objective=simclr data=digits encoder=resnet_small"""

    def work(config: dict, choices: dict) -> float | None:
        from sslzoo.build import build, write_config
        from sslzoo.cli import metric
        from sslzoo.cli.naming import run_name
        from sslzoo.initial import pinned, with_codes
        from sslzoo.lock import sole_writer
        from sslzoo.run import Run, checked_name
        from sslzoo.train import launch
        from sslzoo.train.cluster import first_rank

        root, name, asked = Path(str(config.pop("root"))), config.pop("name"), config.pop("metric")
        name = None if name is None else checked_name(name)
        config["init"] = pinned(config["init"], root, config["objective"])
        config["encoder"] = with_codes(config["encoder"], root)
        if name is None:
            parts = [str(choices[group]) for group in ("objective", "data", "encoder")]
            name = run_name("-".join([*parts, f"s{config['seed']}"]), config, root)
        run = Run(root / name)
        job = build(config)
        metric.check(asked, job, config_folders(argv))
        with sole_writer(run.folder, first_rank(job.trainer)):
            write_config(run, config)
            with run.attempt(typed()):
                if run.done:
                    print(f"{run.folder} is done already")
                elif not launch.pretrain(job, run):
                    return None  # not the first rank
        print(f"wrote {run.folder}\nnext:  {following.after_pretraining(run, job, argv)}")
        return metric.measured(run, asked, config_folders(argv))

    composed("pretrain", argv, work)


def probe(argv: list[str]) -> None:
    """measure what an encoder learned: sslzoo probe run=runs/… task=digit"""

    def work(config: dict, choices: dict) -> float:
        from sslzoo.cli.metric import validation
        from sslzoo.probe.command import run_probe

        path = run_probe(config, choices, given())
        print(f"wrote {path}\nnext:  {following.command('report', str(path.parents[1]), argv=argv)}")
        return validation(path)

    composed("probe", of_the_task(argv), work)


def adapt(argv: list[str]) -> None:
    """train a run's encoder further on a task's labels: sslzoo adapt run=runs/… task=digit method=full"""

    def work(config: dict, choices: dict) -> float | None:
        from sslzoo.adapt.command import run_adapt
        from sslzoo.cli.sweep_scores import Reached

        path = run_adapt(fitting_head(config, choices, given()), choices, typed(), given())
        if path is None:
            return None
        print(f"wrote {path}\nnext:  {following.command('report', str(path.parent), argv=argv)}")
        print(f"in Python:  sslzoo.load({str(path.parents[2])!r}, adapted={path.parent.name!r})")
        result = json.loads(path.read_text(encoding="utf-8"))
        return Reached(result["valid"][result["metric"]], str(path))

    composed("adapt", with_head(with_tasks(of_the_task(argv))), work)


def label(argv: list[str]) -> None:
    """cluster frames of speech into targets: sslzoo label source=mfcc data=spoken | run=runs/… layer=6"""

    def work(config: dict, choices: dict) -> None:
        from sslzoo.features import ranks
        from sslzoo.label.command import run_label, summary
        from sslzoo.run import Run

        folder, info, before = run_label(config, choices, given())
        if ranks.number():
            return
        print(summary(info))
        if before:
            print(f"{folder} is done already")
        run = None if config["run"] is None else Run.find(str(config["run"]), Path(str(config["root"])))
        then = following.after_labelling(folder, info, typed(), run, argv)
        print(f"wrote {folder}\nnext:  {then}" if then else f"wrote {folder}")

    composed("label", argv, work)


def extract(argv: list[str]) -> None:
    """write a run's features to a folder: sslzoo extract run=runs/… split=test out=features"""

    def work(config: dict, choices: dict) -> None:
        from sslzoo.features import ranks
        from sslzoo.features.command import run_extract

        out = run_extract(config, given())
        if ranks.number() == 0:
            print(f"wrote {out}")

    composed("extract", argv, work)


def analyze(argv: list[str]) -> None:
    """look into what a run makes of its data: sslzoo analyze run=runs/… analysis=layers|cka|cca|contexts|…"""

    def of_the_analysis(word: str) -> str:
        """task=…, task/split=… and task.label=… as settings of the analysis."""
        group = re.fullmatch(r"task((?:/\w+)?)(=.*)", word, re.DOTALL)
        if group:
            return f"task{group[1]}@analysis.task{group[1].replace('/', '.')}{group[2]}"
        return f"analysis.{word}" if word.startswith("task.") else word

    def work(config: dict, choices: dict) -> None:
        from sslzoo.analysis.command import run_analyze

        path, then = run_analyze(config, given())
        print(f"wrote {path}")
        for words in [*then, ["report", str(path.parents[1])]]:
            print(f"next:  {following.command(*words, argv=argv)}")

    composed("analyze", [of_the_analysis(word) for word in argv], work)


def generate(argv: list[str]) -> None:
    """go on with a text: sslzoo generate run=runs/… prompt='To be'"""

    from sslzoo.compare.process import quoted

    def literal(word: str) -> str:
        """prompt=… and stop=… quoted for Hydra, as texts have commas and special characters, unless already quoted."""
        key, _, text = word.partition("=")
        if key not in ("prompt", "stop") or (len(text) > 1 and text[0] == text[-1] in "'\""):
            return word
        return f"{key}=" + quoted(text.replace("${", "\\${"))

    def work(config: dict, choices: dict) -> None:
        from sslzoo.cli.generate import run_generate

        print(run_generate(config))

    composed("generate", [literal(word) for word in argv], work)


def report(argv: list[str]) -> None:
    """one HTML page about one or several runs: sslzoo report runs/a runs/b --out report.html"""
    parser = Parser(prog="sslzoo report", description=report.__doc__)
    parser.add_argument("runs", nargs="+", help="folders or names of runs")
    parser.add_argument("--out", type=Path, help="where to write the page (default: report.html in the run)")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where the names lie (default: runs)")
    parser.add_argument("--config-dir", "-cd", action="append", help="taken as by the other commands; nothing is read")
    # root=… and out=…, as in the composed commands
    args = parser.parse_args([f"--{word}" if word.startswith(("root=", "out=")) else word for word in argv])
    from sslzoo.report import headline
    from sslzoo.report.page import write
    from sslzoo.report.record import found

    runs, passed = found(args.runs, args.root)
    if passed:
        print(
            f"passed over {', '.join(passed)}: no run{'' if len(passed) == 1 else 's'} (no config.yaml)",
            file=sys.stderr,
        )
    out = args.out or runs[0].folder / "report.html"
    rows = write(runs, out)
    print("\n".join([*filter(None, [headline.text(rows)]), f"wrote {out}"]))


def doctor(argv: list[str]) -> None:
    """what this machine has, and what would fail on it"""
    parser = Parser(prog="sslzoo doctor", description=doctor.__doc__)
    parser.add_argument("--ranks", type=int, help="also try so many ranks on this machine: a step and an all-reduce")
    args = parser.parse_args(argv)
    from sslzoo.cli.doctor import examine

    if not examine(args.ranks):
        sys.exit(1)


def completion(argv: list[str]) -> None:
    """shell completion: eval "$(sslzoo completion)" in bash; `completion zsh`, `completion fish | source`"""
    from sslzoo.cli.completion import SCRIPTS, candidates

    parser = Parser(prog="sslzoo completion", description=completion.__doc__)
    parser.add_argument("shell", nargs="?", default="bash", choices=SCRIPTS, help="the shell that it is for")
    parser.add_argument("--line", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    found = [SCRIPTS[args.shell]] if args.line is None else candidates(args.line, COMMANDS)
    print("\n".join(found), end="\n" if found else "")


COMMANDS = {
    "pretrain": pretrain,
    "probe": probe,
    "adapt": adapt,
    "extract": extract,
    "analyze": analyze,
    "generate": generate,
    "label": label,
    "compare": compare,
    "shard": shard,
    "bench": bench,
    "import": import_,
    "export": export,
    "report": report,
    "runs": runs,
    "watch": watch,
    "docs": docs,
    "list": list_,
    "cache": cache_,
    "launch": launch,
    "doctor": doctor,
    "completion": completion,
}


def usage() -> str:
    lines = [f"  {name:11} {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: sslzoo COMMAND [key=value …] [--help] [--version] [--traceback]", "", *lines, "", FURTHER]
    )


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 failed, 2 wrong usage or config; 128 + n where signal n ended it."""
    end_on_signals()
    with streams():
        run_command()


def run_command() -> None:
    """Run the command in sys.argv."""
    # OpenMP: spinning makes a step 4 times slower on a shared machine, sleeping at once 2 times slower on an idle one
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "10000"}
    argv = sys.argv[1:]
    if "--traceback" in argv:
        sys.argv.remove("--traceback")
        argv.remove("--traceback")
        os.environ["SSLZOO_TRACEBACK"] = "1"
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if argv else 2)
    if argv[0] == "--version":
        print(f"sslzoo {sslzoo.__version__}")
        return
    try:
        if argv[0] not in COMMANDS:
            raise ConfigError(
                f"there is no command '{argv[0]}'{nearest(argv[0], COMMANDS)} — commands: {', '.join(COMMANDS)}"
            )
        COMMANDS[argv[0]](argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        raise  # handled by `streams`
    except Exception as error:
        if os.environ.get("SSLZOO_TRACEBACK"):
            raise
        print(f"sslzoo: {one_line_error(error)}", file=sys.stderr)
        sys.exit(getattr(error, "code", 1))
