"""Requirements whose placeholders are filled: what a value becomes, and what it cannot become."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execgraph.graphstore.canonical import Json
from execgraph.graphstore.document import Document, check_selector
from execgraph.graphstore.errors import ConfigurationError, SelectorError
from execgraph.graphstore.model import FacetRef
from execgraph.invalidation.resources import Acl, Resource, check_uri

# What python-jsonpath takes in a literal: no control characters, escaped or not.
_READABLE = st.characters(codec="utf-8", exclude_categories=["Cc"])


def _facet(requirement: Resource, **arguments: Any) -> FacetRef:
    return requirement.resolve({}, arguments)


@pytest.mark.parametrize(
    "selector",
    [
        "$.tables[?@.name == '{table}'].rows",
        '$.tables[?@.name == "{table}"].rows',
        "$.tables[?@.name == '{table}' && @.rows != '{table}'].rows",
    ],
)
@settings(deadline=None)
@given(table=st.text(_READABLE) | st.text("'\"\\[]{}$@.*?|&()", max_size=8))
def test_a_quoted_value_is_that_value_whatever_it_holds(selector: str, table: str) -> None:
    filled = _facet(Acl("db", selector), table=table).selector
    mine: dict[str, Json] = {"name": table, "rows": 1}
    other: Json = {"name": f"{table}.", "rows": 2}
    only = Document.of({"tables": [mine]}).fingerprint(filled)
    assert Document.of({"tables": [other, mine]}).fingerprint(filled) == only
    assert Document.of({"tables": [other, {**mine, "rows": 3}]}).fingerprint(filled) != only


@settings(deadline=None)
@given(st.text(_READABLE) | st.text("'\"\\[]", max_size=8))
def test_a_part_of_a_quoted_text_cannot_break_out_either(name: str) -> None:
    for selector in ("$['table-{name}'].x", "$[\"it's '{name}'\"].x", "$['{name}{name}'].x"):
        filled = _facet(Acl("db", selector), name=name).selector
        key = selector[3 : selector.rindex("]") - 1].replace("{name}", name)
        document = Document.of({key: {"x": 1}, "other": {"x": 2}})
        assert document.fingerprint(filled) != Document.of({key: {"x": 2}}).fingerprint(filled)
        assert document.fingerprint(filled) == Document.of({key: {"x": 1}}).fingerprint(filled)


@pytest.mark.parametrize(
    ("selector", "value", "filled"),
    [
        ("$.rows[{n}]", 3, "$.rows[3]"),
        ("$.rows[{n}]", -1, "$.rows[-1]"),
        ("$.rules[?@.level > {n}]", 1.5, "$.rules[?@.level > 1.5]"),
        ("$.rules[?@.on == {n}]", True, "$.rules[?@.on == true]"),
        ("$.tables.{n}", "orders", "$.tables.orders"),
    ],
)
def test_an_unquoted_value_is_a_name_or_a_number(selector: str, value: Any, filled: str) -> None:
    assert _facet(Acl("db", selector), n=value).selector == filled


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ("$.tables.{n}", "a b"),
        ("$.tables.{n}", "a'] || $['b"),
        ("$.tables.{n}", "12a"),
        ("$.tables.{n}", ""),
        ("$.rows[{n}]", "007"),
        ("$.rows[{n}]", 2**60),
        ("$.rows[{n}]", "first"),
        ("$.rules[?@.level > {n}]", [1]),
        ("$.rules[?match(@.name, '{n}')]", "(a"),
        ("$.rules[?match(@.name, '{n}')]", "(?=a)"),
        ("$['{n}']", "\ud800"),
        ("$['{n}']", "\x07"),
        ("$['{n}']", "x" * 20_000),
    ],
)
def test_a_value_that_makes_no_selector_is_refused_when_it_is_filled_in(
    selector: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError):
        _facet(Acl("db", selector), n=value)


@settings(deadline=None)
@given(
    st.sampled_from(["$.t.{v}", "$.t[{v}]", "$['{v}']", "$[?@ == {v}]", "$[?search(@, '{v}')]"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
)
def test_what_is_filled_in_is_a_selector_or_refused(selector: str, value: Any) -> None:
    try:
        facet = _facet(Acl("db", selector), v=value)
    except ConfigurationError:
        return
    check_selector(facet.selector)


def test_a_selector_that_no_value_could_complete_is_refused_where_it_is_written() -> None:
    with pytest.raises(SelectorError):
        Acl("db", "$.rows[{n}")


@pytest.mark.parametrize(
    ("value", "said"),
    [("SELECT " + "x" * 9000, "9,011 bytes"), ("\ud800", "surrogate"), ("é" * 3000, "6,004")],
)
def test_what_no_store_could_find_again_names_no_resource(value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        _facet(Resource("sql:{statement}"), statement=value)
    assert len(str(error.value)) < 300


def test_a_name_of_some_length_is_one() -> None:
    check_uri("sql:" + "x" * 3_996)
