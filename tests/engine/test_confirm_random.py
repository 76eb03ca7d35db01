"""Random approvals: whatever people answer, and whatever changes, each effect has one of its own.

One rule changes between a few values, runs of a few tasks come and wait or do not, callbacks and
people elsewhere answer this and that, and requests expire. An oracle that knows nothing of digests
then looks at what was done, and at what is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from execgraph import (
    Acl,
    ApprovalClosed,
    Approved,
    AwaitingApproval,
    ConfirmationRequest,
    Denied,
    Engine,
    NotConfirmed,
    PreconditionChanged,
)
from execgraph.graphstore.model import Approval, ApprovalState

from .conftest import World

_STEPS = 40
_SEEDS = range(int(os.environ.get("EXECGRAPH_CONFIRM_SEEDS", "4")))
_WAITS = timedelta(milliseconds=30)
_EXPIRES = timedelta(milliseconds=400)


class History:
    """What happens, by a seed; ``done``: the amount, token, rule and what the model had said."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.engines = [world.engine(approval_expiry=_EXPIRES) for _ in range(2)]
        self.rule = 0
        self.done: list[tuple[int, str]] = []
        self.said: dict[str, str] = {}  # by approval: the first answer that was acknowledged
        self.tools = [self._declare(engine) for engine in self.engines]

    def _declare(self, engine: Engine) -> Any:
        @engine.tool(effect="confirm", requires=[Acl("pay")])
        def pay(cents: int, token: str) -> int:
            """Pay."""
            self.done.append((cents, token))
            return len(self.done)

        return pay

    async def play(self) -> None:
        """All of it."""
        await self._observe()
        running: list[asyncio.Task[None]] = []
        for _ in range(_STEPS):
            match self.random.choice(["run"] * 5 + ["answer"] * 3 + ["observe", "wait"]):
                case "run":
                    running.append(asyncio.ensure_future(self._run()))
                case "answer":
                    await self._answer()
                case "observe":
                    await self._observe()
                case "wait":
                    await asyncio.sleep(self.random.choice((0.01, 0.1, 0.2)))
            if self.random.random() < 0.5:
                await asyncio.gather(*running)
        await asyncio.gather(*running)

    async def _observe(self) -> None:
        self.rule = self.random.randrange(2)
        await self.engines[0].observe("acl:pay", self.rule)

    async def _run(self) -> None:
        which = self.random.randrange(2)
        engine, tool = self.engines[which], self.tools[which]
        cents, token = self.random.randrange(2), self.random.choice("ab")
        callback = self.random.choice([None, self._callback])
        wait = self.random.choice([None, _WAITS])
        calls = self.random.choice((1, 1, 2))
        try:
            async with engine.run(
                "payer", {"n": cents}, confirm=callback, wait_for_approval=wait
            ) as run:
                await asyncio.gather(
                    *(run.act(tool, cents=cents, token=token) for _ in range(calls)),
                )
        except (AwaitingApproval, NotConfirmed, PreconditionChanged):
            pass

    async def _callback(self, request: ConfirmationRequest) -> Any:
        await asyncio.sleep(self.random.choice((0, 0, 0.02)))
        answer = self.random.choice([True, Approved("ann"), False, Denied("bob"), None, "error"])
        if answer == "error":
            raise ValueError(request.id)
        return answer

    async def _answer(self) -> None:
        engine = self.random.choice(self.engines)
        pending = await engine.approvals()
        known = [it.id for it in pending] + list(self.said)
        if not known:
            return
        id_, yes = self.random.choice(known), self.random.random() < 0.6
        try:
            kept = await (engine.approve if yes else engine.deny)(id_, by="elsewhere")
        except ApprovalClosed:
            return
        first = self.said.setdefault(id_, "yes" if yes else "no")
        assert first == ("yes" if yes else "no"), f"{kept} was answered otherwise before"


async def approvals(engine: Engine) -> list[Approval]:
    """All that are kept."""
    found = await engine.cypher("MATCH (a:Approval {namespace: $namespace}) RETURN a.id AS id")
    kept = [await engine.session().store.approval(row["id"]) for row in found]
    return [it for it in kept if it is not None]


async def effects(engine: Engine) -> list[Mapping[str, Any]]:
    """All that were begun, with what their facts said."""
    return list(
        await engine.cypher(
            "MATCH (f:SideEffect {namespace: $namespace})"
            " RETURN f.id AS id, f.approval AS approval, f.target AS target,"
            " f.approved_by AS by, f.state AS state"
        )
    )


@pytest.mark.parametrize("seed", _SEEDS)
async def test_each_effect_has_an_approval_of_its_own(world: World, seed: int) -> None:
    history = History(world, seed)
    one, two = history.engines
    async with one, two:
        await history.play()
        await one.settle()
        await two.settle()
        kept = {it.id: it for it in await approvals(one)}
        begun = await effects(one)
    assert len(begun) == len(history.done), "what is done was begun, and once"
    used = [kept[it["approval"]] for it in begun]
    assert len({it.id for it in used}) == len(begun), "no two have the same"
    for effect, approval in zip(begun, used, strict=True):
        assert (approval.state, approval.effect) == (ApprovalState.USED, effect["id"])
        assert effect["by"] == approval.by
        arguments = json.loads(approval.arguments)
        assert arguments["cents"] == json.loads(effect["target"])["cents"], "of those arguments"
        assert approval.answered_at is not None
        assert approval.requested_at <= approval.answered_at < approval.expires_at, "in time"
        assert history.said.get(approval.id, "yes") == "yes"
    for id_, said in history.said.items():
        agreed = {"yes": {"approved", "used", "expired"}, "no": {"denied"}}[said]
        assert kept[id_].state in agreed, "what was acknowledged stays"
    states = [it.state for it in kept.values() if it.effect is not None]
    assert states.count(ApprovalState.USED) == len(begun), "none is used for nothing"
