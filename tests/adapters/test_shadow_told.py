"""What the command line tells of shadow runs."""

from __future__ import annotations

import json
import uuid
from typing import Any

from typer.testing import CliRunner

from execgraph import Engine
from execgraph.adapters import cli

WORDS: list[str] = []


async def say(request: Any) -> str:
    return WORDS.pop()


async def greet(engine: Engine, word: str, share: float) -> str:
    WORDS.append(word)
    async with engine.run("greet", {"whom": "Ann"}, shadow=share) as run:
        run.output = (await run.decide({"greet": "her"}, call=say)).value
    return run.execution_id


def ask(url: str, namespace: str, *arguments: str) -> str:
    where = ["--store", url, "--namespace", namespace]
    return CliRunner().invoke(cli.app, [*arguments, *where]).stdout


def test_stats_and_why_tell_what_was_said_again(url: str) -> None:
    namespace = f"test-{uuid.uuid4().hex}"
    with Engine(url, namespace=namespace).sync() as engine:
        engine.wait(greet(engine.asynchronous, "hello", 0.0))
        engine.wait(greet(engine.asynchronous, "hello", 1.0))
        last = engine.wait(greet(engine.asynchronous, "good day", 1.0))
    told = ask(url, namespace, "stats")
    assert ["same", "in", "shadow", "1", "of", "2", "(50.0%)"] in [
        line.split() for line in told.splitlines()
    ]
    assert json.loads(ask(url, namespace, "stats", "--json"))["shadow"] == {
        "same": 1,
        "compared": 2,
    }
    why = ask(url, namespace, "why", last)
    assert "shadow differs" in why
    assert "good day" in why
