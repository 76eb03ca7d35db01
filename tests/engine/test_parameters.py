"""What an agent and a run take: shown where it is taken, and explained where it is misspelt."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from execgraph import Agent, Engine
from execgraph.engine.program import ProgramRun
from execgraph.engine.sync import SyncAgent, SyncEngine, SyncRun
from execgraph.tests.models import MODEL

SAME = [
    (SyncEngine.agent, Engine.agent),
    (SyncEngine.run, Engine.run),
    (SyncEngine.cypher, Engine.cypher),
    (SyncEngine.collect, Engine.collect),
    (SyncAgent.execute, Agent.execute),
    (SyncRun.decide, ProgramRun.decide),
]


@pytest.fixture
def engine(tmp_path: Any) -> Engine:
    return Engine(f"sqlite:///{tmp_path}/graph.db")


@pytest.mark.parametrize("method", [Engine.agent, Engine.run, Agent.execute])
def test_help_shows_each_parameter_with_its_type(method: Callable[..., Any]) -> None:
    shown = inspect.signature(method).parameters
    assert len(shown) > 5
    for name, parameter in shown.items():
        assert name == "self" or parameter.annotation not in (inspect.Parameter.empty, "Any")
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)


@pytest.mark.parametrize(("sync", "asynchronous"), SAME)
def test_the_sync_face_shows_the_same(
    sync: Callable[..., Any], asynchronous: Callable[..., Any]
) -> None:
    assert inspect.signature(sync) == inspect.signature(asynchronous)
    assert inspect.getdoc(sync)


def test_a_misspelt_parameter_of_an_agent_is_an_error_that_says_what_is_meant(
    engine: Engine,
) -> None:
    calls: Any = engine.agent
    with pytest.raises(TypeError, match="'sistem' may be meant as 'system'") as error:
        calls("deployer", model=MODEL, sistem="You deploy.")
    assert "max_tokens" in str(error.value)


def test_a_misspelt_parameter_of_a_call_is_an_error_too(engine: Engine) -> None:
    call: Any = engine.agent("deployer", model=MODEL).execute
    with pytest.raises(TypeError, match=r"Agent.execute\(\): .* may be meant as 'labels'"):
        call("go", label={"pr": "5"})


def test_a_missing_parameter_is_named(engine: Engine) -> None:
    run: Any = engine.run
    with pytest.raises(TypeError, match="missing a required argument: 'inputs'"):
        run("triage")


def test_a_value_of_the_wrong_type_is_no_misspelling(engine: Engine) -> None:
    declare: Any = engine.agent
    with pytest.raises(TypeError, match="not supported between"):
        declare("deployer", model=MODEL, max_turns="two")


def test_the_sync_face_takes_an_agent_that_is_declared_or_declares_one(engine: Engine) -> None:
    declared, faces = engine.agent("deployer", model=MODEL), engine.sync()
    assert faces.agent(declared).agent is declared
    assert faces.agent("other", model=MODEL).agent.name == "other"


def test_a_tool_declared_on_the_sync_face_is_the_engines(engine: Engine) -> None:
    @engine.sync().tool(effect="read")
    def look() -> str:
        """Look."""
        return "seen"

    assert engine.tools["look"] is look
