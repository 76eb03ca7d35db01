"""What recording costs on SQLite: the time of a run less what the model and the tools took.

The model is a function of this process behind the real SDK's adapter, so that no server's work is
counted; each run is a new task. Beside it, one commit of one row to a file of its own.
"""

from __future__ import annotations

import itertools
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from .measure import Row, Setting
from .synthetic import Bench, clock, task

__all__ = ["run"]

_GOAL = 1.0


async def run(setting: Setting) -> list[Row]:
    """Milliseconds a step, and their ratio to a bare commit."""
    numbers = itertools.count(1)
    engine_ms: list[float] = []
    commit_ms: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        commits = _commits(Path(folder))
        bench = Bench(f"sqlite:///{folder}/graph.db", "bench")
        async with bench.engine:
            await bench.observe()
            setting.say.phase("recording new tasks in turns with a bare commit")
            steps = len((await bench.agent.execute(task())).steps)  # loads the table of prices
            rounds = max(20, setting.rounds // 3)
            advance = setting.say.counting(rounds)
            for done in range(1, rounds + 1):
                clock.spent = 0.0
                started = time.perf_counter()
                result = await bench.agent.execute(task(next(numbers)))
                spent = time.perf_counter() - started - clock.spent
                assert result.recorded
                engine_ms.append(spent * 1000 / steps)
                commit_ms.append(_timed_commit(commits))
                advance(done)
    step, commit = statistics.median(engine_ms), statistics.median(commit_ms)
    return [
        Row(
            f"engine's time a step, run of {steps} steps",
            f"{step:.3f} ms",
            "",
            step,
            _GOAL,
            unit=" ms",
        ),
        Row(
            "engine's time for the whole run",
            f"{step * steps:.3f} ms",
            f"a bare commit {commit:.3f} ms",
            step * steps / commit,
        ),
    ]


def _commits(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE row (data TEXT)")
    return connection


def _timed_commit(connection: sqlite3.Connection) -> float:
    started = time.perf_counter()
    connection.execute("INSERT INTO row VALUES ('one row')")
    return (time.perf_counter() - started) * 1000
