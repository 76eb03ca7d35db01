"""What `import execgraph` offers: the names it lists, and no others."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

import execgraph
from execgraph.engine.sync import SyncEngine

SOURCE = Path(execgraph.__file__).read_text(encoding="utf-8")


def test_the_names_are_sorted_and_each_is_there_once() -> None:
    assert list(execgraph.__all__) == sorted(set(execgraph.__all__))


#: What is no class: names of types that are made of others.
ALIASES = {"Event", "Json"}


@pytest.mark.parametrize("name", sorted(set(execgraph.__all__) - ALIASES))
def test_every_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    thing = getattr(execgraph, name)
    assert inspect.isclass(thing)
    assert thing.__name__ == name
    assert thing.__module__.startswith("execgraph.")
    assert inspect.getdoc(thing), f"{name} has no docstring"
    assert getattr(execgraph, name) is thing


def test_the_events_are_those_that_a_subscriber_is_given() -> None:
    runs = {execgraph.RunWaits, execgraph.RunStarted, execgraph.StepEnded, execgraph.RunEnded}
    assert set(get_args(execgraph.Event)) == {*runs, execgraph.ResourceChanged}


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "a", [1, [None]], {"a": [{"b": "c"}]}])
def test_json_is_what_json_holds_at_any_depth(value: object) -> None:
    assert TypeAdapter(execgraph.Json).validate_python(value) == value


@pytest.mark.parametrize("value", [object(), [{1}], {"a": [{"b": 1j}]}])
def test_what_json_cannot_hold_is_none_at_any_depth(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(execgraph.Json).validate_python(value)


def test_type_checkers_are_told_the_same_names_as_everybody_else() -> None:
    [told] = [
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imported = {
        alias.name: f"execgraph.{node.module}"
        for node in told.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(imported) == list(execgraph.__all__)
    for name, home in imported.items():
        assert getattr(import_module(home), name) is getattr(execgraph, name)


def test_dir_lists_them() -> None:
    assert set(execgraph.__all__) <= set(dir(execgraph))
    assert dir(execgraph) == sorted(dir(execgraph))


def test_nothing_else_is_public_but_modules_and_what_the_module_itself_needs() -> None:
    public = {name for name in dir(execgraph) if not name.startswith("_")}
    extra = {
        name
        for name in public - set(execgraph.__all__)
        if not isinstance(getattr(execgraph, name), ModuleType)
    }
    assert extra <= {"TYPE_CHECKING", "import_module"}


def test_a_star_gives_exactly_the_names() -> None:
    space: dict[str, object] = {}
    exec("from execgraph import *", space)
    assert sorted(space.keys() - {"__builtins__"}) == list(execgraph.__all__)


def test_there_is_a_version() -> None:
    from importlib.metadata import version

    assert execgraph.__version__ == version("execgraph")


def test_every_error_is_one_of_ours() -> None:
    errors = [
        thing
        for thing in (getattr(execgraph, name) for name in execgraph.__all__)
        if inspect.isclass(thing) and issubclass(thing, BaseException)
    ]
    assert len(errors) > 5
    assert all(issubclass(error, execgraph.ExecgraphError) for error in errors)


def test_the_sync_face_has_all_that_the_engine_has() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    # What is only about declaring, or about the engine's own event loop.
    elsewhere = {"namespace", "session", "sync", "tools"}
    assert public(execgraph.Engine) - elsewhere <= public(SyncEngine)
