"""Programs that tests start, as forks of a process that has loaded what they need.

To load the SDK of a model takes longer than most of these programs run. Each is a process of its
own all the same: with its own arguments, environment, folder and streams, and it may be killed.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import runpy
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

__all__ = ["COMMAND", "Fork", "run"]

#: The command ``execgraph``, as a program to start.
COMMAND = Path(sys.executable).with_name("execgraph")

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["execgraph.tests.loaded"])


class Fork:
    """A program that runs, and the other ends of its streams: as ``subprocess.Popen`` with text.

    ``program``: a module or the path of a script; it is run as ``__main__``.
    """

    def __init__(
        self,
        program: str | Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        (stdin, to), (out, stdout), (err, stderr) = (os.pipe() for _ in range(3))
        self.args = [str(program), *arguments]
        self._process = _FORKS.Process(
            target=_be,
            args=(self.args, dict(os.environ if env is None else env), str(cwd or Path.cwd())),
            kwargs={"streams": _Descriptors(stdin, stdout, stderr)},
        )
        self._process.start()
        for it in (stdin, stdout, stderr):
            os.close(it)
        self.stdin = os.fdopen(to, "w", encoding="utf-8")
        self.stdout = os.fdopen(out, encoding="utf-8", newline="")
        self.stderr = os.fdopen(err, encoding="utf-8", newline="")
        self._reading: list[Future[str]] = []

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises TimeoutExpired."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What else it says until it ends. Raises TimeoutExpired, and may be called again then."""
        if not self._reading:
            self.stdin.close()
            self._reading = [_READERS.submit(it.read) for it in (self.stdout, self.stderr)]
        self.wait(timeout)
        said, errors = (it.result() for it in self._reading)
        self.close()
        return said, errors

    def send_signal(self, number: int) -> None:
        """Send it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Let go of its streams."""
        for it in (self.stdin, self.stdout, self.stderr):
            it.close()


def run(
    program: str | Path, *arguments: str, timeout: float | None = None, **how: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``subprocess.run`` does."""
    fork = Fork(program, *arguments, **how)
    try:
        said, errors = fork.communicate(timeout)
    except subprocess.TimeoutExpired:
        fork.kill()
        raise
    return subprocess.CompletedProcess(fork.args, fork.wait(), said, errors)


_READERS = ThreadPoolExecutor(max_workers=100, thread_name_prefix="reads a fork")


class _Descriptors:
    """File descriptors that a fork is given as its standard streams."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors

    def __getstate__(self) -> list[Any]:
        return [DupFd(it) for it in self._descriptors]

    def __setstate__(self, given: list[Any]) -> None:
        for number, it in enumerate(given):
            descriptor = it.detach()
            os.dup2(descriptor, number)
            os.close(descriptor)


def _be(argv: list[str], environment: dict[str, str], folder: str, streams: _Descriptors) -> None:
    """What a fork does: become the program."""
    del streams  # it has taken them
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    faulthandler.enable()
    warnings.simplefilter("error")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = argv
    try:
        if Path(argv[0]).is_file():
            runpy.run_path(argv[0], run_name="__main__")
        else:
            runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    finally:  # as an interpreter ends, which a fork does not
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
