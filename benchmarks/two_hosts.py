"""Two network namespaces of this machine as two hosts: each with a name and an address of its own, and a link between
them that can be cut. Their traffic stays on this machine.

A host lasts as long as the shell in it, which is the first process of a process namespace and ends with its standard
input: when this process ends, in whatever way, the system ends the shell and with it all that was started on the host.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESSES = {"host-a": "10.77.0.1", "host-b": "10.77.0.2"}
LINK = "link0"  # the network device of each host
SPACES = ("--net", "--uts", "--mount")  # network, host name, and /etc/hosts
PROCESSES = ("--pid", "--fork", "--kill-child", "--mount-proc")


def refused() -> str:
    """Why this machine cannot have two hosts; "" if it can."""
    for tool in ("unshare", "nsenter", "ip", "mount"):
        if shutil.which(tool) is None:
            return f"network namespaces need {tool}, which is not there"
    pair = ("ip", "link", "add", "one", "type", "veth", "peer", "name", "other")
    tried = subprocess.run(["unshare", *SPACES, *PROCESSES, *pair], capture_output=True, text=True, check=False)
    return f"network namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else ""


class Host:
    """names: a file that says the addresses of all hosts, as /etc/hosts does."""

    def __init__(self, name: str, names: Path):
        self.name, self.address, self.started = name, ADDRESSES[name], list[subprocess.Popen]()
        begin = f"hostname {name} && mount --bind '{names}' /etc/hosts && ip link set lo up && echo ready && read _"
        self.shell = subprocess.Popen(
            ["unshare", *SPACES, *PROCESSES, "sh", "-c", begin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.shell.stdout.readline() == "ready\n"

    def start(self, words: list[str], said: Path) -> subprocess.Popen:
        """Start a command on this host. said: a file to which its output is added."""
        spaces = [*SPACES, f"--pid=/proc/{self.shell.pid}/ns/pid_for_children"]
        inside = ["nsenter", "--target", str(self.shell.pid), *spaces, "env", "-C", os.getcwd(), *words]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # of torchrun
        with open(said, "a") as file:
            process = subprocess.Popen(
                inside, stdout=file, stderr=file, start_new_session=True, env={**os.environ, "PATH": path}
            )
        self.started.append(process)
        return process

    def ip(self, *words: str) -> None:
        subprocess.run(["nsenter", "--target", str(self.shell.pid), "--net", "ip", *words], check=True)

    def link(self, state: str) -> None:
        """Cut the link of this host ("down"), or mend it ("up")."""
        self.ip("link", "set", LINK, state)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.shell.stdin.close()
        self.shell.wait()
        self.shell.stdout.close()


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """A context with two hosts that reach each other, and nothing else. folder: for a file."""
    names = folder / "hosts"
    lines = [f"{address} {name}" for name, address in ADDRESSES.items()]
    names.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    hosts = tuple(Host(name, names) for name in ADDRESSES)
    try:
        ends = [["name", LINK, "netns", str(host.shell.pid)] for host in hosts]
        subprocess.run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]], check=True)
        for host in hosts:
            host.ip("addr", "add", f"{host.address}/24", "dev", LINK)
            host.link("up")
        yield hosts
    finally:
        for host in hosts:
            host.close()


def launched(words: list[str]) -> list[str]:
    """The words of `sslzoo launch` on each of two hosts, for a command that begins with `pretrain`."""
    by = ["--by", "torchrun", "--hosts", "2", "--ranks", "1", "--host", ADDRESSES["host-a"]]
    return [sys.executable, "-m", "sslzoo", "launch", *by, "--", *words]
