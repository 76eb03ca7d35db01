"""Stand-ins are the same whatever the values are, and are read back without a mistake."""

from __future__ import annotations

import gc
import json
import os
import random
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from execgraph.engine.keys.standins import (
    MangledStandIn,
    NoStandIn,
    StandIns,
    may_hold_one,
)
from execgraph.graphstore.canonical import encode

#: Random tasks; 100,000 take some three minutes.
MANY = int(os.environ.get("EXECGRAPH_RANDOM_TASKS", "20000"))
WORDS = ["the", "ticket", "is", "at", "opq", "7093", "2026-11-28", "42", "{", "a: b", "é", "\\n"]
#: Values that contain each other, and what JSON escapes.
PIECES = [
    "INC",
    "-",
    "4",
    "47",
    "471",
    '"',
    "\\",
    "\n",
    "é",
    "\U0001f600",
    " ",
    "```",
    "opq_",
    "{}",
]


def some_text(dice: random.Random) -> str:
    return "".join(dice.choice(PIECES) for _ in range(dice.randint(0, 6)))


KINDS: list[Callable[[random.Random], Any]] = [
    some_text,
    lambda dice: dice.randint(-5, 5000),
    lambda dice: str(dice.randint(0, 99)),
    lambda dice: str(uuid.UUID(int=dice.getrandbits(128))),
    lambda dice: f"20{dice.randint(10, 40)}-0{dice.randint(1, 9)}-1{dice.randint(0, 9)}T10:20:30Z",
    lambda dice: dice.randint(1, 10**9) / 8,
]


class Task:
    """A random task: a document with marked values, and what a model says of them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.kinds = [self.dice.choice(KINDS) for _ in range(self.dice.randint(1, 4))]
        self.places = [self.dice.randrange(len(self.kinds)) for _ in range(self.dice.randint(1, 6))]

    def values(self, seed: str) -> list[Any]:
        """Values of each kind, no two the same: whether they are is something to reason about."""
        dice = random.Random(seed)
        values: list[Any] = []
        for kind in self.kinds:
            while (value := kind(dice)) in values:
                pass
            values.append(value)
        return values

    def document(self, values: list[Any]) -> dict[str, Any]:
        return {"rows": [{"id": values[which], "n": 4} for which in self.places], "id": "INC-47"}

    def paths(self) -> list[tuple[str | int, ...]]:
        return [("rows", number, "id") for number in range(len(self.places))]


def said(dice: random.Random, values: list[Any], depth: int = 3) -> Any:
    """What a model could say: with equal dice the same, whatever the values are."""
    value = values[dice.randrange(len(values))]
    plain = [value, prose(dice, value), dice.choice([None, True, 4, 47, "INC-47", "opq", 1.5])]
    if not depth or dice.random() < 0.4:
        return dice.choice(plain)
    inside = [said(dice, values, depth - 1) for _ in range(dice.randint(0, 3))]
    text = json.dumps(inside, ensure_ascii=False)
    return [
        inside,
        {prose(dice, value): inside, "id": value},
        text,
        f"So:\n```json\n{text}\n```\n{dice.choice(WORDS)}",
    ][dice.randrange(4)]


def prose(dice: random.Random, value: Any) -> str:
    before, after = dice.choice(WORDS), dice.choice(WORDS)
    return f"{before} {value}, {after}"


def check(seed: int) -> None:
    task = Task(seed)
    shown = []
    for number in range(2):
        values = task.values(f"{seed} {number}")
        standins = StandIns("task")
        document = task.document(values)
        shown.append(standins.substitute(document, task.paths(), "output 0"))
        assert standins.real(shown[-1]) == document
        rows = dict(zip(task.places, shown[-1]["rows"], strict=True))
        seen = [rows[it]["id"] if it in rows else "" for it in range(len(values))]
        real = [value if it in rows else "" for it, value in enumerate(values)]
        answer = said(random.Random(seed), seen)
        assert standins.real(answer) == said(random.Random(seed), real), (answer, values)
    assert shown[0] == shown[1]


def test_no_binding_is_wrong_in_random_tasks() -> None:
    for seed in range(3_000):
        check(seed)


@pytest.mark.sound
def test_no_binding_is_wrong_in_many_random_tasks() -> None:
    for seed in range(3_000, MANY):
        check(seed)


def test_a_value_has_one_standin_wherever_it_is() -> None:
    standins = StandIns("task")
    first = standins.substitute({"id": "INC-1", "n": 7}, [("id",), ("n",)], "input")
    then = standins.substitute({"of": "INC-1", "n": "7"}, [("of",), ("n",)], "output 0")
    assert then["of"] == first["id"]
    assert then["n"] != first["n"], "a text is no number"
    zeros = standins.substitute([0.0, -0.0], [(0,), (1,)], "output 1")
    assert json.dumps(standins.real(zeros)) == "[0.0, -0.0]"
    assert StandIns("another").substitute({"id": "INC-1"}, [("id",)], "input")["id"] != first["id"]


def test_standins_are_of_the_kind_of_their_values() -> None:
    values = [7, 1.5, str(uuid.uuid4()), "2026-11-28T10:00:00.5+02:00", "INC-1", "", None]
    shown = StandIns("task").substitute(values, [(place,) for place in range(len(values))], "input")
    assert [type(it) for it in shown] == [type(it) for it in values]
    assert str(uuid.UUID(shown[2])) == shown[2]
    assert datetime.fromisoformat(shown[3]).year == 7093
    assert shown[0] < 2**53, "JSON of every language holds it"


@pytest.mark.parametrize(
    "said",
    ["opq_0123", "OPQ_0edc725fadc1380a084345d8", 7093000000000001, "at 7093-01-01T00:00:00Z"],
)
def test_what_was_mangled_is_told_and_never_guessed(said: Any) -> None:
    standins = StandIns("task")
    standins.substitute(["INC-1", 7, "2026-11-28T10:00:00Z"], [(0,), (1,), (2,)], "input")
    with pytest.raises(MangledStandIn, match="none of the values that were shown"):
        standins.real({"argument": [said]})


def test_a_standin_that_was_cut_or_continued_is_mangled() -> None:
    standins = StandIns("task")
    [text, number] = standins.substitute(["INC-1", 7], [(0,), (1,)], "input")
    wrong = [text[:-1], text.upper(), f"{text}a", f"{number}0", f"0{number}", f"{number:,}"]
    for said in (*wrong, f"a{text}", number * 10, number // 10):
        with pytest.raises(MangledStandIn):
            standins.real(said)
    for whole in (f"{text}.json", f"{text}_a", f"...{text}", f"v1.{text}", f"see {text}."):
        assert standins.real(whole) == whole.replace(text, "INC-1")


def grouped(digits: str, many: int, between: str) -> str:
    """Digits in groups of so many, the last one full."""
    first = len(digits) % many
    rest = [digits[at : at + many] for at in range(first, len(digits), many)]
    return between.join((*([digits[:first]] if first else []), *rest))


MANGLINGS: dict[str, tuple[Any, list[Callable[[str], str]]]] = {
    "text": (
        "INC-1",
        [
            lambda it: it.replace("_", "\\_"),
            lambda it: it.replace("_", ""),
            lambda it: it.replace("_", " "),
            lambda it: it.replace("_", "-").upper(),
        ],
    ),
    "number": (
        7,
        [
            *(lambda it, by=by: grouped(it, 4, by) for by in " -.,_\u00a0"),
            *(lambda it, by=by: grouped(it, 3, by) for by in " .,_\u202f"),
            lambda it: f"{int(it):e}",
        ],
    ),
    "fraction": (
        1.5,
        [
            lambda it: it.partition(".")[0],
            lambda it: str(round(float(it))),
            lambda it: grouped(it.partition(".")[0], 3, ","),
            lambda it: f"{float(it):e}",
        ],
    ),
    "uuid": (
        str(uuid.UUID(int=7)),
        [
            lambda it: it.replace("-", ""),
            lambda it: it.replace("-", "").upper(),
            lambda it: it.replace("-", " "),
            lambda it: it.replace("-", "\\-"),
            lambda it: it.replace("-", "\u2011"),
        ],
    ),
    "moment": (
        "2026-11-28T10:00:00Z",
        [
            lambda it: it[:10].replace("-", "/"),
            lambda it: ".".join(reversed(it[:10].split("-"))),
            lambda it: it.replace("-", "").replace(":", ""),
        ],
    ),
}


@pytest.mark.parametrize("kind", MANGLINGS)
def test_what_was_written_another_way_is_told(kind: str) -> None:
    value, ways = MANGLINGS[kind]
    for task in range(20):
        standins = StandIns(f"task {task}")
        shown = standins.shown(value, "input")
        for mangled in [way(str(shown)) for way in ways]:
            told = {"argument": f"it is {mangled}."}
            assert may_hold_one(encode(told)), mangled
            assert standins.is_in(told), mangled
            with pytest.raises(MangledStandIn, match="none of the values that were shown"):
                standins.real(told)


def test_what_only_reminds_of_a_stand_in_is_a_text_as_any_other() -> None:
    standins = StandIns("task")
    for value, _ in MANGLINGS.values():
        standins.shown(value, str(value))
    for said in (
        "in room 7093",
        "+1 709 345 6789",
        "7093.50 EUR",
        "1-7093-2909-33",
        "commit 0e9ad4f",
        "0e9a" * 16,
        "the opq format, opq-1",
        "opqrst",
        "0.7093e3",
    ):
        assert standins.real(said) == said


def test_many_values_take_no_longer_each_than_few() -> None:
    def seconds(many: int) -> float:
        rows = [{"id": f"INC-{number}"} for number in range(many)]
        standins = StandIns(f"task {many}")  # of another one the stand-ins are known already
        started = time.process_time()
        shown = standins.substitute(rows, [(number, "id") for number in range(many)], "output 0")
        assert standins.real(shown) == rows
        return time.process_time() - started

    gc.collect()  # not in the middle, of what other tests have left
    assert seconds(3200) < 50 * max(seconds(400), 0.002)


def test_many_values_are_hidden_in_a_text_in_time_that_grows_with_it() -> None:
    def seconds(many: int) -> float:
        rows = [{"id": f"INC-{number * 7919 + 10000}"} for number in range(many)]
        standins = StandIns("task")
        shown = standins.substitute(rows, [(number, "id") for number in range(many)], "output 0")
        gc.collect()
        started = time.process_time()
        assert standins.hidden(f"Rows: {rows}") == f"Rows: {shown}"
        return time.process_time() - started

    seconds(10)
    assert seconds(8_000) < 50 * max(seconds(500), 0.002)


@pytest.mark.parametrize("fence", ["```\n", "```json\n{}\n``` \n", "7,093", "opq", '"\\'])
def test_a_long_reply_takes_no_longer_for_each_character_than_a_short_one(fence: str) -> None:
    standins = StandIns("task")
    [shown] = standins.substitute(['a "quote"'], [(0,)], "input")

    def seconds(many: int) -> float:
        started = time.process_time()
        assert standins.real(f"{fence * many}\n {shown}").endswith('a "quote"')
        return time.process_time() - started

    seconds(10)
    assert seconds(16_000) < 50 * max(seconds(1_000), 0.002)


@pytest.mark.parametrize(
    "told",
    ["{0}", "As follows:\n```json\n{0}\n```", "1. This:\n   ```json\n   {0}\n   ```\n2. That"],
    ids=["whole", "in a fence", "in a fence of a list"],
)
@pytest.mark.parametrize("write", [lambda it: [it], lambda it: it], ids=["a list", "a text"])
def test_a_value_is_escaped_where_it_stands_in_json(told: str, write: Callable[[str], Any]) -> None:
    standins, value = StandIns("task"), 'a "quote"'
    [shown] = standins.substitute([value], [(0,)], "input")
    said = told.format(json.dumps(write(shown)))
    assert standins.real(said) == told.format(json.dumps(write(value)))


@pytest.mark.parametrize("value", [True, {"a": 1}, [1]])
def test_nothing_stands_in_for_what_is_no_value(value: Any) -> None:
    with pytest.raises(NoStandIn, match="mark the values in it"):
        StandIns("task").substitute({"id": value}, [("id",)], "input")


def test_values_are_hidden_in_a_text_that_nobody_made_of_marked_places() -> None:
    standins = StandIns("task")
    long, longer, short, quoted = standins.substitute(
        ["INC-1234", "INC-1234-5", 42, 'a "quote"'], [(0,), (1,), (2,), (3,)], "input"
    )
    told = 'no INC-1234, INC-1234-5, INC-12345 nor 42: a "quote", {"id": "a \\"quote\\""}'
    [wordless] = standins.substitute(["(-----)"], [(0,)], "output 0")
    assert standins.hidden("a (-----) b") == f"a {wordless} b"
    assert standins.hidden(told) == (
        f'no {long}, {longer}, INC-12345 nor 42: {quoted}, {{"id": "{quoted}"}}'
    )
    assert short


@pytest.mark.parametrize(
    "value", ["Müller-4711", 'INC "4711"', "a\\b\\4711", "line\n4711", "工单-4711"]
)
@pytest.mark.parametrize("inner_ascii", [True, False])
@pytest.mark.parametrize("outer_ascii", [True, False])
def test_values_are_hidden_as_json_inside_json_spells_them(
    value: str, *, inner_ascii: bool, outer_ascii: bool
) -> None:
    standins = StandIns("task")
    shown = standins.shown(value, "input")

    def written(it: str) -> str:
        inside = json.dumps({"id": it}, ensure_ascii=inner_ascii)
        return json.dumps({"told": inside, "id": it}, ensure_ascii=outer_ascii)

    assert standins.hidden(f"Told: {written(value)}") == f"Told: {written(shown)}"
    assert standins.still_in([written(value)]) == {value}


@pytest.mark.parametrize("value", ["\nINC-4711", '"INC-4711"', "\\INC-4711"])
def test_no_escaped_character_is_taken_apart(value: str) -> None:
    standins = StandIns("task")
    shown = standins.shown(value, "input")
    for before in ("on", "on "):
        told = json.dumps({"a": json.dumps([f"{before}{value}"])})
        hidden = standins.hidden(told)
        inside = json.loads(json.loads(hidden)["a"])
        assert inside in ([f"{before}{value}"], [f"{before}{shown}"])
        assert json.loads(standins.real(hidden)) == json.loads(told)


def test_a_value_that_another_one_is_spelled_as_is_that_value() -> None:
    standins = StandIns("task")
    quoted = standins.shown('an "id"', "input")
    escaped = standins.shown('an \\"id\\"', "input")
    assert standins.hidden('is an \\"id\\"') == f"is {escaped}"
    assert standins.hidden('is an "id"') == f"is {quoted}"


@pytest.mark.parametrize(
    "told",
    [
        "请关闭工单{}已",
        "チケット{}を閉じる",
        "티켓 {}을",
        "Заявка{}закрыта",
        json.dumps("请关闭工单{}已"),
        json.dumps("first\n{}\nlast"),
        json.dumps(json.dumps("tab\t{} 单{}")),
    ],
)
@pytest.mark.parametrize("value", ["INC-471100", "(INC-471100)", "471100", "№471100"])
def test_values_are_hidden_beside_letters_that_go_on_with_no_word_of_theirs(
    told: str, value: str
) -> None:
    standins = StandIns("task")
    shown = standins.shown(value, "input")
    assert standins.hidden(told.replace("{}", value)) == told.replace("{}", shown)
    assert standins.still_in([told.replace("{}", value)]) == {value}
    assert standins.real(told.replace("{}", shown)) == told.replace("{}", value)


@pytest.mark.parametrize(
    "told", ["{}0", "{}٣", "é{}", "{}ß", "_{}", "{}ạ", "{}\uff21", "x{}", "的工单的", "a\\\\x{}"]
)
def test_a_part_of_a_longer_word_is_no_value(told: str) -> None:
    standins = StandIns("task")
    for value in ("INC-471100", "工单工单工单"):
        standins.shown(value, value)
    assert standins.hidden(told.format("INC-471100")) == told.format("INC-471100")
    assert standins.hidden("的工单工单工单的") == "的工单工单工单的"
    assert standins.still_in([told.format("INC-471100"), "的工单工单工单的"]) == set()
