"""Two ranks on two hosts, which are network namespaces: they meet, a cut link ends both,
and the same command goes on."""

import sys
import time
from pathlib import Path

import pytest
from conftest import TINY
from test_faults import WORDS, until

from sslzoo.run import Run

ROOT = Path(__file__).parents[2]
LOST = ("stands still", "gave no answer within trainer.rank_timeout", "its host is lost")  # of the other host's rank


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """(two hosts, what starts `sslzoo pretrain` on both)."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import two_hosts

    if why := two_hosts.refused():
        pytest.skip(why)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    with two_hosts.two_hosts(tmp_path) as made:

        def start(*words: str) -> list:
            words = two_hosts.launched(["pretrain", "--config-dir", str(TINY), *WORDS, "name=run", *words])
            return [host.start(words, tmp_path / f"{host.name}.txt") for host in made]

        yield made, start


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cut_link_ends_both_ranks_and_the_run_goes_on_when_it_is_mended(hosts, tmp_path):
    (a, b), start = hosts
    more = ["trainer=ddp_cpu", "trainer.max_steps=300", "trainer.save_every=5", "trainer.rank_timeout=10"]
    assert [process.wait(300) for process in start(*more, f"root={tmp_path / 'whole'}")] == [0, 0]

    run, said = Run(tmp_path / "runs" / "run"), [tmp_path / f"{host.name}.txt" for host in (a, b)]
    processes = start(*more, f"root={tmp_path / 'runs'}")
    until(lambda: list(run.checkpoints.glob("*.ckpt")), processes[0])
    a.link("down")
    end = time.monotonic() + 60
    while not all(any(word in path.read_text() for word in LOST) for path in said):
        assert time.monotonic() < end, [path.read_text() for path in said]
        time.sleep(0.1)
    assert [process.wait(120) for process in processes] == [1, 1] and not run.done

    a.link("up")
    assert [process.wait(300) for process in start(*more, f"root={tmp_path / 'runs'}")] == [0, 0]
    assert run.weights.read_bytes() == Run(tmp_path / "whole" / "run").weights.read_bytes()


@pytest.mark.parametrize("ended", ["close", "kill"])
def test_nothing_is_left_of_the_hosts(hosts, tmp_path, ended):
    """Whether the block ends, or the process that made them."""
    (a, b), _ = hosts
    sleeper = a.start(["sleep", "600"], tmp_path / "said.txt")
    reached = b.start([sys.executable, "-c", f"import socket; print(socket.gethostbyname('{a.name}'))"], tmp_path / "b")
    assert reached.wait(60) == 0 and (tmp_path / "b").read_text().strip() == a.address
    if ended == "close":
        a.close()
        assert sleeper.poll() is not None
    else:
        a.shell.stdin.close()  # as the end of this process closes it
    assert a.shell.wait(30) == 1  # of `read`, at the end of its input
    assert sleeper.wait(30) != 0
