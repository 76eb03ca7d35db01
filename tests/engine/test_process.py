"""A process that is dead is known to be, and none that may live is taken for dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from execgraph.engine.sessions import at_work
from execgraph.engine.sessions.process import is_dead, this_process
from execgraph.graphstore.model import Wish
from execgraph.graphstore.null_store import NullStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")

_TELL = "from execgraph.engine.sessions.process import this_process as it; print(it(), flush=True)"


def test_this_one_lives() -> None:
    assert not is_dead(this_process())
    assert this_process() == this_process()


def test_a_fork_is_another_one() -> None:
    mine = this_process()
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(write, str(this_process()).encode())
        os._exit(0)
    told = os.read(read, 1000).decode()
    assert told != mine
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(told), "also while nobody has looked at its end"
    os.waitpid(pid, 0)
    assert is_dead(told)


def test_a_fork_is_not_at_work_on_what_its_parent_is() -> None:
    """Else nobody there could go on with it when the parent has died."""
    wish = Wish(key="w", task="t", execution="e", process=None, idle_ms=3_600_000)
    at_work._HERE.add("e")
    try:
        works = at_work.AtWork(NullStore("n"))
        assert works.is_alive(wish)
        if (pid := os.fork()) == 0:
            os._exit(int(works.is_alive(wish)))
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        at_work._HERE.discard("e")


def test_one_that_was_killed_is_dead() -> None:
    code = f"{_TELL}\nimport time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        name = it.stdout.readline().strip()
        assert not is_dead(name)
        it.send_signal(signal.SIGKILL)
    assert is_dead(name)


def test_of_others_nothing_is_known() -> None:
    name = this_process()
    assert name is not None
    where, pid, started = name.rsplit("/", 2)
    assert is_dead(f"{where}/{pid}/{int(started) - 1}"), "its id has been given to another one"
    assert not is_dead(f"another machine/{where.partition('/')[2]}/{pid}/{int(started) - 1}")
    assert not is_dead(f"{where.partition('/')[0]}/another container/{pid}/1")
    assert not is_dead(None)
