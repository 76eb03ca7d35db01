"""What models fill in by themselves tells no two calls apart; what callers said always does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field, RootModel, SecretStr, model_validator

from execgraph import AwaitingApproval, IdempotencyKey
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.tools.tool import Tool
from execgraph.graphstore.model import Effect, EffectState

from .conftest import World, results, turn

_COUNT = itertools.count()


class Note(BaseModel):
    """With an id that nobody gives it."""

    words: str
    id: str = Field(default_factory=lambda: uuid4().hex)


class Order(BaseModel):
    """An order with a note."""

    name: str
    note: Note
    notes: list[Note] = []
    at: int = Field(default_factory=lambda: next(_COUNT))


ORDER = {"name": "a", "note": {"words": "hi"}, "notes": [{"words": "ho"}]}


class Stamped(Order):
    """One whose validator makes another one of it each time."""

    @model_validator(mode="after")
    def stamp(self) -> Stamped:
        self.at = next(_COUNT)
        return self


class Fails:
    """A tool that ships, and a run that fails after it has shipped."""

    def __init__(
        self, world: World, effect: str, *, keyed: bool, kind: type[Order] = Order
    ) -> None:
        self.world, self.engine = world, world.engine()
        self.keys: list[str] = []
        self.fails = True

        def keyed_ship(order: Order, key: Annotated[str, IdempotencyKey]) -> str:
            """Ship an order."""
            self.keys.append(key)
            return plain_ship(order)

        def plain_ship(order: Order) -> str:
            """Ship an order."""
            world.done.append(order.name)
            return f"shipped {order.name}"

        ship: Any = keyed_ship if keyed else plain_ship
        ship.__annotations__["order"] = kind
        declared: dict[str, Any] = {"effect": effect, "requires": [], "name": "ship"}
        self.ship = self.engine.tool(ship, **declared)

        @self.engine.tool(effect="read")
        def look() -> str:
            """Look."""
            if self.fails:
                raise KeyboardInterrupt
            return "well"

        self.look = look
        world.think(self.brain)
        self.agent = world.agent(self.engine, [self.ship, look])

    def brain(self, body: dict[str, Any]) -> Answer:
        match turn(body):
            case 0:
                return Answer([call("ship", {"order": ORDER})])
            case 1:
                return Answer([call("look", {})])
            case _:
                return Answer([text(f"done: {results(body)}")])

    async def by_agent(self) -> Any:
        return await self.agent.execute("go", run_id="r-1")

    async def by_program(self) -> Any:
        async with self.engine.run("shop", "go", run_id="r-1") as run:
            shipped = await run.act(self.ship, order=ORDER)
            look = await run.act(self.look)
            run.output = f"done: {[shipped.value, look.value]}"
        return run.result


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "plain"])
@pytest.mark.parametrize("effect", ["write", "once"])
@pytest.mark.parametrize("who", ["by_agent", "by_program"])
async def test_a_run_that_goes_on_knows_what_it_has_done(
    world: World, who: str, effect: str, *, keyed: bool
) -> None:
    shop = Fails(world, effect, keyed=keyed)
    async with shop.engine:
        with pytest.raises(KeyboardInterrupt):
            await getattr(shop, who)()
        shop.fails = False
        result = await getattr(shop, who)()
    assert world.done == ["a"], "it was done, and is not done again"
    assert "shipped a" in result.output, "what it gave is told, and no other arguments"
    assert [it.state for it in result.effects] == [EffectState.DONE]


@pytest.mark.parametrize("effect", ["write", "once"])
async def test_a_call_of_a_reply_is_known_by_its_place(world: World, effect: str) -> None:
    shop = Fails(world, effect, keyed=False, kind=Stamped)
    async with shop.engine:
        with pytest.raises(KeyboardInterrupt):
            await shop.by_agent()
        shop.fails = False
        result = await shop.by_agent()
    assert world.done == ["a"]
    assert "shipped a" in result.output
    assert [it.state for it in result.effects] == [EffectState.DONE]


@pytest.mark.parametrize("who", ["by_agent", "by_program"])
async def test_who_approves_approves_what_is_done_later(world: World, who: str) -> None:
    shop = Fails(world, "confirm", keyed=False)
    shop.fails = False
    async with shop.engine as engine:
        for _ in range(2):
            with pytest.raises(AwaitingApproval):
                await getattr(shop, who)()
        [asked] = await engine.approvals()
        await engine.approve(asked.id)
        await getattr(shop, who)()
    assert world.done == ["a"]


async def test_a_field_that_was_added_makes_no_other_call_of_it(world: World) -> None:
    class Old(BaseModel):
        name: str

    class New(Old):
        note: str | None = None

    pays = call("pay", {"bill": {"name": "a"}})
    done = text("done")
    world.think(lambda body: Answer([done if turn(body) else pays]))
    for kind in (Old, New):
        engine = world.engine()

        def pay(bill: Any) -> str:
            """Pay."""
            world.done.append(bill.name)
            return "paid"

        pay.__annotations__["bill"] = kind
        tool = engine.tool(effect="once", requires=[])(pay)
        async with engine:
            await world.agent(engine, [tool]).execute("go")
    assert world.done == ["a"]


class Card(BaseModel):
    """One way to pay."""

    kind: Literal["card"] = "card"
    number: int = 0


class Cash(BaseModel):
    """Another way to pay."""

    kind: Literal["cash"] = "cash"
    number: int = 0


class Ways(RootModel[list[Card | Cash]]):
    """Several."""


def pay(
    *,
    way: Card | Cash | None = None,
    ways: Ways | None = None,
    some: dict[str, Note] | None = None,
    pair: tuple[Note, int] | None = None,
    flag: Flag | None = None,
    bill: Refund | Charge | None = None,
    note: Note | None = None,
    whatever: Any = None,
    basket: Basket | None = None,
    step: Up | Down | None = None,
    cards: set[Pinned] | None = None,
) -> None:
    """Pay."""


class Pinned(BaseModel, frozen=True):
    """What can stand in a set."""

    number: int
    pin: SecretStr = SecretStr("0000")


@dataclass
class Up:
    """A step up, which may hold others."""

    by: int = 1
    then: Up | Down | None = None


@dataclass
class Down(Up):
    """A step down."""


class Refund(BaseModel):
    """What is paid back."""

    cents: int = 100


class Charge(BaseModel):
    """What is to be paid."""

    cents: int = 200


class Express(Note):
    """A note that is sent sooner."""

    hours: int = 1


class Basket(BaseModel):
    """What is filled after it was made."""

    items: list[str] = Field(default_factory=list)
    tags: dict[str, str] = {}
    rate: Refund = Field(default_factory=Refund)
    note: Note = Field(default_factory=lambda: Note(words="x"))
    lot: list[str] = Field(default_factory=lambda: [uuid4().hex])


def basket(change: Callable[[Basket], object]) -> Basket:
    made = Basket()
    change(made)
    return made


def set_to(item: BaseModel, **values: Any) -> None:
    for name, value in values.items():
        setattr(item, name, value)


class Flag(BaseModel):
    """A field of which 1 and True are two values."""

    on: int | bool | str = 1


def key(**arguments: Any) -> str:
    tool = Tool(pay, effect=Effect.WRITE, requires=[])
    parsed = tool.parse(arguments)
    return tool.fingerprint_of(parsed, b"{}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"way": Card()}, {"way": Cash()}),
        ({"way": {"kind": "card"}}, {"way": {"kind": "cash"}}),
        ({"way": {"kind": "card", "number": 1}}, {"way": {"kind": "card", "number": 2}}),
        ({"ways": [Card()]}, {"ways": [Cash()]}),
        ({"ways": [Card(number=1)]}, {"ways": [Card()]}),
        ({"some": {"a": {"words": "x"}}}, {"some": {"a": {"words": "x", "id": "1"}}}),
        ({"pair": [{"words": "x"}, 1]}, {"pair": [{"words": "x"}, 2]}),
        ({"pair": [{"words": "x", "id": "1"}, 1]}, {"pair": [{"words": "x", "id": "2"}, 1]}),
        ({"flag": {"on": True}}, {"flag": {"on": 1}}),
        ({"flag": {"on": "1"}}, {"flag": {}}),
        ({"bill": Refund()}, {"bill": Charge()}),
        ({"bill": Refund(cents=5)}, {"bill": Charge(cents=5)}),
        ({"note": Note(words="x")}, {"note": Express(words="x")}),
        ({"whatever": [Refund()]}, {"whatever": [Charge()]}),
        ({"step": Up()}, {"step": Down()}),
        ({"cards": [{"number": 1}]}, {"cards": [{"number": 2}]}),
        ({"cards": [{"number": 1, "pin": "1"}]}, {"cards": [{"number": 1, "pin": "2"}]}),
        ({"step": Up(then=Up())}, {"step": Up(then=Down())}),
        ({"whatever": {"a": Up()}}, {"whatever": {"a": Down()}}),
        ({"basket": basket(lambda it: it.items.append("a"))}, {"basket": Basket()}),
        ({"basket": basket(lambda it: it.tags.update(a="b"))}, {"basket": Basket()}),
        ({"basket": basket(lambda it: set_to(it.rate, cents=5))}, {"basket": Basket()}),
        ({"basket": basket(lambda it: set_to(it.note, words="y"))}, {"basket": Basket()}),
    ],
)
def test_what_was_said_tells_calls_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key(**one) != key(**other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"some": {"a": {"words": "x"}}}, {"some": {"a": {"words": "x"}}}),
        ({"some": {"a": Note(words="x")}}, {"some": {"a": {"words": "x"}}}),
        ({"pair": [{"words": "x"}, 1]}, {"pair": (Note(words="x"), 1)}),
        ({"way": {"kind": "card", "number": 0}}, {"way": {"kind": "card"}}),
        ({"ways": [{"kind": "cash"}]}, {"ways": Ways([Cash(number=0)])}),
        ({"flag": {"on": 1}}, {"flag": {}}),
        ({"way": None}, {}),
        ({"step": Up(then=Down())}, {"step": Up(1, Down(1))}),
        (
            {"cards": [{"number": 1}, {"number": 2, "pin": "1"}]},
            {"cards": [{"number": 2, "pin": "1"}, {"number": 1}]},
        ),
        ({"note": Express(words="x")}, {"note": Express(words="x")}),
        ({"bill": {"cents": 100}}, {"bill": Refund()}),
        ({"basket": Basket()}, {"basket": {}}),
        ({"basket": basket(lambda it: it.items.append("a"))}, {"basket": {"items": ["a"]}}),
    ],
)
def test_what_is_filled_in_does_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key(**one) == key(**other)
