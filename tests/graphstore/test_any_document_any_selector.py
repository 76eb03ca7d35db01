"""Whatever a document is, under whatever selector: what is selected counts, exactly."""

from __future__ import annotations

import json
from typing import Any

import jsonpath
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from execgraph.graphstore.canonical import Json, canonical
from execgraph.graphstore.document import Document, check_selector
from execgraph.graphstore.errors import SelectorError
from execgraph.graphstore.model import Value

_NAMES = st.sampled_from(["a", "b", "rules", "name", "", "it's", '"', "[", "]", "é", "\\"])
_SMALL = st.integers(-2, 2) | st.integers(2**53 - 2, 2**53 + 2) | st.just(-(10**30))
_TEXTS = st.sampled_from(
    ["", "a", "x", "[see the wiki]", '{"a": 1}', "it's", '"', "null", "\u2028"]
)
_SCALARS = st.none() | st.booleans() | _SMALL | st.sampled_from([0.5, 1.0, -1e300]) | _TEXTS
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)

# Selectors, by the grammar of RFC 9535.

_LITERALS = _SCALARS.map(json.dumps)
_QUOTED = _NAMES.map(json.dumps)
_SINGULAR = st.lists(_QUOTED | st.integers(-2, 2).map(str), max_size=2).map(
    lambda names: "".join(f"[{name}]" for name in names)
)
_QUERIES = st.tuples(st.sampled_from("@$"), _SINGULAR).map("".join)
_VALUES = _LITERALS | _QUERIES | _QUERIES.map("length({})".format)
_TESTS = st.recursive(
    st.tuples(_VALUES, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), _VALUES).map(" ".join)
    | _QUERIES
    | _QUERIES.map("{}[*]".format)
    | _QUERIES.map("count({}..*) > 1".format)
    | st.tuples(_QUERIES, st.sampled_from(["a.*", "[", "(a*)*b"])).map(
        lambda both: f"search({both[0]}, {json.dumps(both[1])})" if both[1] != "[" else both[0]
    ),
    lambda inner: (
        inner.map("!({})".format)
        | st.tuples(inner, st.sampled_from([" && ", " || "]), inner).map("".join)
    ),
    max_leaves=4,
)
_ONE = (
    _QUOTED
    | st.sampled_from(["*", "0", "-1", "1:", "::2", "::-1", ":-1"])
    | _TESTS.map("?".__add__)
)
_SEGMENTS = st.tuples(st.sampled_from(["", "", ".."]), st.lists(_ONE, min_size=1, max_size=2)).map(
    lambda both: f"{both[0]}[{', '.join(both[1])}]"
)
_SELECTORS = st.lists(_SEGMENTS, max_size=3).map(lambda segments: "$" + "".join(segments))


@settings(deadline=None)
@given(_JSON, _SELECTORS)
def test_every_document_has_a_fingerprint_under_every_selector(content: Any, selector: str) -> None:
    check_selector(selector)
    document = Document.of(content)
    again = Document(Value.of(document.payload.data))
    assert document.fingerprint(selector) == again.fingerprint(selector)


_REFERENCE = jsonpath.JSONPathEnvironment(strict=True)


_PLAIN = _SELECTORS.filter(lambda selector: "$" not in selector[1:])
_EXACT_THERE = st.recursive(
    st.none() | st.integers(2, 5) | st.sampled_from([0.5, "", "a", "x", "[see the wiki]"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@example([], ["[see the wiki]"], "$..[1:]")
@given(_EXACT_THERE, _EXACT_THERE, _PLAIN)
def test_what_another_evaluator_tells_apart_has_two_fingerprints(
    one: Any, two: Any, selector: str
) -> None:
    first, second = (_names_and_values(it, selector) for it in (one, two))
    if first != second:
        assert Document.of(one).fingerprint(selector) != Document.of(two).fingerprint(selector)


def _names_and_values(content: Any, selector: str) -> bytes:
    """What another evaluator selects: values, in the order and under the names they have."""
    found = _REFERENCE.compile(f"$[0]{selector[1:]}").finditer([content])  # a text it would parse
    places: dict[tuple[str, ...], Any] = {
        tuple(part if isinstance(part, str) else f"{part:09}" for part in match.parts): match.obj
        for match in found
        if match.parent is None or not isinstance(match.parent.obj, str)  # it slices texts too
    }
    return canonical([canonical(places[at]).hex() for at in sorted(places)])


@settings(deadline=None)
@given(_JSON, _JSON)
def test_an_element_of_another_type_is_no_nobody(denied: Any, other: Any) -> None:
    """`deny` was empty, so nobody was denied; only another empty list says so too."""
    nobody = Document.of({"deny": [], "x": denied}).fingerprint("$.deny[*]")
    assert Document.of({"deny": [], "x": other}).fingerprint("$.deny[*]") == nobody
    if other != []:
        assert Document.of({"deny": other}).fingerprint("$.deny[*]") != nobody
    assert Document.of([other]).fingerprint("$.deny[*]") != nobody


@pytest.mark.parametrize(
    ("selector", "nobody", "strange"),
    [
        ("$.deny[*]", {"deny": []}, [None, False, 0, "error: 503", ["deny"], {}, {"deny": None}]),
        ("$.deny[0]", {"deny": []}, [{"deny": {}}, {"deny": "bob"}, {"error": "503"}]),
        ("$.freeze", {}, [None, [], "freeze", ["freeze"], 1]),
        ("$..freeze", {}, [None, "freeze", 1]),
        ("$.deny[?@.user == 'bob']", {"deny": [{"user": "al"}]}, [{"deny": ["al", "bob"]}]),
        ("$.deny[?@.user == 'bob']", {"deny": [{"user": "al"}]}, [{"deny": [{"user": ["bob"]}]}]),
        ("$.max[?@.n > 100]", {"max": [{"n": 7}]}, [{"max": [{"n": "unlimited"}]}]),
        ("$.deny[?match(@, 'b.*')]", {"deny": ["al"]}, [{"deny": ["al", {"user": "bob"}]}]),
        ("$.x[?length(@.who) > 3]", {"x": [{"who": "al"}]}, [{"x": [{"who": 7}]}]),
        ("$.allow", {"allow": True}, [None, "allow", ["allow"], [{"allow": True}]]),
        ("$.who[*].name", {"who": [{"name": "al"}]}, [{"who": [{"name": "al"}, "bob"]}]),
    ],
)
def test_another_type_is_not_what_was_there(selector: str, nobody: Any, strange: list[Any]) -> None:
    before = Document.of(nobody).fingerprint(selector)
    for content in strange:
        assert Document.of(content).fingerprint(selector) != before, content


@pytest.mark.parametrize(
    ("selector", "before", "after"),
    [
        ("$.allow", "frozen", "frozen until Monday"),
        ("$.allow", ["bob"], ["bob", "al"]),
        ("$.deny[?@.user == 'bob']", {"deny": ["al"]}, {"deny": ["al", "bob"]}),
        ("$.deny[?@.user == 'bob']", {"deny": [{"user": ["al"]}]}, {"deny": [{"user": ["bob"]}]}),
        ("$.max[?@.n > 100]", {"max": [{"n": "few"}]}, {"max": [{"n": "unlimited"}]}),
    ],
)
def test_of_what_a_selector_cannot_look_into_all_counts(
    selector: str, before: Any, after: Any
) -> None:
    assert Document.of(before).fingerprint(selector) != Document.of(after).fingerprint(selector)


@pytest.mark.parametrize(
    ("selector", "before", "after"),
    [
        ("$.rules[?@.name == 'freeze']", {"rules": []}, {"rules": [{"name": "other"}], "v": 2}),
        ("$.rules[?@.name == 'freeze']", {"rules": [{"name": "x"}]}, {"rules": []}),
        ("$.rules[?@.kind == 'a' && @.n > 3]", {"rules": []}, {"rules": [{"kind": "b", "n": "x"}]}),
        ("$..freeze", {"a": {"freeze": 1}}, {"a": {"freeze": 1}, "b": [None, "x", 3]}),
        ("$.freeze.until", {"freeze": {}}, {"freeze": {"by": "ann"}, "other": None}),
    ],
)
def test_what_is_none_of_a_selectors_business_changes_nothing(
    selector: str, before: Any, after: Any
) -> None:
    assert Document.of(before).fingerprint(selector) == Document.of(after).fingerprint(selector)


@pytest.mark.parametrize("text", ["frozen [see the wiki]", '{"allow": false}', "[1, 2]", "", "1"])
def test_a_text_is_a_text(text: str) -> None:
    assert Document.of(text).fingerprint("$.allow") != Document.of({}).fingerprint("$.allow")
    assert Document.of(text).fingerprint("$") == Document.of(text).fingerprint("$")
    assert Document.of(text).fingerprint("$") != Document.of(f"{text}.").fingerprint("$")


@settings(deadline=None)
@given(st.integers(2**53, 2**70) | st.integers(-(2**70), -(2**53)))
def test_large_integers_are_exact(number: int) -> None:
    selector = f"$.rules[?@.id == {number}].allow"
    two = [{"id": number + step, "allow": step == 0} for step in (-1, 0, 1)]
    one = [two[1]]
    assert Document.of({"rules": two}).fingerprint(selector) == Document.of(
        {"rules": one}
    ).fingerprint(selector)
    other = [{"id": number, "allow": False}]
    assert Document.of({"rules": one}).fingerprint(selector) != Document.of(
        {"rules": other}
    ).fingerprint(selector)


def test_true_is_no_one_at_any_depth() -> None:
    content: Json = {"a": [{"v": [True]}, {"v": [1]}, {"v": [1.0]}]}
    selected = Document.of(content).fingerprint("$.a[?@.v == $.a[1].v].v")
    assert selected == Document.of({"a": [{"v": [True]}, {"v": [1]}, {"v": [1]}]}).fingerprint(
        "$.a[?@.v == $.a[1].v].v"
    )
    assert selected != Document.of({"a": [{"v": [1]}, {"v": [1]}, {"v": [1.0]}]}).fingerprint(
        "$.a[?@.v == $.a[1].v].v"
    )


# What could take for ever ---------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["(a*)*b", "(a|a)*b", "(a+)+$", "([a-z]+)*=", "(.*)*x"])
def test_no_regular_expression_takes_long(expression: str) -> None:
    long = "a" * 20_000
    content = {"texts": [long] * 5, "expression": expression}
    Document.of(content).fingerprint("$.texts[?search(@, $.expression)]")
    Document.of(content).fingerprint(f"$.texts[?match(@, '{expression}')]")


def test_an_expression_that_is_none_selects_nothing_and_is_not_nobody() -> None:
    at = "$.deny[?match(@, $.expression)]"
    nobody = Document.of({"deny": ["al"], "expression": "b.*"}).fingerprint(at)
    assert Document.of({"deny": ["al"], "expression": "(b"}).fingerprint(at) != nobody


@pytest.mark.parametrize("selector", ["$..*..*..*", "$..[?count($..*) > 1]", "$.x[?$.x[?@ == 1]]"])
def test_a_selector_that_takes_too_long_rests_on_the_whole(
    selector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execgraph.graphstore.selecting._STEPS", 5_000)
    content: dict[str, Json] = {"x": [[n, [n]] for n in range(2_000)]}
    before = Document.of(content).fingerprint(selector)
    assert Document.of(content).fingerprint(selector) == before
    assert Document.of({**content, "y": 1}).fingerprint(selector) != before


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("$[?match(@, '(?=x)')]", "no regular expression of RFC 9485"),
        ("$[?@ == 1e400]", "infinity"),
        (f"$[?@ == {'9' * 5000}]", "infinity"),
        (f"$[?{'(' * 3000}@{')' * 3000}]", "recursion"),
        (f"$[?{'!' * 40}@.a]", "nested more than 30 levels"),
        (f"$[?{'||'.join(['@.a'] * 101)}]", "more than 100 tests"),
        ("$['\ud800']", "surrogates"),
        (f"$['{'x' * 20_000}']", "16,384 characters"),
    ],
)
def test_what_nobody_could_evaluate_is_refused(selector: str, said: str) -> None:
    with pytest.raises(SelectorError, match=said):
        check_selector(selector)


def test_what_another_version_took_for_a_selector_rests_on_the_whole() -> None:
    held = Document.of({"a": 1}).held("$[?startswith(@, 'a')]")
    assert Document.of({"a": 1}).held("$[?startswith(@, 'a')]") == held
    assert Document.of({"a": 2}).held("$[?startswith(@, 'a')]") != held
