"""What may come next on a command line: commands, then Hydra's own completion of groups and keys."""

from sslzoo.config import CONF, GROUPS

SCRIPT = """_sslzoo() {
    local IFS=$'\\n'
    COMPREPLY=($(sslzoo completion --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -F _sslzoo sslzoo"""


def candidates(line: str, commands) -> list[str]:
    """Completions of the last word of `line`, which begins with the program's name."""
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

        hydra = Hydra.create_main_hydra2("sslzoo", create_config_search_path(str(CONF)))
        return sorted(DefaultCompletionPlugin(hydra.config_loader)._query(config_name=command, line=" ".join(typed)))
    if command == "list":
        return [name for name in GROUPS if name.startswith(typed[-1])]
    return []  # the shell's own: files
