"""Runs benchmarks and prints what they found. `scripts/bench/run` starts it."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote, urlsplit

from rich.console import Console
from rich.table import Table

from .measure import Row, Say, Setting

#: name -> (module, what it measures, whether it needs a Neo4j)
BENCHMARKS = {
    "hot-sqlite": ("hot_sqlite", "hot replay on SQLite, beside muscle-mem and diskcache", False),
    "threads": ("threads", "32 threads in 4 processes replay, beside LangGraph's cache", False),
    "hot-neo4j": ("hot_neo4j", "hot replay on Neo4j, and what each write adds", True),
    "round-trips": (
        "round_trips",
        "what a write adds, and what a run with a run id waits for",
        False,
    ),
    "first-neo4j": ("first_neo4j", "first replay of a process on Neo4j", True),
    "scale-sqlite": ("scale_sqlite", "hit, miss, stale miss with many stored steps, SQLite", False),
    "scale-neo4j": ("scale_neo4j", "hit, miss, stale miss with many stored steps, Neo4j", True),
    "change": ("change", "a change beside a bare commit, whatever rests on it", False),
    "walk": ("walk", "marking what rests on a change, and lookups meanwhile", False),
    "record-sqlite": ("record_sqlite", "what recording costs on SQLite", False),
    "record-neo4j": ("record_neo4j", "round trips of a recorded run on Neo4j", True),
    "conversation": ("conversation", "the key of a request late in a long conversation", False),
    "streams": ("streams", "first byte of a served stream, beside a served plain reply", False),
    "standins": ("standins", "hot replay with values that differ on every run", False),
    "flight": ("flight", "single flight where nobody else wants the same", False),
    "watch": ("watch", "from a file's rename to the fact; a rescan of 10,000 files", False),
    "ask": ("ask", "why and impact in a large store", False),
    "cypher": ("cypher", "the questions of docs/cypher.md, SQLite beside Neo4j", True),
    "imports": ("imports", "import execgraph, execgraph --help", False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    options = _parser().parse_args(arguments)
    if options.list:
        for name, (_, what, _) in BENCHMARKS.items():
            print(f"{name:14} {what}")
        return 0
    say = Say()
    neo4j = with_credentials(options.neo4j)
    setting = Setting(options.rounds, neo4j, say, options.steps, options.keep)
    rows: dict[str, list[Row]] = {}
    for name in options.names or BENCHMARKS:
        module, what, needs_neo4j = BENCHMARKS[name]
        if needs_neo4j and setting.neo4j is None:
            say.phase(f"{name}: left out, there is no Neo4j (scripts/neo4j start, or --neo4j URI)")
            continue
        say.phase(f"{name}: {what}")
        benchmark = importlib.import_module(f".{module}", __package__)
        rows[name] = asyncio.run(benchmark.run(setting))
        if not options.json:
            _print(rows[name])
    if options.json:
        print(json.dumps({name: [asdict(row) for row in some] for name, some in rows.items()}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench/run", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="name")
    parser.add_argument("--rounds", type=int, default=300, help="samples of each side (300)")
    parser.add_argument(
        "--steps", type=int, default=100_000, help="stored steps in a large store (100000)"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep generated stores there, and in namespaces bench-... on Neo4j; use those kept",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--neo4j", default=os.environ.get("NEO4J_URI"), metavar="URI")
    parser.add_argument("--list", action="store_true", help="say what there is")
    return parser


def with_credentials(uri: str | None) -> str | None:
    """The address with $NEO4J_USER and $NEO4J_PASSWORD in it, where it has none of its own."""
    user, password = os.environ.get("NEO4J_USER"), os.environ.get("NEO4J_PASSWORD")
    if uri is None or "@" in uri or not (user and password):
        return uri
    parts = urlsplit(uri)
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"
    return parts._replace(netloc=netloc).geturl()


def _print(rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what", overflow="fold")
    for name in ("measured", "against", "ratio", "goal"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        goal = "" if row.goal is None else f"<= {_number(row.goal)}{row.unit}"
        missed = row.goal is not None and row.value > row.goal
        value = f"{_number(row.value)}{row.unit}"
        table.add_row(
            row.what,
            row.measured,
            row.against,
            f"[bold red]{value}[/]" if missed else f"[green]{value}[/]" if goal else value,
            goal,
        )
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    console.print()


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and value >= 1 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
