"""What the pages for newcomers show is true of the code."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent

import execgraph
from execgraph import MissKind
from execgraph.adapters.messages_api import Answer
from execgraph.adapters.messages_api import text as said_text
from execgraph.graphstore.model import Effect

from .examples import said_by_a_shell, said_by_the_example_of, said_without_a_key

DOCS = Path(execgraph.__file__).parent / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def programs(text: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def as_page(program: str) -> str:
    """A page whose only example it is."""
    return f"```python\n{program}\n```"


def shown(text: str) -> list[str]:
    """What a page says that its example prints."""
    [output] = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return str(output).splitlines()


def without_numbers(lines: list[str]) -> list[str]:
    """Tokens depend on how pydantic words a schema, and digests with them."""
    return [re.sub(r"[1-9]\d* tokens|[0-9a-f]{40}", "...", line) for line in lines]


def test_the_quickstart_needs_no_key_and_prints_what_it_says(tmp_path: Path) -> None:
    text = page("quickstart.md")
    said = said_without_a_key(text, tmp_path).splitlines()
    assert without_numbers(said) == without_numbers(shown(text))
    again = said_without_a_key(text, tmp_path).splitlines()
    assert again[0] == "first: replay, 0 requests, 0 tokens"


def test_the_commands_of_the_quickstart_answer_as_it_says(tmp_path: Path) -> None:
    text = page("quickstart.md")
    said_without_a_key(text, tmp_path)
    [commands] = re.findall(r"^## Ask the graph\n\n((?:    .*\n)+)", text, re.MULTILINE)
    why, stats, impact = re.findall(r"^    execgraph (\w+)", commands, re.MULTILINE)
    assert (why, stats, impact) == ("why", "stats", "impact")
    said = said_by_a_shell(commands, tmp_path)
    assert "action order  run again" in said
    assert re.search(r"^calls asked +5$", said, re.MULTILINE)
    assert "the next run of 1 task would cost 0 tokens" in said.splitlines()[-1]


def test_what_is_kept_is_declared_and_deleted_as_the_page_shows(tmp_path: Path) -> None:
    declared, asked = programs(page("retention.md"))
    program = f"{declared}\n\nasync def main():\n{indent(asked, '    ')}\n\nasyncio.run(main())"
    said = said_without_a_key(as_page(f"import asyncio\n{program}"), tmp_path)
    assert said.startswith("Collected(unpublished=0, executions=0, ")
    commands = re.findall(r"^    (execgraph gc .*)$", page("retention.md"), re.MULTILINE)
    assert len(commands) > 1
    said_by_a_shell("\n".join(commands), tmp_path, EXECGRAPH_STORE="sqlite:///graph.db")


def test_the_example_without_asyncio_does_what_the_other_does(tmp_path: Path) -> None:
    text = page("programs.md")
    [program] = programs(text)
    section = text.partition("## Without asyncio\n")[2].partition("\n## ")[0]
    blocks = "".join(re.findall(r"^    .*\n", section, re.MULTILINE))
    declared = program.partition("async def triage(")[0]
    agent = 'agent = engine.agent("a", model="claude-sonnet-5")'
    printed = "print(run.result.output, result.output)"
    whole = "\n".join([declared, agent, dedent(blocks), printed])
    said = said_by_the_example_of(as_page(whole), tmp_path, lambda _: Answer([said_text("Done.")]))
    assert said.splitlines() == ["0", "The lamp is broken. Done."]


def test_the_tools_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    text = page("tools.md")
    assert said_without_a_key(text, tmp_path).splitlines() == shown(text)


def test_every_effect_class_is_told() -> None:
    rows = re.findall(r'^\| `"(\w+)"`', page("tools.md"), re.MULTILINE)
    assert rows == [str(effect) for effect in Effect]


def test_the_causes_come_as_the_page_tells(tmp_path: Path) -> None:
    said = said_without_a_key(page("not-replayed.md"), tmp_path)
    causes = re.findall(r"^  (\w[\w ]+): ", said, re.MULTILINE)
    assert causes == [
        MissKind.NEW_TASK,
        MissKind.PRECONDITION_NEVER_OBSERVED,
        MissKind.PRECONDITION_CHANGED,
        MissKind.REQUEST_CHANGED,
    ]
    assert re.findall(r"^\w+", said, re.MULTILINE) == ["live", "live", "live", "replay", "live"]


def test_every_cause_has_an_entry_that_says_what_to_do() -> None:
    text = page("not-replayed.md")
    entries = re.findall(
        r"^### ([^\n]+) \(`(\w+)`\)\n(.*?)(?=^###|\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert [(kind, name) for kind, name, _ in entries] == [(it, it.name) for it in MissKind]
    assert [name for _, name, body in entries if "*Do:*" not in body] == []
