"""The public names say what they take, give and raise, in one form: that of the reference.

What the reference shows of a class is what its page in docs/reference says; without a list, all.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import execgraph

from .test_face import ALIASES

PAGES = (Path(execgraph.__file__).parent / "docs" / "reference").glob("*.md")
ENTRY = re.compile(r"^::: execgraph\.(\w+)\n(?: +options:\n +members: \[(.*)\]\n)?", re.MULTILINE)
SHOWN: dict[str, str] = {
    name: members
    for page in PAGES
    for name, members in ENTRY.findall(page.read_text(encoding="utf-8"))
}
#: What programs make by calling the class; all else is made by the engine.
MADE_BY_PROGRAMS = {"Engine", "FileSource"}
#: Its kinds are told one by one in docs/not-replayed.md.
TOLD_ELSEWHERE = {"MissKind"}


def classes() -> list[type]:
    return [getattr(execgraph, name) for name in sorted(set(execgraph.__all__) - ALIASES)]


def methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    for kind in classes():
        listed = [name for name in SHOWN[kind.__name__].split(", ") if name]
        own = [name for base in kind.__mro__ if ours(base) for name in vars(base)]
        for name in listed or dict.fromkeys(own):
            found = inspect.getattr_static(kind, name)
            found = getattr(found, "__func__", found)
            if not name.startswith("_") and inspect.isfunction(found):
                yield f"{kind.__name__}.{name}", found


def properties() -> Iterator[tuple[str, property]]:
    for kind in classes():
        for name, found in vars(kind).items():
            if isinstance(found, property) and not name.startswith("_"):
                yield f"{kind.__name__}.{name}", found


def ours(kind: type) -> bool:
    return kind.__module__.startswith("execgraph.")


def section(text: str, title: str) -> list[str]:
    """The names that a section of a docstring lists; its lines, if it lists none."""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    lines = found[1].splitlines() if found else []
    return [line[4:].partition(":")[0].lstrip("*") for line in lines if re.match(r"    \S", line)]


def doc(thing: object) -> str:
    return inspect.getdoc(thing) or ""


def taken(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(("name", "method"), list(methods()))
def test_a_public_method_says_of_each_parameter_what_it_is(
    name: str, method: Callable[..., Any]
) -> None:
    assert section(doc(method), "Args") == taken(method)


@pytest.mark.parametrize(("name", "method"), list(methods()))
def test_a_public_method_says_what_it_gives(name: str, method: Callable[..., Any]) -> None:
    gives = inspect.signature(method).return_annotation not in {None, "None"}
    told = section(doc(method), "Returns") or section(doc(method), "Yields")
    assert bool(told) == gives


@pytest.mark.parametrize("name", sorted(MADE_BY_PROGRAMS))
def test_a_class_that_programs_make_says_what_it_is_made_of(name: str) -> None:
    kind = getattr(execgraph, name)
    assert section(doc(kind), "Args") == taken(kind.__init__)


@pytest.mark.parametrize(("name", "found"), list(properties()))
def test_a_public_property_says_what_it_is(name: str, found: property) -> None:
    assert doc(found)


@pytest.mark.parametrize("kind", classes(), ids=lambda it: str(it.__name__))
def test_a_value_says_of_each_field_what_it_means(kind: type) -> None:
    if kind.__name__ in TOLD_ELSEWHERE:
        return
    bases = [base for base in kind.__mro__ if ours(base)]
    told = {name for base in bases for name in section(doc(base), "Attributes")}
    assert set(fields(kind)) <= told


def fields(kind: type) -> list[str]:
    if issubclass(kind, Enum):
        return [it.name for it in kind]
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    if dataclasses.is_dataclass(kind):
        return [it.name for it in dataclasses.fields(kind)]
    return []


@pytest.mark.parametrize("kind", classes(), ids=lambda it: str(it.__name__))
def test_the_first_sentence_stands_alone(kind: type) -> None:
    first = doc(kind).splitlines()[0]
    assert first.endswith((".", "``."))
