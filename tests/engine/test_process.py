"""A process that is dead is known to be, and none that may live is taken for dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from execgraph.engine.sessions.process import is_dead, this_process

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
