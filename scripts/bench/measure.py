"""Timing side by side, and what a benchmark has to say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

__all__ = ["Row", "Say", "Setting", "Side", "ratio", "side_by_side"]

_REFRESH_SECONDS = 0.2
_WARM_UP = 10  # one round in so many is run before, and not counted


class Say:
    """Progress, on stderr. Nothing is drawn while something is timed."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def phase(self, what: str) -> None:
        """One line: what comes now."""
        self._console.print(f"  {what}", highlight=False, soft_wrap=True)

    def counting(self, total: int) -> Callable[[int], None]:
        """A bar on a terminal, nothing elsewhere. Call the result with how much is done."""
        if not self._console.is_terminal:
            return lambda _: None
        progress = Progress(
            TextColumn("   "),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )
        task = progress.add_task("", total=total)
        progress.start()
        drawn = 0.0

        def advance(done: int) -> None:
            nonlocal drawn
            if done >= total:
                progress.stop()
            elif time.monotonic() - drawn > _REFRESH_SECONDS:
                drawn = time.monotonic()
                progress.update(task, completed=done, refresh=True)

        return advance


@dataclass(frozen=True)
class Setting:
    """What a benchmark is given. ``neo4j``: an address with credentials; None: there is none."""

    rounds: int
    neo4j: str | None
    say: Say = field(default_factory=Say)
    steps: int = 100_000  # stored, where a benchmark says so
    keep: Path | None = None  # a folder of generated stores, which are used again


@dataclass(frozen=True)
class Row:
    """One line of the report. ``goal``: at most that; None: only printed."""

    what: str
    measured: str
    against: str
    value: float
    goal: float | None = None
    unit: str = "x"


@dataclass(frozen=True)
class Side:
    """One of the things measured. ``before`` is run before each call, and not timed."""

    name: str
    call: Callable[[], Awaitable[object]]
    before: Callable[[], Awaitable[object]] | None = None


async def side_by_side(setting: Setting, *sides: Side, rounds: int = 0) -> Mapping[str, float]:
    """The median of each side in milliseconds, taken in turns: A B C A B C ..."""
    rounds = rounds or setting.rounds
    advance = setting.say.counting(rounds)
    for _ in range(max(3, rounds // _WARM_UP)):
        for side in sides:
            await _timed(side)
    taken: dict[str, list[float]] = {side.name: [] for side in sides}
    for done in range(1, rounds + 1):
        for side in sides:
            taken[side.name].append(await _timed(side))
        advance(done)
    return {name: statistics.median(times) for name, times in taken.items()}


async def _timed(side: Side) -> float:
    if side.before is not None:
        await side.before()
    started = time.perf_counter()
    await side.call()
    return (time.perf_counter() - started) * 1000


def ratio(
    what: str, p50s: Mapping[str, float], name: str, against: str, goal: float | None = None
) -> Row:
    """The row that says how ``name`` compares with ``against``."""
    return Row(
        what,
        f"{name} {p50s[name]:.3f} ms",
        f"{against} {p50s[against]:.3f} ms",
        p50s[name] / p50s[against],
        goal,
    )
