"""The model is a function of all it is sent and of who is asked: so is a decision's key.

The types of the SDK say what can be sent. They are walked, and one field is changed at a time: a
field that a newer SDK brings is in the key, or this test says that it is not.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Required, Union, get_args, get_origin, get_type_hints

import pytest
from anthropic import Anthropic
from anthropic.types import MessageCountTokensParams, message_create_params
from anthropic.types.beta import MessageCountTokensParams as BetaMessageCountTokensParams
from anthropic.types.beta import message_create_params as beta_params

from execgraph.adapters.anthropic.dialect import CHANGES_NO_ANSWER, MessagesDialect
from execgraph.adapters.anthropic.sending import as_sent
from execgraph.engine.transcript import Transcript

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
REQUESTS = {
    "messages": message_create_params.MessageCreateParamsNonStreaming,
    "beta": beta_params.MessageCreateParamsNonStreaming,
}
#: What may differ below the top of a request: hints, and names that the service makes up.
HINT = {"cache_control"}
MADE_UP = {"id", "tool_use_id", "tool_id", "signature"}

Wrap = Callable[[Any], Any]


def key(request: Any) -> str:
    body = {"model": "m", "max_tokens": 1, "messages": [], **request}
    return Transcript(MessagesDialect()).read(body, []).key


def said(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


# Walking the types ------------------------------------------------------------------------


@cache
def fields(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def required(kind: Any) -> list[str]:
    """``__required_keys__`` does not know it where annotations are texts."""
    hints = get_type_hints(kind, include_extras=True)
    return sorted(name for name, hint in hints.items() if get_origin(hint) is Required)


def is_object(kind: Any) -> bool:
    return hasattr(kind, "__required_keys__")


def sample(kind: Any, variant: int) -> Any:
    """A value of the type; of another variant another one, wherever the type has two."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return inner[variant % len(inner)]
    if origin in (Union, UnionType):
        choices = [it for it in inner if it is not NoneType]
        return sample(choices[variant % len(choices)], variant)
    if is_object(kind):
        return {name: sample(fields(kind)[name], variant) for name in required(kind)}
    if inner:
        held = sample(inner[-1], variant)
        return {"name": held} if origin in (dict, collections.abc.Mapping) else [held]
    plain = {bool: bool(variant), int: variant + 1, float: variant + 0.5, str: f"v{variant}"}
    return plain.get(kind, {"any": variant})


def objects_in(kind: Any, wrap: Wrap) -> Iterator[tuple[Any, Wrap]]:
    """The object types that may stand where ``kind`` does, and how one is put there."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_object(kind):
        yield kind, wrap
    elif origin in (Union, UnionType):
        for it in inner:
            yield from objects_in(it, wrap)
    elif inner and origin in (dict, collections.abc.Mapping):
        yield from objects_in(inner[1], lambda value: wrap({"name": value}))
    elif inner and origin is not Literal:
        yield from objects_in(inner[0], lambda value: wrap([value]))


def places(kind: Any, wrap: Wrap, seen: set[Any]) -> Iterator[tuple[Any, Wrap]]:
    """Every object type at every place in which it may stand directly."""
    yield kind, wrap
    for name, hint in fields(kind).items():
        if name in HINT or (kind in REQUESTS.values() and name in CHANGES_NO_ANSWER):
            continue

        def put(value: Any, name: str = name) -> Any:
            return wrap({**sample(kind, 0), name: value})

        for inner, inner_wrap in objects_in(hint, put):
            if (kind, name, inner) not in seen:
                seen.add((kind, name, inner))
                yield from places(inner, inner_wrap, seen)


def unseen(request: Any) -> set[tuple[str, str]]:
    """The fields that can be changed without another key, and what they are fields of."""
    found = set()
    for kind, wrap in places(request, lambda value: value, set()):
        base = sample(kind, 0)
        for name, hint in fields(kind).items():
            one, other = ({**base, name: sample(hint, variant)} for variant in (0, 1))
            without = one if name in required(kind) else base
            for changed in (other, without):
                if changed != one and key(wrap(changed)) == key(wrap(one)):
                    found.add((kind.__name__, name))
    return found


@pytest.mark.parametrize("name", REQUESTS)
def test_every_field_is_in_the_key_or_known_to_change_no_answer(name: str) -> None:
    request = REQUESTS[name]
    known = {
        (kind, field)
        for kind, field in unseen(request)
        if field in HINT | MADE_UP or (kind == request.__name__ and field in CHANGES_NO_ANSWER)
    }
    assert unseen(request) == known


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hint_is_in_no_key_wherever_the_api_has_one(name: str) -> None:
    request = REQUESTS[name]
    for kind, wrap in places(request, lambda value: value, set()):
        if "cache_control" in fields(kind):
            hinted = {**sample(kind, 0), "cache_control": {"type": "ephemeral"}}
            assert key(wrap(hinted)) == key(wrap(sample(kind, 0))), kind


def test_the_page_tells_of_each_field_that_changes_no_answer() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert told >= CHANGES_NO_ANSWER


#: What helpers of the SDK take beside the fields of a request, and what becomes of it.
OF_HELPERS = {
    "output_format": "a class, whose schema is sent in output_config",
    "max_iterations": "after how many turns a tool runner ends",
    "run_tools_eagerly": "when a tool runner runs its tools",
    "params": "a thread's fields of a request",
    "unsupported_request_behavior": "what a thread does that cannot be continued",
}
#: A field of a request, which is sent as a header.
HEADERS = {"betas"}
HELPERS = ("create", "parse", "stream", "tool_runner", "thread", "count_tokens")


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("helper", HELPERS)
def test_a_helper_takes_what_is_a_field_or_is_known_to_be_none(name: str, helper: str) -> None:
    client = Anthropic(api_key="x")
    method = getattr(client.messages if name == "messages" else client.beta.messages, helper, None)
    if method is None:
        return  # this API has none of it
    taken = set(inspect.signature(method).parameters)
    assert taken <= {
        *fields(REQUESTS[name]),
        *OF_HELPERS,
        *CHANGES_NO_ANSWER,
        *HEADERS,
        "extra_body",
    }


@pytest.mark.parametrize("counted", [MessageCountTokensParams, BetaMessageCountTokensParams])
def test_what_is_counted_is_what_would_be_asked(counted: Any) -> None:
    of = "beta" if counted is BetaMessageCountTokensParams else "messages"
    assert fields(counted).keys() <= fields(REQUESTS[of]).keys()


# What is data, and what is none -----------------------------------------------------------


def offering(schema: Any, **more: Any) -> dict[str, Any]:
    return {"tools": [{"name": "t", "input_schema": schema, **more}]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            offering({"properties": {"cache_control": {"description": "Any."}}}),
            offering({"properties": {"cache_control": {"description": "Never."}}}),
        ),
        (
            offering({"$defs": {"a": {"properties": {"cache_control": {"enum": ["x"]}}}}}),
            offering({"$defs": {"a": {"properties": {"cache_control": {"enum": ["y"]}}}}}),
        ),
        (
            offering({}, input_examples=[{"cache_control": "public"}]),
            offering({}, input_examples=[{"cache_control": "private"}]),
        ),
        (
            {"output_config": {"format": {"schema": {"cache_control": 1}}}},
            {"output_config": {"format": {"schema": {"cache_control": 2}}}},
        ),
        (
            said({"type": "tool_use", "id": "a", "name": "t", "input": {"cache_control": 1}}),
            said({"type": "tool_use", "id": "a", "name": "t", "input": {"cache_control": 2}}),
        ),
        (
            said({"type": "tool_use", "id": "a", "name": "t", "input": {"id": "x"}}),
            said({"type": "tool_use", "id": "a", "name": "t", "input": {"id": "y"}}),
        ),
        (
            said({"type": "tool_use", "id": "a", "name": "t", "input": {"x": None}}),
            said({"type": "tool_use", "id": "a", "name": "t", "input": {}}),
        ),
        (
            said({"type": "thinking", "thinking": "", "signature": "hidden thoughts"}),
            said({"type": "thinking", "thinking": "", "signature": "other thoughts"}),
        ),
    ],
)
def test_data_is_in_the_key_whatever_it_is_called(one: Any, other: Any) -> None:
    assert key(one) != key(other)


def result(of: str, output: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": of, "content": output}


def calling(*ids: str) -> dict[str, Any]:
    blocks = [{"type": "tool_use", "id": it, "name": "t", "input": {}} for it in ids]
    return {"role": "assistant", "content": blocks}


def talk(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def answered(*results: Any) -> dict[str, Any]:
    return talk(calling("a", "b"), {"role": "user", "content": list(results)})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"system": "x"}, {"system": [{"type": "text", "text": "x"}]}),
        ({"system": "x"}, {"system": [{"type": "text", "text": "x", "citations": None}]}),
        ({"anthropic-beta": "a,b"}, {"anthropic-beta": "b, a"}),
        ({"anthropic-beta": "a,b"}, {"anthropic-beta": "b,a,b"}),
        ({"anthropic_beta": ["a", "b"]}, {"anthropic_beta": ["b", "a"]}),
        ({"thinking": None}, {}),
        (talk({"role": "user", "content": "x"}), said({"type": "text", "text": "x"})),
        (
            said(result("a", "x")),
            said({**result("a", "x"), "content": [{"type": "text", "text": "x"}]}),
        ),
        (
            answered(result("a", "1"), result("b", "2")),
            answered(result("b", "2"), result("a", "1")),
        ),
        (
            talk(
                calling("a", "b"), {"role": "user", "content": [result("b", ""), result("a", "")]}
            ),
            talk(
                calling("x", "y"), {"role": "user", "content": [result("x", ""), result("y", "")]}
            ),
        ),
        (
            said({"type": "thinking", "thinking": "Hm.", "signature": "1"}),
            said({"type": "thinking", "thinking": "Hm.", "signature": "2"}),
        ),
    ],
)
def test_what_says_the_same_has_one_key(one: Any, other: Any) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            answered(result("a", "1"), result("b", "2")),
            answered(result("a", "2"), result("b", "1")),
        ),
        ({"anthropic-beta": "a"}, {"anthropic-beta": "a,b"}),
        (
            said(result("a", "1"), {"type": "text", "text": "x"}, result("b", "2")),
            said(result("a", "1"), result("b", "2"), {"type": "text", "text": "x"}),
        ),
    ],
)
def test_what_says_something_else_has_another_key(one: Any, other: Any) -> None:
    assert key(one) != key(other)


# Who is asked -----------------------------------------------------------------------------


def sent(url: str, **body: Any) -> dict[str, Any]:
    return as_sent(body, headers={}, query={}, base_url=url)


@pytest.mark.parametrize(
    "other",
    [
        "http://api.anthropic.com",
        "https://api.anthropic.com:8443",
        "https://api.anthropic.com/gateway",
        "https://bedrock-runtime.eu-west-1.amazonaws.com",
        "https://eu-west1-aiplatform.googleapis.com/v1",
    ],
)
def test_another_address_is_somebody_else(other: str) -> None:
    assert key(sent("https://api.anthropic.com")) != key(sent(other))


@pytest.mark.parametrize(
    "same",
    [
        "https://api.anthropic.com/",
        "https://API.anthropic.com",
        "https://me:pw@api.anthropic.com",
        "https://api.anthropic.com:443",
    ],
)
def test_one_address_is_one_whatever_its_spelling(same: str) -> None:
    assert sent(same) == sent("https://api.anthropic.com") == {}


def test_extra_parts_of_a_request_are_parts_of_it() -> None:
    url = "https://api.anthropic.com"
    assert key(sent(url, extra_body={"temperature": 1})) == key(sent(url, temperature=1))
    for extra in (
        {"extra_body": {"temperature": 2}},
        {"extra_query": {"beta": "true"}},
        {"extra_headers": {"Anthropic-Beta": "a"}},
    ):
        assert key(sent(url, **extra)) != key(sent(url))
    assert key(sent(url, extra_headers={"x-trace": "1"}, timeout=3)) == key(sent(url))
