"""scripts/soak: what it says of an engine that is right, and of one that is not."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Sequence

import pytest

from execgraph.engine.lookup import judging
from execgraph.scripts import _soak
from execgraph.scripts._soak_shrink import shrunk


@pytest.fixture(autouse=True)
def warnings_again() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


def test_it_counts_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--seed", "10", "--histories", "2", "--length", "40", "--json"]
    assert _soak.main([*wanted, "--programs", "0", "--wishes", "0"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["histories"], said["operations"], said["violations"]) == (2, 80, [])
    assert said["seeds"] == [10, 11]
    assert said["over_http"] == 1
    assert sum(said["kinds"].values()) == 80


@pytest.mark.parametrize("kind", ["programs", "wishes"])
def test_it_has_histories_of_other_kinds_too(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    wanted = ["--seed", "10", "--histories", "2", "--length", "20", "--json"]
    shares = {"--programs": "0", "--wishes": "0"} | {f"--{kind}": "1"}
    assert _soak.main([*wanted, *itertools.chain(*shares.items())]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said[f"of_{kind}"], said["operations"], said["violations"]) == (2, 40, [])


def test_a_violation_is_told_with_its_seed_and_a_short_history(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "broken_guards", lambda *_: ())
    wanted = ["--seed", "1", "--histories", "1", "--length", "120", "--shrink", "10", "--json"]
    shares = ["--programs", "0", "--wishes", "0"]
    assert _soak.main([*wanted, *shares]) == 1
    [violation] = json.loads(capsys.readouterr().out)["violations"]
    again = "scripts/soak --seed 1 --histories 1 --length 120"
    assert violation["again"] == " ".join([again, *shares])
    assert "and not to" in violation["why"]
    assert 2 <= len(violation["shortest"]) < 60


def test_a_history_is_made_as_short_as_it_still_fails() -> None:
    def fails(some: Sequence[int]) -> str | None:
        return "wrong" if {3, 17} <= set(some) else None

    assert shrunk(range(40), fails, 10) == [3, 17]
