"""The canonical form: equal values have one form, different values never share one."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import assume, example, given
from hypothesis import strategies as st

from execgraph.graphstore.canonical import (
    Json,
    canonical,
    decode,
    digest,
    encode,
    fingerprint,
    hash_of,
)
from execgraph.graphstore.errors import NotJson

# Any code unit, halves of characters included, and the words that extensions are made of.
_TEXTS = st.text(st.characters(codec=None, categories=None)) | st.sampled_from(
    ["$", "$$", "$int", "$float", "$utf16", "$utf16:d83d", "$int:1", "$bool:true", "nan", "d83d"]
)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner), max_leaves=12
)
# Few enough that two of them often meet, or nearly.
_NEAR = st.recursive(
    st.sampled_from([None, True, 1, 1.0, 2**53, 2.0**53, math.nan, math.inf])
    | st.sampled_from(["nan", "inf", "1", "d83d", "\ud83d", "9007199254740992", "$int", ""]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["$int", "$$int", "$float", "$utf16", "a", "\ud83d", "$utf16:d83d", "$"]
            )
            | st.sampled_from([1, True, None, 0.5, "1", "$int:1", "$bool:true", "$null:"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=4,
)


def _same(one: Any, two: Any) -> bool:
    """What the form calls equal, said another way."""
    if isinstance(one, dict) and isinstance(two, dict):
        keys = {(type(key), key) for key in one}
        return keys == {(type(key), key) for key in two} and all(
            _same(one[key], two[key]) for key in one
        )
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if {type(one), type(two)} <= {int, float}:
        return one == two or (math.isnan(one) and math.isnan(two))
    return type(one) is type(two) and bool(one == two)


@given(_JSON)
def test_a_payload_that_was_stored_has_the_same_form(value: Any) -> None:
    text = canonical(value)  # halves of a character may meet: then two keys can become one
    assume(len({_joined(key) for key in _keys(value)}) == len(set(_keys(value))))
    assert canonical(decode(encode(value))) == text


@given(_NEAR, _NEAR)
@example({"$int": "9007199254740992"}, 2**53)
@example({"$float": "nan"}, math.nan)
@example({"$utf16": "d83d"}, "\ud83d")
@example({"$int:1": 0}, {1: 0})
@example({"$$int": 0}, {"$int": 0})
@example({"1": 0}, {1: 0})
@example({True: 0}, {"true": 0})
@example(2**53, 2.0**53)
@example(True, 1)
@example([], {})
@example("", None)
def test_two_values_share_a_form_iff_they_are_equal(one: Any, two: Any) -> None:
    assert (canonical(one) == canonical(two)) == _same(one, two)


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner)
    | st.dictionaries(st.text().filter(lambda key: not key.startswith("$")), inner),
))  # fmt: skip
def test_what_rfc_8785_can_write_is_written_so(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(_JSON)
def test_a_payload_is_exact(value: Any) -> None:
    text = encode(value).decode("ascii")
    assert json.dumps(decode(text.encode()), separators=(",", ":")) == text


@given(_JSON)
def test_a_form_is_utf_8_json(value: Any) -> None:
    json.loads(canonical(value).decode("utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (math.nan, b'{"$float":"nan"}'),
        (-math.inf, b'{"$float":"-inf"}'),
        (2**53 - 1, b"9007199254740991"),
        (2**53, b'{"$int":"9007199254740992"}'),
        (2.0**53, b'{"$int":"9007199254740992"}'),
        (-(2**64), b'{"$int":"-18446744073709551616"}'),
        ("a\ud83d", b'{"$utf16":"0061d83d"}'),
        ("\ud83d\ude00", "\N{GRINNING FACE}".encode().join([b'"', b'"'])),
        ({"\udc00": 1}, b'{"$utf16:dc00":1}'),
        ({1: 0, "1": 0}, b'{"$int:1":0,"1":0}'),
        ({True: 0, None: 1, 0.5: 2}, b'{"$bool:true":0,"$float:0.5":2,"$null:":1}'),
        ({"$ref": "#"}, b'{"$$ref":"#"}'),
        ({"b": 1, "a": (1.0, -0.0)}, b'{"a":[1,0],"b":1}'),
        ("\u00e9", '"\u00e9"'.encode()),
        ("e\u0301", '"e\u0301"'.encode()),  # no Unicode normalisation: these are two texts
    ],
)
def test_form(value: Any, form: bytes) -> None:
    assert canonical(value) == form


def test_the_order_of_members_says_nothing_and_that_of_elements_does() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_a_payload_keeps_the_order_and_the_types_of_numbers() -> None:
    assert encode({"b": 1.0, "a": 1}) == b'{"b":1.0,"a":1}'
    assert list(decode(b'{"b":1,"a":2}')) == ["b", "a"]
    assert encode([math.nan, 2**70]) == b"[NaN,1180591620717411303424]"


class _Colour(StrEnum):
    RED = "red"


class _Size(IntEnum):
    LARGE = 3


def test_subclasses_count_as_what_they_are() -> None:
    value: OrderedDict[str, Json] = OrderedDict(colour=_Colour.RED, size=_Size.LARGE)
    assert (
        canonical(value)
        == canonical({"colour": "red", "size": 3})
        == canonical(decode(encode(value)))
    )


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 1j, {"a": [{"b": {3}}]}, {(1,): 2}])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(NotJson):
        canonical(value)
    with pytest.raises(NotJson):
        encode(value)


def test_a_refusal_says_where() -> None:
    value: Any = {"a": [{"b": {3}}]}
    with pytest.raises(NotJson, match=r"a set at \$\.a\[0\]\.b is not JSON"):
        canonical(value)


def test_a_value_within_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotJson, match="refers to itself"):
        canonical(loop)
    with pytest.raises(NotJson):
        encode(loop)


@given(st.lists(_TEXTS | st.integers() | st.none()), st.lists(_TEXTS | st.integers() | st.none()))
@example(["a", "b"], ["ab"])
@example(["1"], [1])
@example([None], ["null"])
@example([], [""])
def test_keys_of_different_parts_differ(one: list[Any], two: list[Any]) -> None:
    assume([_joined(it) for it in one] == one)
    assume([_joined(it) for it in two] == two)
    assert (hash_of("kind", *one) == hash_of("kind", *two)) == (one == two)
    assert hash_of("kind", *one) != hash_of("other", *one)


def test_a_digest_is_160_bits() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4"


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *(key for item in value.values() for key in _keys(item))]
    return [key for item in value for key in _keys(item)] if isinstance(value, list) else []


def _joined(value: Any) -> Any:
    """The text with halves that stand side by side made one character."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
