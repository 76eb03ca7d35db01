"""What docs/changing-values.md shows of one recording and other inputs is true of the code."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic

import execgraph
from execgraph import Engine
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text

PAGE = (Path(execgraph.__file__).parent / "docs" / "changing-values.md").read_text("utf-8")
SECTION = PAGE.partition("\n## One recording, other inputs\n")[2]
BLOCKS = [
    textwrap.dedent(it)
    for it in re.findall(r"^(?: {4}.*\n(?:\n(?= {4}))?)+", SECTION, re.MULTILINE)
]
DECLARED, COMMAND, ASKED = BLOCKS


def brain(body: dict[str, Any]) -> Answer:
    told = json.loads(body["messages"][0]["content"][0]["text"])
    if len(body["messages"]) == 1:
        return Answer([call("deploy", told)])
    return Answer([text(f"{told['release']} is out.")])


async def run(code: str, names: dict[str, Any]) -> None:
    lines = textwrap.indent(code, "    ")
    exec(f"async def main():\n{lines}    return locals()\n", names)
    names.update(await names["main"]())


async def test_one_recording_serves_other_releases(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path / 'graph.db'}")
    deployed = []

    @engine.tool(effect="write", requires=[])
    def deploy(release: str, service: str) -> str:
        """Deploy a release."""
        deployed.append((release, service))
        return "deployed"

    asked = []
    with MessagesServer(brain) as server:
        async with AsyncAnthropic(base_url=server.url, api_key="test-key") as engine.client, engine:
            for line in DECLARED.splitlines()[1:]:
                await run(
                    f"{DECLARED.splitlines()[0]}\n{line}\n", {"engine": engine, "deploy": deploy}
                )
                asked.append(server.requests)
    assert asked == [2, 2, 4]
    assert deployed == [("2.14.0", "checkout"), ("2.15.1", "checkout"), ("2.15.1", "billing")]


async def test_what_could_be_marked_is_printed(tmp_path: Path, capsys: Any) -> None:
    engine = Engine(f"sqlite:///{tmp_path / 'graph.db'}")

    @engine.tool(effect="write", requires=[])
    def deploy(release: str, service: str) -> str:
        """Deploy a release."""
        return "deployed"

    with MessagesServer(brain) as server:
        async with AsyncAnthropic(base_url=server.url, api_key="test-key") as engine.client, engine:
            agent = engine.agent("deployer", model="claude-sonnet-5", tools=[deploy])
            for release in ("2.14.0", "2.15.1", "2.16.0"):
                await agent.execute({"release": release, "service": "checkout"})
            await run(ASKED, {"engine": engine})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == 'deployer opaque=["$.release"]' == ASKED.split("# ")[1].splitlines()[0]
    assert said[1].startswith("2 runs would have asked no model:")


def test_how_sure_it_is_follows_from_the_number_of_values() -> None:
    told = dict(re.findall(r"after (\d+) (?:values )?up to (\d+)\s%", " ".join(SECTION.split())))
    assert set(told) == {"3", "10", "60"}
    for values, part in told.items():
        mark = execgraph.ProposedMark(None, "$.a", "opaque", int(values), 0)
        assert f"{mark.doubt:.0%}" == f"{part}%"


def test_the_command_is_one() -> None:
    assert COMMAND.strip() == "execgraph generalise --agent deployer"
