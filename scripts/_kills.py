"""Kills processes that deploy, calls them again, and counts what was done twice.

The processes do what tests/crashes/deploying.py says, at an external ledger over HTTP. They are
killed at points (before and after each call of the store, the model and the ledger) and at random
moments, several times one after another, and called again by run id and by plain retry.

    scripts/kills --kills 2000 --jobs 2           on SQLite
    scripts/kills --neo4j --kills 300             on Neo4j ($NEO4J_URI)
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from execgraph.tests.crashes.kills import WAYS, deaths, kills

_SECONDS = 1.5  # within which a process is killed that is killed at any moment


async def _kill(url: str, seed: int, wanted: int) -> tuple[Counter[str], list[str], int]:
    """Kills by way, what was done twice, and how many died after the end of their run."""
    rng = random.Random(seed)  # noqa: S311 - reproducible is the point
    with tempfile.TemporaryDirectory() as folder, kills(url, Path(folder)) as place:
        for way in itertools.cycle(WAYS):
            if place.killed.total() >= wanted:
                break
            points = await place.points(way)
            await place.trial(way, *deaths(rng, points, _SECONDS))
        return place.killed, place.duplicates, place.ended


def _job(job: tuple[str, int, int]) -> tuple[Counter[str], list[str], int]:
    return asyncio.run(_kill(*job))


def main() -> int:
    """Kill as many as are wanted, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--neo4j", action="store_true")
    asked = parser.parse_args()
    url = os.environ["NEO4J_URI"] if asked.neo4j else "sqlite:"
    share = -(-asked.kills // asked.jobs)
    jobs = [(url, asked.seed + number, share) for number in range(asked.jobs)]
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        done = pool.map(_job, jobs)
    killed = sum((it for it, _, _ in done), Counter[str]())
    twice = [it for _, some, _ in done for it in some]
    for way, many in sorted(killed.items()):
        print(f"{many:6,} kills  {way}")
    ended = sum(it for _, _, it in done)
    print(f"{killed.total():6,} kills on {'Neo4j' if asked.neo4j else 'SQLite'}", end="")
    print(f" ({ended:,} more runs had ended before); {len(twice)} duplicates")
    print(*twice, sep="\n")
    return bool(twice)


if __name__ == "__main__":
    sys.exit(main())
