"""Whether a result was made by other code than today's, and how tables say so."""

import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import sslzoo

STALE = "†"  # after what is stale
ROOT = Path(sslzoo.__file__).parent
SCORING = (  # what scores depend on, of sslzoo's folders and modules, and the config
    "adapt", "augment", "data", "encoders", "features", "interop", "label", "nn", "objectives", "probe", "prompts",
    "tasks", "train", "build.py", "pretrain.py", "rng.py", "../conf",
)  # fmt: skip


def marked(text: str, stale: bool) -> str:
    """A cell or a name, with the mark if it is stale."""
    return f"{text} {STALE}" if stale else text


def explained(reasons: Iterable[str]) -> str:
    """What the mark means, for the reasons that there are; "" for none."""
    said = " or ".join(dict.fromkeys(reasons))
    return f"{STALE} stale: made by {said} than today's or the others'; run it again." if said else ""


@cache
def code_changed(since: str | None, root: Path = ROOT) -> bool:
    """Whether code or config that scores depend on differ from those of a commit, as `run.commit` names it: of a commit
    that is not known here, or with changes that were not committed, they do. False outside git."""

    def git(*words: str) -> int | None:
        try:
            return subprocess.run(["git", "-C", root, *words], capture_output=True, check=False).returncode
        except OSError:  # git is not installed
            return None

    if since is None or git("ls-files", "--error-unmatch", "__init__.py") != 0:
        return False
    return since.endswith("-dirty") or git("diff", "--quiet", since, "--", *SCORING) != 0
