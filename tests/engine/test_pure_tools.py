"""An output of a ``pure`` tool is used again only if nothing that it depends on has changed."""

from __future__ import annotations

import importlib
import logging
import os
import random
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from execgraph import Engine, Tool, ToolError
from execgraph.adapters.messages_api import Answer, call, text
from execgraph.engine.keys.installed import is_own

from .conftest import World, outcomes, results, turn
from .programs import PROGRAMS

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import a program from its source; each time under the same name, as a new process would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def loaded(source: str) -> ModuleType:
        sys.modules.pop("shop", None)
        (tmp_path / "shop.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return importlib.import_module("shop")

    yield loaded
    sys.modules.pop("shop", None)


def pure(function: Any, **how: Any) -> Tool:
    return Engine("sqlite:///never-opened.db").tool(function, effect="pure", name="t", **how)


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_key_sees(load: Load, what: str) -> None:
    source, before, after = PROGRAMS[what]
    assert before in source
    first, same = pure(load(source).t).code_key, pure(load(source).t).code_key
    assert first == same, "the same program has another key"
    assert pure(load(source.replace(before, after)).t).code_key != first


@pytest.mark.parametrize("what", PROGRAMS)
def test_what_a_key_sees_is_not_warned_of(
    load: Load, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert pure(load(PROGRAMS[what][0]).t).code_key
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("imported", "read"),
    [
        ("import prices", "prices.RATE"),
        ("import prices as p", "p.RATE"),
        ("import prices as p", "(lambda: p.RATE)()"),
        ("import prices", "getattr(prices, 'RATE')"),
        ("import goods.prices", "goods.prices.RATE"),
        ("import goods.prices as p", "p.RATE"),
        ("from goods import prices", "prices.RATE"),
        ("from goods import prices as p, other", "p.RATE"),
        ("from goods.prices import RATE as r", "r"),
    ],
)
def test_what_is_read_of_a_module_that_a_function_imports_is_seen(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, imported: str, read: str
) -> None:
    def key(rate: int, more: str) -> str:
        for name in [it for it in sys.modules if it.partition(".")[0] in ("goods", "prices")]:
            del sys.modules[name]
        (tmp_path / "goods").mkdir(exist_ok=True)
        (tmp_path / "goods/__init__.py").write_text("")
        (tmp_path / "goods/other.py").write_text("")
        for file in ("prices.py", "goods/prices.py"):
            (tmp_path / file).write_text(f"RATE = {rate}\nMORE = {more!r}\n")
        source = f"def t(n: int) -> int:\n    'T.'\n    {imported}\n    return n * {read}"
        return pure(load(source).t).code_key

    assert key(2, "a") == key(2, "ab"), "what is not read of the module is in the key"
    assert key(2, "a") != key(777, "a")
    assert not [it for it in caplog.messages if "prices" in it]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def h(n): return n + 1", "def h(n):\n    # why\n    return (n +\n            1)"),
        ("def h(n):", "UNUSED = 3\ndef h(n):"),
        ("def h(n): return n + 1", "def h(n):\n    'Add one.'\n    return n + 1"),
        ("import logging", "import logging, json"),
    ],
)
def test_a_key_does_not_see_what_changes_nothing(load: Load, before: str, after: str) -> None:
    source = (
        "import logging\nlog = logging.getLogger('x')\ndef h(n): return n + 1\n"
        "def t(n: int) -> int:\n    'T.'\n    log.info('x')\n    return h(n)"
    )
    assert pure(load(source).t).code_key == pure(load(source.replace(before, after)).t).code_key


def test_the_type_of_the_output_is_seen_beside_a_version(load: Load) -> None:
    source, before, after = PROGRAMS["the output's type"]
    first = pure(load(source).t, version="1").code_key
    assert pure(load(source).t, version="1").code_key == first
    assert pure(load(source.replace(before, after)).t, version="1").code_key != first


# While the process runs -------------------------------------------------------------------

RATE = 2
TABLE = {"eu": 2}


class Tenant:
    def __init__(self, who: str) -> None:
        self.who = who

    def name(self, n: int) -> str:
        """Who it is."""
        return f"{self.who} {n}"


def fee(n: int) -> int:
    """The fee."""
    return n * RATE * TABLE["eu"]


def test_a_global_bound_anew_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = pure(fee)
    before = tool.code_key
    monkeypatch.setitem(globals(), "RATE", 7)
    assert tool.code_key != before
    monkeypatch.setitem(globals(), "RATE", 2)
    assert tool.code_key == before


def test_a_table_changed_in_place_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = pure(fee)
    before = tool.code_key
    monkeypatch.setitem(TABLE, "eu", 7)
    assert tool.code_key != before


def test_a_function_changed_in_place_is_another_key() -> None:
    def helper(n: int, rate: int = 1) -> int:
        return n * rate * helper.more  # type: ignore[attr-defined,no-any-return]

    def t(n: int) -> int:
        """T."""
        return helper(n)

    helper.more = 1  # type: ignore[attr-defined]
    tool = pure(t)
    keys = [tool.code_key, tool.code_key]
    helper.more = 2  # type: ignore[attr-defined]
    keys.append(tool.code_key)
    helper.__defaults__ = (3,)
    keys.append(tool.code_key)
    helper.__code__ = (lambda n, rate=1: n).__code__.replace(co_freevars=("helper",))
    keys.append(tool.code_key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_what_a_function_counts_of_itself_is_not_in_its_key() -> None:
    def helper(n: int) -> int:
        helper.calls = getattr(helper, "calls", 0) + 1  # type: ignore[attr-defined]
        return n

    def t(n: int) -> int:
        """T."""
        return helper(n)

    tool = pure(t)
    before = tool.code_key
    assert tool(1) == 1
    assert tool.code_key == before


def test_an_object_changed_in_place_is_another_key() -> None:
    tenant = Tenant("alice")
    tool = pure(tenant.name)
    before = tool.code_key
    tenant.who = "bob"
    assert tool.code_key != before


def from_environment(n: int) -> str:
    """What the environment says."""
    return f"{os.environ.get('SHOP_RATE')} {os.environ['HOME']} {os.getenv('SHOP_NAME', '')}"


@pytest.mark.parametrize("name", ["SHOP_RATE", "HOME", "SHOP_NAME"])
def test_a_variable_of_the_environment_that_is_named_is_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    tool = pure(from_environment)
    before = tool.code_key
    monkeypatch.setenv(name, "another")
    assert tool.code_key != before
    assert caplog.messages == []


def test_a_tool_called_as_a_function_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("sqlite:///never-opened.db")
    inner = engine.tool(fee, effect="pure")

    def outer(n: int) -> int:
        """Twice the fee."""
        return 2 * int(inner(n))

    tool = engine.tool(outer, effect="pure")
    before = tool.code_key
    monkeypatch.setitem(globals(), "RATE", 7)
    assert tool.code_key != before


LOG: list[int] = []
CACHE: dict[int, int] = {}
COUNT = 0


def logging_and_caching(n: int) -> int:
    """Keeps a log, a cache and a count."""
    global COUNT  # noqa: PLW0603
    COUNT += 1
    LOG.append(n)
    if n not in CACHE:
        CACHE[n] = n * RATE
    return CACHE[n]


def in_a_closure() -> Any:
    log: list[int] = []
    count = 0

    def closing(n: int) -> int:
        """Keeps a log and a count."""
        nonlocal count
        count += 1
        log.append(n)
        return n

    return closing


class Counting:
    def __init__(self) -> None:
        self.count = 0
        self.log: list[int] = []
        self.counts: dict[int, int] = {1: 0}
        self.rate = 2

    def fee(self, n: int) -> int:
        """Counts."""
        self.count += 1
        self.log.append(n)
        self.counts[n] += 1
        return n * self.rate

    def set_rate(self, rate: int) -> None:
        self.rate = rate


@pytest.mark.parametrize("function", [logging_and_caching, in_a_closure(), Counting().fee])
def test_what_a_tool_keeps_for_itself_is_not_in_its_key(function: Any) -> None:
    tool = pure(function)
    before = tool.code_key
    function(1)
    assert tool.code_key == before


def test_what_another_method_sets_is_in_the_key() -> None:
    counting = Counting()
    tool = pure(counting.fee)
    before = tool.code_key
    counting.set_rate(7)
    assert tool.code_key != before


# What cannot be known ---------------------------------------------------------------------


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stream = Path(os.devnull).open()  # noqa: SIM115

    def rate(self) -> int:
        return 2

    def told(self) -> int:
        """The rate."""
        return self.rate()


CLIENT = Client()
DICE = random.Random(1)


def live(n: int) -> int:
    """Asks a client."""
    return n * CLIENT.rate()


def chance(n: int) -> int:
    """Rolls dice."""
    return n * DICE.randint(1, 6)


def file(n: int) -> str:
    """Reads a file."""
    with open(f"{n}.txt") as lines:  # noqa: PTH123
        return lines.read()


def any_variable(n: str) -> str:
    """Reads the environment."""
    return os.environ[n]


def expanded(n: str) -> str:
    """Reads the environment in passing."""
    return os.path.expandvars(n)


def home(n: str) -> str:
    """Likewise."""
    return os.path.expanduser(n)  # noqa: PTH111


def started_with(n: int) -> str:
    """Reads how the process was started."""
    return sys.argv[n]


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (live, "CLIENT.stream"),
        (CLIENT.told, "self.stream"),
        (chance, "DICE"),
        (file, "open"),
        (any_variable, "os.environ"),
        (expanded, "os.path.expandvars"),
        (home, "os.path.expanduser"),
        (started_with, "sys.argv"),
    ],
)
def test_what_a_key_cannot_see_is_named_once_with_the_remedy(
    caplog: pytest.LogCaptureFixture, function: Any, named: str
) -> None:
    tool = pure(function)
    assert tool.code_key == tool.code_key
    [warning] = caplog.messages
    assert "the pure tool t" in warning
    assert named in warning
    assert "uses=[...]" in warning
    assert "version='1'" in warning


@pytest.mark.parametrize("module", ["graphstore.model", "engine.keys.installed", "adapters.cli"])
def test_this_library_is_no_code_of_the_program(module: str) -> None:
    assert not is_own(f"execgraph.{module}", frozenset())


@pytest.mark.parametrize("how", [{"version": "1"}, {"uses": [fee]}])
def test_who_has_answered_is_not_warned(caplog: pytest.LogCaptureFixture, how: Any) -> None:
    with caplog.at_level(logging.WARNING):
        assert pure(live, **how).code_key
    assert caplog.messages == []


def test_other_effects_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert Engine("sqlite:///never-opened.db").tool(live, effect="read").code_key
    assert caplog.messages == []


def test_a_value_can_be_used() -> None:
    assert pure(live, uses=[{"a": 1}]).code_key != pure(live, uses=[{"a": 2}]).code_key
    with pytest.raises(ToolError, match="of which it cannot be known what it is"):
        pure(live, uses=[DICE])


# In runs ----------------------------------------------------------------------------------


async def test_a_pure_tool_runs_again_when_a_global_is_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.think(
        lambda body: Answer([text(str(results(body)))] if turn(body) else [call("fee", {"n": 3})])
    )
    engine = world.engine()
    agent = world.agent(engine, [engine.tool(fee, effect="pure")])
    async with engine:
        assert (await agent.execute("fee?")).output == "[12]"
        again, asked, _ = await world.count(agent.execute("fee?"))
        assert (outcomes(again)[1], asked) == (("fee", "reused"), 0)
        monkeypatch.setitem(globals(), "RATE", 7)
        changed = await agent.execute("fee?")
        assert outcomes(changed)[1] == ("fee", "diverged")
        assert changed.output == "[42]"
        monkeypatch.setitem(globals(), "RATE", 2)
        back, asked, _ = await world.count(agent.execute("fee?"))
        assert (back.output, asked) == ("[12]", 0)


async def test_what_changes_in_the_middle_of_a_run_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brain(body: dict[str, Any]) -> Answer:
        steps = [[call("reload", {})], [call("fee", {"n": 3})], [text(str(results(body)))]]
        return Answer(steps[turn(body)])

    world.think(brain)
    engine = world.engine()
    rates = iter([2, 7])

    @engine.tool(effect="read")
    def reload() -> str:
        """Load the rates."""
        monkeypatch.setitem(globals(), "RATE", next(rates))
        return "loaded"

    agent = world.agent(engine, [reload, engine.tool(fee, effect="pure")])
    async with engine:
        assert (await agent.execute("fee?")).output == "['loaded', 12]"
        monkeypatch.setitem(globals(), "RATE", 2)
        assert (await agent.execute("fee?")).output == "['loaded', 42]"
