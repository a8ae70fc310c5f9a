"""The command line: `sslzoo COMMAND …`. Nothing here imports torch before a command computes."""

from sslzoo.cli.commands import COMMANDS, main

__all__ = ["COMMANDS", "main"]
