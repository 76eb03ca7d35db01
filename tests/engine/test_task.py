"""A task is one value: what identifies it, what is stored of it, and what a model is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from execgraph.engine.keys.standins import StandIns
from execgraph.engine.task import Task
from execgraph.graphstore.canonical import decode
from execgraph.graphstore.errors import NotJson


class Ticket(BaseModel):
    title: str


def task(inputs: Any, context: Any = None, kind: Any = "agent") -> Task:
    return Task.of("space", kind, "triage", inputs, context)


def test_equal_inputs_give_one_key_however_they_are_given() -> None:
    assert task(Ticket(title="x")).key == task({"title": "x"}).key


@pytest.mark.parametrize(
    "other", [("y", None, "agent"), ("x", "c", "agent"), ("x", None, "program")]
)
def test_inputs_context_and_kind_are_part_of_the_key(other: Any) -> None:
    assert task(*other).key != task("x").key


def test_what_is_stored_is_what_was_given() -> None:
    made = task({"id": 7}, ["more"])
    assert [decode(it.data) for it in made.values] == [{"id": 7}, ["more"]]
    assert [made.stored.inputs, made.stored.context] == [it.digest for it in made.values]


def test_a_model_is_told_text_as_it_is_and_everything_else_as_json() -> None:
    assert list(task("go", {"user": "ann"}).render(StandIns("task"))) == [
        "go",
        'Context:\n{"user":"ann"}',
    ]


def test_a_context_that_is_null_is_none() -> None:
    made = task("go", RootModel[None](None))
    assert (made.context, made.key) == (None, task("go").key)


def test_a_task_stays_as_it_was_when_its_inputs_are_changed_later() -> None:
    inputs = {"id": 7}
    made = task(inputs)
    inputs["id"] = 8
    assert made.inputs.json == {"id": 7}


@pytest.mark.parametrize(
    ("given", "named"),
    [((object(), None), "the task"), (("go", {1: 2, "1": 3}), "the context")],
)
def test_what_is_no_json_is_named(given: Any, named: str) -> None:
    with pytest.raises(NotJson, match=f"{named} cannot be recorded"):
        task(*given)
