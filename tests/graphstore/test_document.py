"""A facet's fingerprint changes with what its selector names, and with nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from execgraph.graphstore.canonical import canonical, encode
from execgraph.graphstore.document import Document, check_selector
from execgraph.graphstore.errors import NotJson, SelectorError
from execgraph.graphstore.model import Value

_NAMES = st.sampled_from(["a", "b", "c", "name", "$int", ""])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", math.nan, 2**60]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


def _at(content: Any, selector: str | None) -> str:
    return Document.of(content).fingerprint(selector)


@given(_JSON, _JSON)
def test_the_whole_is_equal_iff_the_contents_are(one: Any, two: Any) -> None:
    equal = canonical(one) == canonical(two)
    assert (Document.of(one).whole == Document.of(two).whole) == equal
    assert (_at(one, None) == _at(two, None)) == equal


@given(_JSON, _JSON)
def test_a_member_is_equal_iff_its_value_is(one: Any, two: Any) -> None:
    equal = canonical(one) == canonical(two)
    assert (_at({"a": one, "b": 1}, "$.a") == _at({"b": 2, "a": two}, "$.a")) == equal


@given(_JSON, st.dictionaries(_NAMES.filter(lambda name: name != "a"), _JSON))
def test_other_members_change_nothing(value: Any, others: dict[str, Any]) -> None:
    assert _at({"a": value}, "$.a") == _at({**others, "a": value}, "$.a")
    assert _at({"o": {"a": value}}, "$.o.a") == _at(
        {"o": {"a": value, **others}, **others}, "$.o.a"
    )


@given(st.lists(st.integers(0, 9), max_size=5), st.lists(st.integers(0, 9), max_size=5))
def test_of_a_list_only_what_is_selected_counts_in_its_order(
    one: list[int], two: list[int]
) -> None:
    selector = "$.rules[?@.n > 4].n"
    large = [[n for n in numbers if n > 4] for numbers in (one, two)]
    same = _at(_rules(one), selector) == _at(_rules(two), selector)
    assert same == (large[0] == large[1])


def _rules(numbers: list[int]) -> Any:
    return {"rules": [{"n": n, "note": index} for index, n in enumerate(numbers)]}


@given(_JSON)
def test_a_stored_document_has_the_same_fingerprints(content: Any) -> None:
    document = Document.of({"a": content, "b": [content]})
    again = Document(Value.of(document.payload.data))
    for selector in (None, "$", "$.a", "$.b[0]", "$..a", "$.nothing"):
        assert again.fingerprint(selector) == document.fingerprint(selector)


@given(_JSON)
def test_a_selector_that_matches_nothing_is_like_no_other(content: Any) -> None:
    nothing = _at({}, "$.none")
    assert _at({"a": content}, "$.none") == nothing
    assert _at({"a": content}, "$.a") != nothing
    assert _at({"a": content}, "$") != nothing
    assert _at({"a": content}, None) != nothing


def test_values_that_swap_their_names_are_a_change() -> None:
    one, two = {"read": ["ann"], "write": ["bob"]}, {"read": ["bob"], "write": ["ann"]}
    assert _at(one, "$.*") != _at(two, "$.*")
    assert _at(one, "$..*") != _at(two, "$..*")
    assert _at(one, "$['read', 'write']") != _at(two, "$['read', 'write']")


def test_an_element_put_before_the_selected_one_changes_nothing() -> None:
    rule = {"name": "freeze", "active": False}
    one = {"rules": [rule]}
    two = {"rules": [{"name": "new", "active": True}, rule]}
    assert _at(one, "$.rules[?@.name == 'freeze']") == _at(two, "$.rules[?@.name == 'freeze']")
    assert _at(one, "$.rules[0]") != _at(two, "$.rules[0]")
    assert _at(one, "$.rules[*].name") != _at(two, "$.rules[*].name")


def test_a_selected_element_that_is_doubled_is_a_change() -> None:
    assert _at({"r": [1]}, "$.r[?@ == 1]") != _at({"r": [1, 1]}, "$.r[?@ == 1]")


def test_a_path_that_is_selected_twice_counts_once() -> None:
    assert _at({"a": 1}, "$['a', 'a']") == _at({"a": 1}, "$.a")


def test_null_is_a_value_and_an_empty_list_is_too() -> None:
    contents: list[Any] = [{"a": None}, {"a": []}, {"a": {}}, {}]
    prints = [_at(content, "$.a") for content in contents]
    assert len(set(prints)) == 4


def test_a_path_and_all_below_it_is_that_path() -> None:
    content = {"a": {"b": {"c": 1}}, "z": 0}
    assert _at(content, "$['a', 'z']") != _at(content, "$.a")
    assert _at(content, "$.a") == _at({**content, "z": 1}, "$.a")


def test_an_empty_member_of_a_selected_object_stays() -> None:
    assert _at({"a": {"b": []}}, "$.a.b") != _at({"a": {"b": [[]]}}, "$.a.b")


@pytest.mark.parametrize(
    "selector", ["", "columns", "$.", "$[", "$.a b", "$.rules[?]", "$[?@.a =]", "$[?@.a <> 1]"]
)
def test_what_is_no_path_is_refused_with_an_example(selector: str) -> None:
    with pytest.raises(SelectorError, match=r"is not RFC 9535 JSONPath.*Write for example"):
        check_selector(selector)
    with pytest.raises(SelectorError):
        _at({}, selector)


def test_several_paths_in_one_are_refused() -> None:
    with pytest.raises(SelectorError):
        check_selector("$.a | $.b")


@pytest.mark.parametrize("selector", [None, "$", "$.columns.id", "$..id", "$[?@.a == 'x'].b[-1]"])
def test_paths_are_accepted(selector: str | None) -> None:
    check_selector(selector)


@pytest.mark.parametrize(
    ("content", "keys"),
    [({1: "a", "1": "b"}, "1 and '1'"), ({"x": [{None: 1, "null": 2}]}, "None and 'null'")],
)
def test_keys_that_json_cannot_tell_apart_are_refused(content: Any, keys: str) -> None:
    with pytest.raises(NotJson, match=f"the keys {keys} of one object are the same key in JSON"):
        Document.of(content)


def _nested(levels: int) -> Any:
    content: Any = 1
    for level in range(levels):
        content = {"a": content} if level % 2 else [content]
    return content


@pytest.mark.parametrize("selector", [None, "$..a", "$..*", "$..[0]", "$.a[0]", "$..none"])
def test_every_selector_reads_a_hundred_levels(selector: str | None) -> None:
    assert _at(_nested(100), selector) == _at(_nested(100), selector)
    assert (_at(_nested(100), selector) == _at(_nested(98), selector)) == (selector == "$..none")


@pytest.mark.parametrize("levels", [101, 5000])
def test_deeper_documents_are_refused(levels: int) -> None:
    with pytest.raises(NotJson, match="more than 100 levels deep"):
        Document.of(_nested(levels))


def test_a_document_within_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = [loop]
    with pytest.raises(NotJson, match="refers to itself"):
        Document.of(loop)


@given(st.text() | st.text("$.[]*?@'\"ab01:,<>=!&|()-", max_size=20).map("$".__add__), _JSON)
def test_any_selector_is_read_or_refused(selector: str, content: Any) -> None:
    try:
        check_selector(selector)
    except SelectorError:
        return
    assert _at(content, selector) == _at(content, selector)


def test_other_keys_become_text() -> None:
    numbered: Any = {1: "a"}
    assert Document.of(numbered).whole == Document.of({"1": "a"}).whole


@given(_JSON)
def test_the_payload_is_exact(content: Any) -> None:
    assert Document.of(content).payload == Value.of(encode(content))


@given(st.lists(_JSON, min_size=1, max_size=4), st.integers(0, 3))
def test_an_index_names_one_element(elements: list[Any], index: int) -> None:
    assume(index < len(elements))
    selector = f"$[{index}]"
    others = [value if n == index else "another" for n, value in enumerate(elements)]
    assert _at(elements, selector) == _at(others, selector)
