"""Nothing is done twice, wherever a process is killed, as an external ledger counts it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kills import WAYS, Kills, Way, deaths, kills

#: Of a sweep that tries all points, by ``scripts/kills``.
POINTS, TRIALS = {"sqlite": 5, "neo4j": 2}, {"sqlite": 4, "neo4j": 1}


@pytest.fixture
def place(url: str, tmp_path: Path) -> Iterator[Kills]:
    with kills("sqlite:" if url.startswith("sqlite") else url, tmp_path) as it:
        yield it


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_nothing_is_done_twice(place: Kills, way: Way) -> None:
    store = place.url.partition(":")[0]
    points = await place.points(way)
    assert points > 20
    rng = random.Random(f"{way}")
    for point in sorted(rng.sample(range(points), POINTS[store])):
        await place.trial(way, {"die_at": point})
    for _ in range(TRIALS[store]):
        await place.trial(way, *deaths(rng, points, 0.4))
    assert place.killed.total() > 0
    assert place.duplicates == []
