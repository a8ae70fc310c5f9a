"""Shell completion: of commands, then Hydra's completion of groups and keys."""

from pathlib import Path

from sslzoo.cli.flags import config_folders
from sslzoo.cli.registry import ACTIONS
from sslzoo.config import CONF, GROUPS
from sslzoo.report.runs import folders

BASH = """_sslzoo() {
    local IFS=$'\\n'
    COMPREPLY=($("${1/#\\~/$HOME}" completion --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -F _sslzoo sslzoo"""

ZSH = """_sslzoo() {
    local -a found open
    found=("${(@f)$(${(Q)~words[1]} completion --line "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    found=(${found:#})
    (( $#found )) || { _files; return }
    open=(${(M)found:#*[=./]})
    (( $#open )) && compadd -Q -S '' -- $open
    found=(${found:#*[=./]})
    (( $#found )) && compadd -Q -- $found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _sslzoo sslzoo"""

FISH = """function __sslzoo
    set -l words (commandline -opc) (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    $program completion --line (string join ' ' -- $words) 2>/dev/null
end
complete -c sslzoo -a '(__sslzoo)'"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def candidates(line: str, commands) -> list[str]:
    """Completions of the last word of `line`, whose first word is the program's name."""
    words = line.split()[1:]
    if line.endswith(" ") or not words:
        words.append("")
    if len(words) == 1:
        return [name for name in commands if name.startswith(words[0])]
    command, *typed = words
    if (CONF / f"{command}.yaml").exists():
        from hydra._internal.hydra import Hydra
        from hydra._internal.utils import create_config_search_path
        from hydra.plugins.completion_plugin import DefaultCompletionPlugin

        words, path = typed[:-1], create_config_search_path(str(CONF))
        if words and words[-1] in ("--config-dir", "-cd"):
            return []
        for folder in config_folders(words):
            path.prepend("command-line", f"file://{folder.resolve()}")
        key, equal, start = typed[-1].partition("=")
        if equal and key in ("run", "init", "other"):
            return [f"{key}={found}" for found in runs(words, start)]
        typed = [word for place, word in enumerate(typed) if not of_flag(typed, place)]
        hydra = Hydra.create_main_hydra2("sslzoo", path)
        return sorted(DefaultCompletionPlugin(hydra.config_loader)._query(config_name=command, line=" ".join(typed)))
    if command == "list":
        return [name for name in GROUPS if name.startswith(typed[-1])]
    if command == "report":
        return runs([], typed[-1])
    if command == "runs":
        acts = [name for name in ACTIONS if len(typed) == 1 and name.startswith(typed[-1])]
        return acts + (runs(typed, typed[-1]) if len(typed) > 1 and typed[0] in ("show", "diff", "rm") else [])
    return []  # the shell then completes files


def of_flag(words: list[str], place: int) -> bool:
    """Whether a word is a flag, or the folder after --config-dir."""
    return words[place].startswith("-") or (place > 0 and words[place - 1] in ("--config-dir", "-cd"))


def runs(words: list[str], start: str) -> list[str]:
    """The folders of runs whose path, or name under the root, starts with `start`."""
    root = Path(next((word.removeprefix("root=") for word in words if word.startswith("root=")), "runs"))
    found = folders(root) if root.is_dir() else []
    return sorted(
        str(run) for run in found if str(run).startswith(start) or run.relative_to(root).as_posix().startswith(start)
    )
