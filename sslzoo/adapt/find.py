"""Finding an adaptation of a run. Imports no torch."""

from sslzoo.errors import UserError, nearest
from sslzoo.run import Run


def adapted_run(run: Run, name: str) -> Run:
    """The run of an adaptation. Raises UserError if it is not finished."""
    found = Run(run.folder / "adapted" / name)
    if not found.adapted.exists():
        names = sorted(path.parent.name for path in run.folder.glob("adapted/*/adapted.json"))
        raise UserError(
            f"{run.folder} was not adapted as '{name}'{nearest(name, names)} — finished are: {', '.join(names) or 'none'}"
        )
    return found
