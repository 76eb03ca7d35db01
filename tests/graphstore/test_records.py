"""The fields of nodes, as both stores keep them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from execgraph.graphstore.records import FIELDS, flat, trace_of
from execgraph.graphstore.sqlite.store import SqliteStore
from execgraph.graphstore.statements import sections
from execgraph.tests.conformance.samples import guard, sample_recording

_TABLES = {
    "usage": "step",
    "step": "step",
    "execution": "execution",
    "effect": "side_effect",
    "tally": "daily_totals",
}


@pytest.mark.parametrize("fields", sorted(_TABLES))
async def test_each_field_of_a_node_is_a_column(tmp_path: Path, fields: str) -> None:
    store = SqliteStore(str(tmp_path / "store.db"), namespace="here")
    await store.open()
    await store.close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        rows = connection.execute(f"PRAGMA table_info({_TABLES[fields]})").fetchall()
    assert set(FIELDS[fields]) <= {row[1] for row in rows}


def test_what_is_kept_of_a_step_has_the_names_of_its_fields() -> None:
    for step in sample_recording(guards=[guard("here", "rule:one", 1)]).steps:
        assert tuple(sorted(flat(step))) == tuple(sorted(FIELDS["step"]))


def test_a_trace_is_folded_from_what_is_kept_of_it() -> None:
    recording = sample_recording(guards=[guard("here", "rule:one", 1)])
    rows = [
        [*(flat(step)[name] for name in FIELDS["step"]), step.guards, step.feeds]
        for step in recording.steps
    ]
    guards = [
        [getattr(it, name) for name in FIELDS["precondition"]] for it in recording.preconditions
    ]
    trace = trace_of(flat(recording.execution), reversed(rows), guards)
    assert trace.steps == recording.steps
    assert trace.execution == recording.execution


def test_a_pattern_is_written_out_for_each_field(tmp_path: Path) -> None:
    file = tmp_path / "some.sql"
    file.write_text("-- name: one\n-- A comment.\nSELECT {{usage: sum(u.*) AS *}} FROM u;\n")
    text = sections(file)["one"]
    assert text.startswith("SELECT sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS")
    assert text.endswith(" FROM u;")
    assert text.count("sum(") == len(FIELDS["usage"])
