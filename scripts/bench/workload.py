"""Drives recorded trajectories of real agents through the engine: `scripts/bench/workload`.

Each is driven once, which asks the model (a local server that says what the recorded agent said),
and once more, which must not. Then the company's policy is edited as it really was, version after
version, and what is asked again is compared with a count made from the texts alone.

Exits with 1 if something did not come out as it should, with 2 if there is nothing to drive.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from execgraph import Engine, Retention

from .__main__ import with_credentials
from .bolt import bolt
from .measure import Say
from .recorded.play import GOAL, Domain, Play
from .recorded.size import Size, of_neo4j, of_sqlite
from .recorded.tools import import_tau2
from .recorded.trajectories import ALL_DOMAINS, Workload, chosen, folder, rows, unknown

__all__ = ["main"]

_BOTH = ("sqlite", "neo4j")
# A conversation has a trace for each version of the rules that says something else of it.
_KEPT = Retention(traces=16)
#: store -> domain -> what came out
_Found = Mapping[str, Mapping[str, Domain]]


class _Unusable(Exception):
    """There is nothing to drive, or nothing to drive it with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    options = _parser().parse_args(arguments)
    # Some were recorded with models that the SDK calls outdated by now.
    warnings.filterwarnings("ignore", "The model .* is deprecated", DeprecationWarning)
    try:
        workload = _loaded(options.domain)
        found = asyncio.run(_play(workload, options))
    except _Unusable as why:
        print(why, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(_as_json(found), indent=1))
    else:
        _print(found)
    wrong = [
        f"{store}, {domain}: {what}"
        for store, domains in found.items()
        for domain, it in domains.items()
        for what in it.wrong()
    ]
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return int(bool(wrong))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/workload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"The trajectories are in {folder()}; EXECGRAPH_WORKLOAD names another folder.",
    )
    parser.add_argument("--store", choices=[*_BOTH, "both"], default="both", help="(both)")
    parser.add_argument(
        "--domain",
        choices=ALL_DOMAINS,
        action="append",
        help="only this one; may be given more than once",
    )
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="at most N trajectories a domain"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--neo4j", default=os.environ.get("NEO4J_URI"), metavar="URI", help="($NEO4J_URI)"
    )
    return parser


def _positive(told: str) -> int:
    if not told.isdecimal() or not (number := int(told)):
        raise argparse.ArgumentTypeError(f"{told!r} is not a number from 1 on")
    return number


def _loaded(domains: Sequence[str] | None) -> Workload:
    where, wanted = folder(), domains or ALL_DOMAINS
    there = [domain for domain in wanted if next(rows(where, domain), None) is not None]
    if not there:
        raise _Unusable(
            f"There are no recorded trajectories of {', '.join(wanted)} in {where}. They are data"
            " of tau-bench and tau2-bench and no part of this repository: name their folder in"
            " EXECGRAPH_WORKLOAD. docs/workload.md says what they are."
        )
    try:
        import_tau2()
    except ImportError as error:
        raise _Unusable(
            f"The tools of the recorded agents cannot be imported ({error}):"
            " scripts/bench/workload installs them into .venv when it is run from the shell."
        ) from None
    return Workload.load(where, there)


async def _play(workload: Workload, options: argparse.Namespace) -> _Found:
    stores = list(_BOTH) if options.store == "both" else [options.store]
    say = Say()
    for domain, count in unknown(workload.folder).items():
        say.phase(f"{domain}: {count} trajectories left out, their tools are not known here")
    domains = list(dict.fromkeys(it.domain for it in workload.trajectories))
    for domain in options.domain or ALL_DOMAINS:
        if domain not in domains:
            say.phase(f"{domain}: left out, there are none in {workload.folder}")
    if "neo4j" in stores and not options.neo4j:
        if options.store == "neo4j":
            raise _Unusable("There is no Neo4j: scripts/neo4j start, or --neo4j URI.")
        say.phase("neo4j: left out, there is none (scripts/neo4j start, or --neo4j URI)")
        stores.remove("neo4j")
    found: dict[str, dict[str, Domain]] = {}
    for store in stores:
        say.phase(f"{store}:")
        found[store] = {
            domain: await _on(store, workload, domain, options, say) for domain in domains
        }
    return found


async def _on(
    store: str, workload: Workload, domain: str, options: argparse.Namespace, say: Say
) -> Domain:
    every = [it for it in workload.trajectories if it.domain == domain]
    some = every if options.limit is None else chosen(every, options.limit)
    if store == "sqlite":
        with tempfile.TemporaryDirectory(prefix="execgraph-workload-") as temporary:
            path = Path(temporary) / "graph.db"

            async def size() -> Size:
                return of_sqlite(path)

            def engine() -> Engine:
                return Engine(f"sqlite:///{path}", retention=_KEPT)

            return await Play(workload, domain, some, engine=engine, size=size, say=say).play()
    async with bolt(with_credentials(options.neo4j) or "") as it:
        return await Play(
            workload,
            domain,
            some,
            engine=lambda: Engine(
                it.url, namespace=it.namespace, driver=it.driver, retention=_KEPT
            ),
            size=lambda: of_neo4j(it, it.namespace),
            say=say,
        ).play()


# The report ---------------------------------------------------------------------------------


def _as_json(found: _Found) -> dict[str, dict[str, object]]:
    return {
        store: {domain: asdict(it) | {"wrong": it.wrong()} for domain, it in domains.items()}
        for store, domains in found.items()
    }


def _print(found: _Found) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 180
    for store, domains in found.items():
        for domain, it in domains.items():
            console.print(f"[bold]{store}, {domain}[/]")
            console.print(_passes(it), "", sep="\n")
            if it.edits:
                console.print(_edits(it), "", sep="\n")


def _passes(it: Domain) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column()
    skipped = ", ".join(f"{count} ({why.partition(': ')[2]})" for why, count in it.skipped.items())
    first, second = it.first, it.second
    for name, told in {
        "trajectories": f"{it.trajectories}; left out: {skipped or 'none'}",
        "turns, tool calls": f"{it.turns:,}, {it.outputs:,}",
        "model calls": f"{first.model_calls:,} the first time, {second.model_calls:,} the second",
        "tokens": f"{first.tokens:,} the first time, {second.tokens:,} the second ({it.tokens})",
        "identical": f"{second.identical:,} of {it.trajectories:,} the second time",
        "databases": it.databases,
        "outputs as recorded": f"{first.outputs_as_recorded:,} the first time,"
        f" {second.outputs_as_recorded:,} the second, of {it.outputs:,}",
        "store": f"{first.store.bytes:,} bytes ({first.store.measured}),"
        f" {second.store.bytes:,} after the second time",
        "raw requests and replies": f"{it.raw_bytes:,} bytes",
        "relative size": f"{it.relative_size:.3f} (goal: at most {GOAL})",
        "seconds": f"{first.seconds:.1f} the first time, {second.seconds:.1f} the second",
    }.items():
        table.add_row(name, told)
    return table


def _edits(it: Domain) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("edit of the policy")
    table.add_column("sections that differ", overflow="fold")
    for name in ("asked again", "the texts say", "if it were one text", "if all were flushed"):
        table.add_column(f"{name}\ncalls, tokens", justify="right")
    for edit in [*it.edits, *([it.returned] if it.returned else [])]:
        table.add_row(
            f"{edit.before} -> {edit.after}",
            ", ".join(edit.changed),
            *(
                f"{calls:,}  {tokens:,}"
                for calls, tokens in (
                    edit.asked,
                    edit.texts,
                    edit.without_sections,
                    edit.flushed,
                )
            ),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
