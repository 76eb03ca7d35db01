"""``execgraph impact``: what a change would cost, before it is made."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...graphstore.document import GONE, Gone
from ...graphstore.errors import ConfigurationError
from .common import JsonOption, StoreOption, console, count, headed, opened, print_json, run, say

if TYPE_CHECKING:
    from rich.table import Table

    from ...engine.engine import Engine
    from ...graphstore.canonical import Json
    from ...invalidation.files.file_source import FileSource
    from ...invalidation.impact import Impact

__all__ = ["impact"]

_CONFIG = "execgraph.toml"
_NAMED = 3  # resources, in a message
_SHOWN = 20  # rows of a table; --json has all


@dataclass(frozen=True)
class _Question:
    """Which changes are asked about, and in which graph. ``looked_at``: the resources that are
    the same, too."""

    changes: Mapping[str, Json | Gone]
    looked_at: tuple[str, ...]
    store: str | None
    namespace: str
    notes: tuple[str, ...] = ()


def impact(
    uri: Annotated[
        str | None,
        typer.Argument(metavar="URI", help="The resource that would change: acl:prod/deploy."),
    ] = None,
    document: Annotated[
        str | None,
        typer.Argument(
            metavar="DOCUMENT_FILE",
            help="What it would be: a JSON, YAML, TOML or text file; '-' reads JSON or YAML from"
            " standard input.",
        ),
    ] = None,
    *,
    withdrawn: Annotated[
        bool, typer.Option("--withdrawn", help="Instead of a document: the resource is gone.")
    ] = False,
    before: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="A tree of configuration files as it is."),
    ] = None,
    after: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="The same tree as it would be.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --from and --to: which files are which resources. By default"
            " execgraph.toml, here or in the tree of --to. Its relative globs are looked for below"
            " each tree.",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Exit code 1 if the next runs would cost more than so many; 2 if nothing that is"
            " asked about is recorded, since such a gate would let all through.",
        ),
    ] = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose graph it is. By default what the configuration says."
        ),
    ] = None,
) -> None:
    """Tell what a change would cost before it is made: steps, traces and tokens.

    Of one resource with a document, or of all that differ between two trees of files. Tokens are
    what the next run of each affected task would cost if the model says the same as it did.

    Example: execgraph impact --from ../main --to . --max-tokens 50000
    """
    trees = before is not None or after is not None
    _check_use(uri, document, before, after, withdrawn=withdrawn, trees=trees)

    async def ask() -> tuple[_Question, Impact]:
        if before is not None and after is not None:
            question = await _of_trees(before, after, config, store, namespace)
        else:
            content = GONE if withdrawn else _read(document or "-")
            named = uri or ""
            question = _Question({named: content}, (named,), store, namespace or "default")
        async with opened(question.store, question.namespace) as engine:
            found = await engine.impact_of(question.changes)
            if max_tokens is not None:
                await _check_recorded(engine, question)
            return question, found

    question, impact = run(ask)
    if json_output:
        notes = {"notes": list(question.notes)} if trees else {}
        print_json({**impact.as_json(), **notes, "max_tokens": max_tokens})
    else:
        _print(question, impact)
    if max_tokens is not None and impact.tokens > max_tokens:
        say(
            f"execgraph: the next runs would cost {count(impact.tokens, 'token')}, more than the"
            f" {max_tokens:,} of --max-tokens",
            err=True,
        )
        raise typer.Exit(1)


def _check_use(
    uri: str | None,
    document: str | None,
    before: Path | None,
    after: Path | None,
    *,
    withdrawn: bool,
    trees: bool,
) -> None:
    if trees:
        if uri is not None or withdrawn:
            raise typer.BadParameter("compare two trees, or name a resource, not both")
        if before is None or after is None:
            raise typer.BadParameter("two trees are compared: give --from DIR and --to DIR")
        for option, folder in (("--from", before), ("--to", after)):
            if not folder.is_dir():
                raise typer.BadParameter(f"{folder} is no directory", param_hint=option)
        return
    if uri is None:
        raise typer.BadParameter(
            "name a resource and a document file, or two trees with --from and --to"
        )
    if withdrawn == (document is not None):
        raise typer.BadParameter(
            f"say what {uri} would be: a document file, '-' or --withdrawn, one of them"
        )


async def _check_recorded(engine: Engine, question: _Question) -> None:
    """Raises ConfigurationError if nothing that the gate looks at is recorded."""
    from ...engine.asking.elsewhere import elsewhere
    from ...engine.asking.impact import any_known

    store = engine.session().store
    what = await elsewhere(store)
    if what is None and not await any_known(store, question.looked_at):
        named = ", ".join(question.looked_at[:_NAMED])
        more = ", ..." if len(question.looked_at) > _NAMED else ""
        what = (
            f"nobody observed {named}{more}, and no recorded step requires it, in the namespace"
            f" {question.namespace!r}"
        )
    if what is not None:
        raise ConfigurationError(
            f"{what}. With --max-tokens all would be let through: check the name of the resource,"
            " --namespace and --store"
        )


# What would change ------------------------------------------------------------------------


def _read(document: str) -> Json:
    """A document from a file, by its suffix, or from standard input."""
    from ...invalidation.formats import format_of, parse
    from ...invalidation.source import Unreadable

    try:
        if document == "-":
            return parse(sys.stdin.buffer.read(), "yaml")  # of which JSON is a part
        path = Path(document)
        return parse(path.read_bytes(), format_of(path.suffix))
    except OSError as error:
        raise ConfigurationError(f"{document} cannot be read: {error.strerror}") from None
    except Unreadable as error:
        name = "standard input" if document == "-" else document
        raise ConfigurationError(
            f"{name} {error}; what is unreadable is withdrawn: ask with --withdrawn"
        ) from None


async def _of_trees(
    before: Path, after: Path, config: Path | None, store: str | None, namespace: str | None
) -> _Question:
    """All resources whose documents differ between the trees."""
    from .config import read_config

    path = config if config is not None else _config_near(after)
    old, new = (read_config(path, root=root.absolute()) for root in (before, after))
    notes: list[str] = []
    was, becomes = [await _documents(it.sources, notes) for it in (old, new)]
    if not was and not becomes:
        raise ConfigurationError(
            f"the globs of {path} match no file in {before} and none in {after}: they are relative"
            " to the roots of the two trees, --from and --to"
        )
    changes: dict[str, Any] = {
        uri: becomes.get(uri, GONE)
        for uri in sorted({*was, *becomes})
        if _differ(was.get(uri, GONE), becomes.get(uri, GONE))
    }
    return _Question(
        changes,
        tuple(sorted({*was, *becomes})),
        store or new.store,
        namespace or new.namespace,
        tuple(dict.fromkeys(notes)),
    )


def _config_near(after: Path) -> Path:
    here, there = Path(_CONFIG), after / _CONFIG
    return there if there.exists() and not here.exists() else here


async def _documents(sources: tuple[FileSource, ...], notes: list[str]) -> dict[str, Json | Gone]:
    """What each resource is in one tree; what is unreadable is GONE, as if it were not there."""
    from ...invalidation.source import Unreadable

    documents: dict[str, Json | Gone] = {}
    claimed: set[str] = set()
    for source in sources:
        try:
            resources = sorted(await source.resources())
        except OSError as error:
            raise ConfigurationError(f"the files cannot be listed: {error}") from None
        for uri in resources:
            try:
                content: Json | Gone = await source.read(uri)
            except (Unreadable, OSError) as error:
                notes.append(f"{uri} counts as withdrawn: {error}")
                content = GONE
            if uri in claimed:
                notes.append(f"{uri} counts as withdrawn: two sources claim it")
                content = GONE
            claimed.add(uri)
            documents[uri] = GONE if content is None else content
    return documents


def _differ(one: Json | Gone, other: Json | Gone) -> bool:
    from ...graphstore.document import Document

    if one is GONE or other is GONE:
        return one is not other
    return Document.of(one).whole != Document.of(other).whole


# Printing ---------------------------------------------------------------------------------


def _print(question: _Question, impact: Impact) -> None:
    out = console()
    for note in (*question.notes, *impact.hints):
        say(note, err=True)
    if impact.facets:
        out.print(_facets(impact), end="\n\n")
    if impact.tasks:
        out.print(_tasks(impact), end="\n\n")
    invalid, fallen = count(len(impact.invalid), "step"), count(len(impact.fallen), "trace")
    steps = f"{invalid} would be invalid, {len(impact.valid):,} valid again"
    traces = f"{fallen} would fall, {len(impact.standing):,} stand again"
    tasks, runs = count(len(impact.tasks), "task"), "run" if len(impact.tasks) == 1 else "runs"
    total = (
        f"the next {runs} of {tasks} would cost {count(impact.tokens, 'token')},"
        f" at most {impact.tokens_at_most:,} ({impact.tokens_now:,} without the change)"
    )
    many = len(question.changes)
    resources = f"{count(many, 'resource')} {'differs' if many == 1 else 'differ'}"
    out.print(f"{resources}; {steps}; {traces}", soft_wrap=True)
    out.print(total, style="bold yellow" if impact.tokens else "bold green", soft_wrap=True)


def _facets(impact: Impact) -> Table:
    from rich.text import Text

    table = headed("facet", "now", "then")
    for facet in impact.facets[:_SHOWN]:
        table.add_row(Text(str(facet.ref)), _short(facet.before), _short(facet.after))
    _and_more(table, len(impact.facets))
    return table


def _tasks(impact: Impact) -> Table:
    from rich.text import Text

    table = headed("agent", "trace", numbers=("asked", "tokens", "at most"))
    dearest = sorted(impact.tasks, key=lambda task: -task.tokens)
    for task in dearest[:_SHOWN]:
        numbers = (len(task.asked), task.tokens, task.tokens_at_most)
        table.add_row(
            Text(task.agent), Text(task.execution), *(f"{number:,}" for number in numbers)
        )
    _and_more(table, len(impact.tasks))
    return table


def _and_more(table: Table, rows: int) -> None:
    if rows > _SHOWN:
        table.add_row(f"and {rows - _SHOWN:,} more")


def _short(fingerprint: str | None) -> str:
    return "nothing" if fingerprint is None else fingerprint[:12]
