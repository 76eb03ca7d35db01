"""Rules of runs that are called again are broken on purpose: the tests of these rules find it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from execgraph.engine.effects import performing
from execgraph.engine.effects.effect_gate import EffectGate
from execgraph.engine.replay import standing
from execgraph.engine.run import wish as run_wish
from execgraph.engine.run.history import History
from execgraph.engine.sessions import at_work
from execgraph.graphstore.canonical import hash_of
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.graphstore.sqlite.store import SqliteStore

from . import test_retry_keys as keys
from . import test_run_ids as ids
from .conftest import World

Break = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[World, pytest.MonkeyPatch], Awaitable[None]]


def new_key_on_retry(patch: pytest.MonkeyPatch) -> None:
    def key(wish: run_wish.RunWish, tool: str, arguments: str, equal: int) -> str:
        return hash_of("idempotency", wish.execution, tool, arguments, equal)

    patch.setattr(run_wish.RunWish, "key", key)


def skip_the_token(patch: pytest.MonkeyPatch) -> None:
    for store in (SqliteStore, Neo4jStore):
        intend: Any = store.intend

        def without(self: Any, *args: Any, intend: Any = intend, **told: Any) -> Any:
            return intend(self, *args, **{**told, "wish": None})

        patch.setattr(store, "intend", without)


def resume_under_changed_facts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EffectGate, "_all", lambda *_: [])


def publish_what_rests_on_changed_facts(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> None:
        pass

    patch.setattr(standing, "_check_guards", nothing)


def take_up_what_lives(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(at_work.AtWork, "is_alive", lambda *_: False)


def forget_history(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(History, "of", lambda *_: History())


def do_again_what_is_in_doubt(patch: pytest.MonkeyPatch) -> None:
    async def again(run: Any, gate: Any, action: Any, effect: Any) -> Any:
        anew = effect.model_copy(update={"once": None})
        return await performing._begin(run, gate, action, anew)

    patch.setattr(performing, "_begun_or_found", again)


async def retried(world: World, _: pytest.MonkeyPatch) -> None:
    await keys.test_so_has_one_in_another_process_that_remembers_the_task(world)


async def beside(world: World, _: pytest.MonkeyPatch) -> None:
    await keys.test_a_second_call_beside_one_that_lives_is_another_wish(world)


async def lost(world: World, patch: pytest.MonkeyPatch) -> None:
    await ids.test_who_lost_the_run_starts_no_effect(world, patch)


async def in_doubt(world: World, _: pytest.MonkeyPatch) -> None:
    await ids.test_what_is_in_doubt_is_not_done_under_other_facts(world, "before a5")


async def moved(world: World, _: pytest.MonkeyPatch) -> None:
    await ids.test_facts_that_moved_are_looked_at_again(world)


async def read_again(world: World, _: pytest.MonkeyPatch) -> None:
    await ids.test_what_was_done_stands_and_is_not_done_again(world)


async def raised(world: World, _: pytest.MonkeyPatch) -> None:
    await ids.test_without_a_key_it_is_raised_and_a_person_settles_it(world, "after a5")


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (new_key_on_retry, retried),
        (take_up_what_lives, beside),
        (skip_the_token, lost),
        (resume_under_changed_facts, in_doubt),
        (publish_what_rests_on_changed_facts, moved),
        (forget_history, read_again),
        (do_again_what_is_in_doubt, raised),
    ],
    ids=lambda it: it.__name__,
)
async def test_what_is_broken_on_purpose_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: Break, check: Check
) -> None:
    broken(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check(world, monkeypatch)
