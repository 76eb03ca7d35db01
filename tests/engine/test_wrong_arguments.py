"""What is handed to an engine by mistake: the error says what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from execgraph import Engine, FileSource
from execgraph.graphstore.errors import ConfigurationError


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(f"sqlite:///{tmp_path}/graph.db")


def test_a_retention_is_one() -> None:
    wrong: Any = 30
    with pytest.raises(ConfigurationError, match="retention=30 is no Retention"):
        Engine(retention=wrong)


def test_labels_are_a_mapping(engine: Engine) -> None:
    wrong: Any = "nightly"
    with pytest.raises(ConfigurationError, match="labels='nightly' is no mapping"):
        engine.run("triage", "x", labels=wrong)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (FileSource("*.yaml", resource="acl:{path}"), "is no list of sources"),
        ("*.yaml", "is no list of sources"),
        (["*.yaml"], r"'\*.yaml' is no source"),
    ],
    ids=["a source", "a text", "texts"],
)
async def test_what_is_watched_are_sources(engine: Engine, sources: Any, said: str) -> None:
    async with engine:
        with pytest.raises(ConfigurationError, match=rf"{said}.*watch\(\[FileSource\("):
            async with engine.watch(sources):
                pass


async def test_changes_are_of_a_resource(engine: Engine) -> None:
    async with engine:
        with pytest.raises(ConfigurationError, match="'ship' does not name a resource"):
            engine.changes(resource="ship")


async def test_a_request_is_a_mapping(engine: Engine) -> None:
    wrong: Any = "Is it broken?"
    async with engine, engine.run("triage", "x") as run:
        with pytest.raises(ConfigurationError, match="is no mapping; give the body"):
            await run.decide(wrong)


def at_once(_: Any) -> Any:
    return {"text": "ho"}


def test_what_asks_a_model_is_asynchronous_on_the_sync_face_too(engine: Engine) -> None:
    with engine.sync() as e, e.run("triage", "x") as run:
        with pytest.raises(ConfigurationError, match="make it an async function"):
            run.decide({"prompt": "hi"}, call=at_once)
        told = run.execution_id
    assert run.result.execution_id == run.execution_id == told


@pytest.mark.parametrize(
    "use",
    [bool, lambda it: it == "no", ["no"].count, lambda it: f"It said {it}."],
    ids=["condition", "comparison", "search", "f-string"],
)
async def test_a_handle_is_not_taken_for_its_value(engine: Engine, use: Any) -> None:
    @engine.tool(effect="read")
    def allowed() -> str:
        """Whether."""
        return "no"

    async with engine, engine.run("triage", "x") as run:
        handle = await run.act(allowed)
        with pytest.raises(TypeError, match=r"<Handle of step 0> .* open it with \.value"):
            use(handle)
        assert handle.value == "no"
        run.output = {"told": [handle]}
    assert run.result.output == {"told": ["no"]}
