"""Fills a store with recorded runs: `scripts/bench/generate --steps N --store URL`.

A run has 20 steps: ten decisions, each followed by the action it chose. Every action rests on one
facet of one resource, and so does its decision if it is a write; `--resources` of them (200) are
shared by all. The tasks are `generated-0`, `generated-1`, ...; generating more goes on where the
namespace ends.

On SQLite everything goes through the store's own interface. On Neo4j facts do, and the first run;
the others are made by `generate.cypher`, which leaves the same graph, many runs at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from execgraph.graphstore.canonical import Json, encode, fingerprint, hash_of
from execgraph.graphstore.connect import connect
from execgraph.graphstore.document import Document
from execgraph.graphstore.facts import Facts
from execgraph.graphstore.model import (
    Effect,
    Execution,
    ExecutionState,
    FacetRef,
    Mode,
    Precondition,
    Recording,
    Step,
    StepKind,
    Task,
    Trace,
    Usage,
    Value,
    manifest,
    signature,
)
from execgraph.graphstore.store import GraphStore

from .measure import Say

__all__ = ["STEPS_A_RUN", "Generated", "fill", "task_key"]

_TURNS = 10
STEPS_A_RUN = 2 * _TURNS
_SELECTOR = "$.rule"
_STARTED = 1_700_000_000_000
_AT_ONCE = 200  # runs in one batch


def task_key(namespace: str, number: int) -> str:
    """The key of the generated task with this number."""
    return hash_of("task", namespace, f"generated-{number}")


@dataclass(frozen=True)
class Generated:
    """What is made, a pure function of its fields."""

    namespace: str
    resources: int = 200

    @cached_property
    def documents(self) -> Mapping[str, Document]:
        """What the resources are that the steps rest on."""
        uris = [f"acl:generated/{number}" for number in range(self.resources)]
        return {
            uri: Document.of({"rule": "allow", "name": uri, "groups": ["ops", "release"]})
            for uri in uris
        }

    @cached_property
    def guards(self) -> Sequence[Precondition]:
        """The facets that the steps rest on, as they are."""
        return [
            Precondition.of(
                self.namespace, FacetRef(uri, _SELECTOR), document.fingerprint(_SELECTOR)
            )
            for uri, document in self.documents.items()
        ]

    def run(self, number: int) -> Recording:
        """The run of the task with this number."""
        return _Run(self, number).recording()


class _Run:
    """One recording being made up."""

    def __init__(self, generated: Generated, number: int) -> None:
        self._generated = generated
        self._number = number
        self._values: dict[str, Value] = {}
        self._guards: dict[str, Precondition] = {}

    def recording(self) -> Recording:
        number = self._number
        key = task_key(self._generated.namespace, number)
        inputs = self._value({"task": f"generated-{number}"})
        steps = [step for turn in range(_TURNS) for step in self._turn(turn)]
        return Recording(
            task=Task(key=key, agent="generated", inputs=inputs),
            execution=Execution(
                id=hash_of("execution", key),
                task=key,
                agent="generated",
                mode=Mode.LIVE,
                state=ExecutionState.UNPUBLISHED,
                started_at=_STARTED + number,
                duration_ms=5000.0,
                steps=len(steps),
                output=self._value({"done": number}),
                usage=Usage(input_tokens=400 * _TURNS, output_tokens=20 * _TURNS),
                cost=0.015,
            ),
            steps=tuple(steps),
            preconditions=tuple(self._guards[key] for key in sorted(self._guards)),
            values=tuple(self._values.values()),
        )

    def _turn(self, turn: int) -> Iterator[Step]:
        is_write = turn % 3 == 2
        guards = (self._guard(turn),)
        item = self._number * _TURNS + turn
        arguments: dict[str, Json] = {"item": item, "place": f"place-{turn}"}
        says: Json = {
            "role": "assistant",
            "content": [{"type": "tool_use", "name": "act", "input": arguments}],
        }
        position = 2 * turn
        yield Step(
            position=position,
            kind=StepKind.DECISION,
            name="model-1",
            key=hash_of("step", "decision", self._number, turn),
            occurrence=0,
            code_key=hash_of("code", "model-1"),
            output=self._value(says),
            output_key=fingerprint(says),
            duration_ms=500.0,
            guards=guards if is_write else (),
            feeds=(position - 1,) if turn else (),
            head=self._value({"system": "You are generated.", "tools": ["act", "look"]}),
            extends=position - 2 if turn else None,
            shared=turn,
            messages=(self._value({"role": "user", "content": f"turn {turn} of {self._number}"}),),
            usage=Usage(input_tokens=400, output_tokens=20),
        )
        output: Json = {"item": item, "state": "done"}
        name = "act" if is_write else "look"
        yield Step(
            position=position + 1,
            kind=StepKind.ACTION,
            name=name,
            key=hash_of("step", "action", name, fingerprint(arguments)),
            occurrence=0,
            code_key=hash_of("code", name),
            output=self._value(output),
            output_key=fingerprint(output),
            guards=guards,
            feeds=(position,),
            effect=Effect.WRITE if is_write else Effect.READ,
            arguments=self._value(arguments),
            decision=position,
            call=0,
        )

    def _guard(self, turn: int) -> str:
        every = self._generated.guards
        guard = every[(self._number * _TURNS + turn) % len(every)]
        self._guards[guard.id] = guard
        return guard.id

    def _value(self, content: Json) -> str:
        value = Value.of(encode(content))
        self._values[value.digest] = value
        return value.digest


# Filling ----------------------------------------------------------------------------------

_Done = Callable[[int], None]


async def fill(
    store: GraphStore, generated: Generated, steps: int, address: str, done: _Done = lambda _: None
) -> int:
    """Make the namespace hold at least ``steps`` generated steps; how many were added.

    ``store`` is open, and at ``address`` (with its credentials). ``done`` is told how many of the
    steps are there.
    """
    first, last = await _known(store, generated), -(-steps // STEPS_A_RUN)
    if first >= last:
        return 0
    if not first:
        await _observe(store, generated)
        await _record(store, generated, 0)
        done(STEPS_A_RUN)
    numbers = range(max(1, first), last)
    if address.startswith("sqlite:"):
        await _one_by_one(store, generated, numbers, done)
    elif numbers:
        await _in_batches(address, generated, numbers, done)
    await _check(store, generated, last - 1)
    return (last - first) * STEPS_A_RUN


async def _known(store: GraphStore, generated: Generated) -> int:
    """How many runs the namespace has: a power of two that is too many, then halving."""

    async def is_there(number: int) -> bool:
        key = task_key(generated.namespace, number)
        return await store.task(key) is not None

    many = 1
    while await is_there(many - 1):
        many *= 2
    few = many // 2
    while few < many - 1:
        middle = (few + many) // 2
        few, many = (middle, many) if await is_there(middle - 1) else (few, middle)
    return few


async def _observe(store: GraphStore, generated: Generated) -> None:
    for uri, document in generated.documents.items():
        await store.change(uri, document)
    wanted = {uri: frozenset({_SELECTOR}) for uri in generated.documents}
    await store.facts(wanted)  # has the facets computed


async def _record(store: GraphStore, generated: Generated, number: int) -> None:
    recording = generated.run(number)
    await store.write(recording)
    await store.publish(
        recording.execution.id,
        steps=len(recording.steps),
        manifest=manifest(recording.steps),
        signature=signature(recording.steps),
    )


async def _one_by_one(store: GraphStore, generated: Generated, numbers: range, done: _Done) -> None:
    for number in numbers:
        await _record(store, generated, number)
        done((number + 1) * STEPS_A_RUN)


async def _in_batches(address: str, generated: Generated, numbers: range, done: _Done) -> None:
    from neo4j import AsyncGraphDatabase

    from execgraph.graphstore.neo4j.address import Address

    where = Address.of(address)
    async with (
        AsyncGraphDatabase.driver(where.uri, auth=where.credentials) as driver,
        driver.session(database=where.database) as session,
    ):
        batches = [
            range(start, min(start + _AT_ONCE, numbers.stop))
            for start in range(numbers.start, numbers.stop, _AT_ONCE)
        ]
        made = _statements(generated, batches[0])
        for batch, after in zip(batches, [*batches[1:], range(0)], strict=True):
            # The server works on one batch while the next is made up.
            making = asyncio.create_task(asyncio.to_thread(_statements, generated, after))
            for statement, parameters in made:
                await (await session.run(statement, parameters)).consume()
            made = await making
            done(batch.stop * STEPS_A_RUN)


def _statements(generated: Generated, numbers: range) -> list[tuple[str, dict[str, Any]]]:
    """Payloads, then the runs that name them: a run is never there without its payloads."""
    from execgraph.graphstore.neo4j.recording import write_parameters

    values, runs = Path(__file__).with_name("generate.cypher").read_text().split(";\n")[:2]
    recordings = [generated.run(number) for number in numbers]
    rows = [write_parameters(generated.namespace, it) for it in recordings]
    payloads = {row[0]: row for it in rows for row in it["values"]}
    for it, recording in zip(rows, recordings, strict=True):
        it["execution"] |= _published(recording)
        del it["values"]
    return [
        (values, {"namespace": generated.namespace, "values": list(payloads.values())}),
        (runs, {"namespace": generated.namespace, "runs": rows}),
    ]


def _published(recording: Recording) -> Mapping[str, Any]:
    """What `publish` sets."""
    return {
        "state": ExecutionState.PUBLISHED.value,
        "published_steps": len(recording.steps),
        "manifest": manifest(recording.steps),
        "signature": signature(recording.steps),
    }


async def _check(store: GraphStore, generated: Generated, number: int) -> None:
    """What was made is what the store itself would have made, or it would be no trace to it."""

    def newest(traces: Sequence[Trace], _: Facts) -> str | None:
        return traces[0].id if traces else None

    key = task_key(generated.namespace, number)
    found = await store.lookup(key, newest)
    wanted = generated.run(number)
    if [trace.steps for trace in found.traces] != [wanted.steps] or found.damaged:
        raise RuntimeError(f"the generated run {number} does not read as it was made: {found}")


# The command ------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    options = _parser().parse_args(arguments)
    generated = Generated(options.namespace, options.resources)
    return asyncio.run(_generate(options.store, generated, options.steps))


async def _generate(address: str, generated: Generated, steps: int) -> int:
    say, started = Say(), time.monotonic()
    store = connect(address, namespace=generated.namespace)
    await store.open()
    try:
        say.phase(f"filling {generated.namespace!r} in {store.url} up to {steps} steps")
        added = await fill(store, generated, steps, address, say.counting(steps))
    finally:
        await store.close()
    seconds = time.monotonic() - started
    say.phase(f"{added} steps added in {seconds:.1f} s ({added / seconds:.0f} a second)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench/generate", description=__doc__)
    parser.add_argument("--steps", type=int, required=True, help="how many steps to end with")
    parser.add_argument(
        "--store",
        default=os.environ.get("EXECGRAPH_STORE"),
        required="EXECGRAPH_STORE" not in os.environ,
        metavar="URL",
        help="sqlite:///graph.db or neo4j://user:password@host:7687/database ($EXECGRAPH_STORE)",
    )
    parser.add_argument("--namespace", default="generated", help="(generated)")
    parser.add_argument("--resources", type=int, default=200, help="shared by all runs (200)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
