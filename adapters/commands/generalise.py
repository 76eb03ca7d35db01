"""``execgraph generalise``: what could be marked, so that one recording serves other inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    JsonOption,
    NamespaceOption,
    StoreOption,
    console,
    count,
    opened,
    print_json,
    run,
    working,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...engine.asking.generalise import Generalised, LookedAt
    from ...engine.generalising.proposals import Proposal, ProposedMark

__all__ = ["generalise"]

_NAMED = 5  # executions


def generalise(
    *,
    agent: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what this agent or program recorded."),
    ] = None,
    runs: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Look at so many of the newest runs of each."),
    ] = 200,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Propose what to mark as opaque or unseen, so that one recording serves other values.

    It compares recordings that differ only in values which a model carries or never mentions, and
    derives what each run would have asked with marks on them. Nothing is changed: a proposal is
    for people, who know whether a model has to reason about such a value. Exit code 0, whether
    anything is proposed or not.

    Example: execgraph generalise --agent triage
    """

    async def ask() -> Generalised:
        with working("opening the store") as show:
            async with opened(store, namespace) as engine:
                return await engine.generalise(
                    agent, runs=runs, progress=lambda what, done: show(f"{what}: {done:,}")
                )

    found = run(ask)
    if json_output:
        print_json(found.as_json())
        return
    for line in _lines(found):
        console().print(line, markup=False, soft_wrap=True)  # to be copied


def _lines(found: Generalised) -> Iterator[str]:
    if found.hint is not None:
        yield found.hint
        return
    if not found.agents:
        yield "Nothing is recorded yet."
        return
    for proposal in found.proposals:
        yield from _proposed(proposal)
        yield ""
    if not found.proposals:
        yield "Nothing is proposed: no recordings differ only in values that could be marked."
    for looked_at in found.agents:
        yield _looked_at(looked_at)


def _proposed(proposal: Proposal) -> Iterator[str]:
    cost = "" if proposal.cost is None else f", ${proposal.cost:,.4f}"
    less = f", and {len(proposal.partly):,} would have asked less" if proposal.partly else ""
    yield (
        f"{proposal.agent} ({proposal.kind}): {count(proposal.tokens, 'token')}{cost} would have"
        f" been saved; {count(len(proposal.served), 'run')} would have asked no model{less}"
    )
    for mark in proposal.marks:
        yield f"  {_where(proposal, mark)}  {mark.declaration}"
        yield (
            f"      {count(mark.values, 'value')} seen, and at most {mark.doubt:.0%} of others make"
            f" a model act otherwise (95 % confidence); {count(mark.tokens, 'token')} of the above"
        )
    yield f"  Recorded by {_some(proposal.recordings)}"
    yield f"  Asked again by {_some((*proposal.served, *proposal.partly))}"


def _where(proposal: Proposal, mark: ProposedMark) -> str:
    return f"{proposal.kind} {proposal.agent}" if mark.tool is None else f"tool {mark.tool}"


def _looked_at(one: LookedAt) -> str:
    left_out = f", {one.unreadable:,} left out as unreadable" if one.unreadable else ""
    room = "" if one.is_all else ", the rest left out for room"
    texts = ". Its tasks are texts, in which nothing can be marked: give objects" * one.texts
    return f"{one.agent}: {count(one.runs, 'run')} compared{left_out}{room}{texts}"


def _some(ids: tuple[str, ...]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
