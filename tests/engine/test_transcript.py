"""A decision's key costs what is new in its conversation, and is the same however it was read."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from execgraph.adapters.anthropic.dialect import MessagesDialect
from execgraph.engine.transcript import Transcript, request_messages
from execgraph.graphstore.canonical import HashOf, hash_of
from execgraph.graphstore.model import Step, StepKind

ids = st.sampled_from(["a", "b", "c"])
texts = st.text(max_size=5)
blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, texts),
    st.builds(lambda id_: {"type": "tool_use", "id": id_, "name": "t", "input": {}}, ids),
    st.builds(lambda id_: {"type": "tool_result", "tool_use_id": id_, "content": "x"}, ids),
)
messages = st.builds(
    lambda content: {"role": "user", "content": content}, st.lists(blocks, max_size=3)
)


def request(said: list[Any], model: str = "m") -> dict[str, Any]:
    return {"model": model, "max_tokens": 1, "messages": said}


def fresh_key(said: list[Any], model: str = "m") -> str:
    return Transcript(MessagesDialect()).read(request(said, model), []).key


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(messages, max_size=3), st.booleans())))
def test_a_key_is_that_of_the_whole_request(turns: list[tuple[int, list[Any], bool]]) -> None:
    """Messages are added and taken back, and another model is asked in between."""
    kept = Transcript(MessagesDialect(), kept=True)
    read = Transcript(MessagesDialect())
    said: list[Any] = []
    for back, more, other in turns:
        said = [*said[: len(said) - min(back // 3, len(said))], *more]
        model = "other" if other else "m"
        key = fresh_key(said, model)
        assert kept.read(request(said, model), []).key == key
        assert read.read(request(copy.deepcopy(said), model), []).key == key


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_a_message_that_a_program_changes_in_place_is_read_again(
    said: list[Any], data: st.DataObject
) -> None:
    read = Transcript(MessagesDialect())
    read.read(request(said), [])
    changed = data.draw(st.sampled_from(said))
    changed["content"].append({"type": "text", "text": "more"})
    assert read.read(request(said), []).key == fresh_key(said)


@given(st.lists(st.lists(texts | st.none() | st.integers(), max_size=3)))
def test_a_key_of_parts_is_the_same_when_they_come_one_by_one(added: list[list[Any]]) -> None:
    growing, parts = HashOf("step", "m"), ["m"]
    for more in added:
        growing.add(*more)
        parts += more
        assert growing.key == hash_of("step", *parts)


def test_recordings_made_before_are_still_found_by_their_keys() -> None:
    said = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"a": 1}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}],
        },
    ]
    assert fresh_key(said) == "2a7e965f16f4c4f167118d56782e95829e920b29"


def step(extends: int | None, shared: int, *told: str) -> Step:
    return Step(
        position=0,
        kind=StepKind.DECISION,
        name="m",
        key="k",
        occurrence=0,
        code_key="c",
        output="o",
        output_key="o",
        extends=extends,
        shared=shared,
        messages=told,
    )


def test_the_messages_of_a_decision_are_those_it_shares_and_its_own() -> None:
    steps = [step(None, 0, "a", "b"), step(0, 1, "c", "d", "e"), step(1, 2, "f"), step(2, 1, "g")]
    told = [request_messages(steps, position) for position in range(4)]
    assert ["".join(it) for it in told] == ["ab", "acde", "acf", "ag"]
