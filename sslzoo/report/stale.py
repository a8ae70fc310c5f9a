"""Whether a result was made by other code than today's."""

import subprocess
from functools import cache
from pathlib import Path

import sslzoo

ROOT = Path(sslzoo.__file__).parent
SCORING = (  # what scores depend on, of sslzoo's folders and modules, and the config
    "adapt", "augment", "data", "encoders", "features", "interop", "label", "nn", "objectives", "probe", "prompts",
    "tasks", "train", "build.py", "pretrain.py", "rng.py", "../conf",
)  # fmt: skip


@cache
def code_changed(since: str | None, root: Path = ROOT) -> bool:
    """Whether code or config that scores depend on differ from those of a commit, as `run.commit` names it: of a commit that
    is not known here, or with changes that were not committed, they do. False outside git."""

    def git(*words: str) -> int | None:
        try:
            return subprocess.run(["git", "-C", root, *words], capture_output=True, check=False).returncode
        except OSError:  # git is not installed
            return None

    if since is None or git("ls-files", "--error-unmatch", "__init__.py") != 0:
        return False
    return since.endswith("-dirty") or git("diff", "--quiet", since, "--", *SCORING) != 0
