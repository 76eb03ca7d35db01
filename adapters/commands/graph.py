"""``execgraph graph``: a part of the graph, for people and for programs that draw."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    AgentOption,
    ExecutionArgument,
    JsonOption,
    NamespaceOption,
    StoreOption,
    opened,
    run,
    say,
)

if TYPE_CHECKING:
    from networkx import MultiDiGraph

__all__ = ["Format", "graph", "lines"]


class Format(StrEnum):
    """How a graph is printed."""

    DOT = "dot"
    MERMAID = "mermaid"
    GRAPHML = "graphml"
    JSON = "json"
    TEXT = "text"


def graph(
    execution_id: ExecutionArgument = None,
    *,
    agent: AgentOption = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Instead of a run: a task, with all its traces."),
    ] = None,
    resource: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Instead of a run: a resource, with what rests on it."),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="dot for Graphviz, mermaid for Markdown, graphml for Gephi or yEd, json for"
            " networkx.node_link_graph. By default text.",
        ),
    ] = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Print a part of the graph: a run with what it rests on, a task, or a resource.

    Labels, types and properties are those that Cypher shows; payloads are named by digests.

    Example: execgraph graph --resource acl:prod/deploy --format dot | dot -Tsvg -o graph.svg
    """
    if json_output and form not in (None, Format.JSON):
        raise typer.BadParameter(
            f"--json prints JSON, and --format {form} does not; give one", param_hint="--json"
        )

    async def ask() -> MultiDiGraph:
        async with opened(store, namespace) as engine:
            return await engine.graph(execution_id, agent=agent, task=task, resource=resource)

    drawn = run(ask)
    if drawn.graph.get("truncated"):
        say("execgraph: only the newest changes of it are in this graph", err=True)
    for line in lines(drawn, Format.JSON if json_output else form or Format.TEXT):
        typer.echo(line)


def lines(graph: MultiDiGraph, form: Format) -> Iterator[str]:
    """A graph in this form, line by line."""
    yield from _WRITERS[form](graph)


# Captions ---------------------------------------------------------------------------------

#: What people are shown of a node beside its label, and of an edge beside its type.
_SHOWN = {
    "Task": ("agent",),
    "Execution": ("id", "agent", "mode", "state"),
    "Step": ("position", "kind", "name", "state"),
    "SideEffect": ("tool", "target", "state"),
    "Resource": ("uri", "state"),
    "Version": ("n",),
    "Facet": ("resource", "selector"),
    "Precondition": ("resource", "selector", "fingerprint"),
    "ChangeEvent": ("kind", "source", "from_version", "to_version"),
}
_LONGEST = 60  # characters of a property in a caption
_DIGEST = re.compile(r"[0-9a-f]{40,64}")


def _caption(node: Mapping[str, Any]) -> str:
    """A node on one line, for people."""
    shown = (node[name] for name in _SHOWN[node["label"]] if name in node)
    return " ".join([node["label"], *(_short(str(value)) for value in shown)])


def _short(text: str) -> str:
    if _DIGEST.fullmatch(text):
        return text[:12]
    return _visible(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def _visible(text: str) -> str:
    """The text with its line ends and other unprintable characters as escapes."""
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


# Formats ----------------------------------------------------------------------------------


def _text(graph: MultiDiGraph) -> Iterator[str]:
    """Each node below the first from which an edge leads to it, as networkx draws trees."""
    import networkx as nx

    shown = nx.DiGraph(graph.edges())
    shown.add_nodes_from((key, {"label": _caption(node)}) for key, node in graph.nodes(data=True))
    yield from nx.generate_network_text(shown)


def _dot(graph: MultiDiGraph) -> Iterator[str]:
    yield "digraph execgraph {"
    yield "  rankdir=LR; node [shape=box];"
    for key, node in graph.nodes(data=True):
        yield f"  {_quoted(key)} [label={_quoted(_caption(node))}];"
    for source, target, kind in graph.edges(keys=True):
        yield f"  {_quoted(source)} -> {_quoted(target)} [label={_quoted(kind)}];"
    yield "}"


def _quoted(text: str) -> str:
    """In double quotes for Graphviz; a backslash begins an escape there."""
    escaped = _visible(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _mermaid(graph: MultiDiGraph) -> Iterator[str]:
    numbers = {key: f"n{number}" for number, key in enumerate(graph)}
    yield "flowchart LR"
    for key, node in graph.nodes(data=True):
        yield f'  {numbers[key]}["{_entities(_caption(node))}"]'
    for source, target, kind in graph.edges(keys=True):
        yield f"  {numbers[source]} -->|{kind}| {numbers[target]}"


def _entities(text: str) -> str:
    """All but letters, digits and harmless signs by number: the rest may be Mermaid's syntax."""
    return re.sub(r"[^\w ./:,-]", lambda match: f"#{ord(match[0])};", text)


def _graphml(graph: MultiDiGraph) -> Iterator[str]:
    """Lists become JSON text, and each edge gets an id: GraphML wants both."""
    import networkx as nx

    plain = nx.MultiDiGraph()
    for key, node in graph.nodes(data=True):
        plain.add_node(_xml(key), **{name: _xml(value) for name, value in node.items()})
    for number, (source, target, kind, edge) in enumerate(graph.edges(keys=True, data=True)):
        properties = {name: _xml(value) for name, value in edge.items()}
        plain.add_edge(_xml(source), _xml(target), key=kind, id=f"e{number}", **properties)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield from nx.generate_graphml(plain, edge_id_from_attribute="id")


_NO_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(value: Any) -> Any:
    """A property as XML can hold it; characters that it cannot are escaped as Python does."""
    if isinstance(value, list):
        value = json.dumps(value)
    return _NO_XML.sub(lambda match: _visible(match[0]), value) if isinstance(value, str) else value


def _json(graph: MultiDiGraph) -> Iterator[str]:
    """As networkx.node_link_graph(document, edges="edges") reads it again."""
    import networkx as nx

    yield json.dumps(nx.node_link_data(graph, edges="edges"), indent=2, ensure_ascii=False)


_WRITERS: dict[Format, Callable[[MultiDiGraph], Iterator[str]]] = {
    Format.DOT: _dot,
    Format.MERMAID: _mermaid,
    Format.GRAPHML: _graphml,
    Format.JSON: _json,
    Format.TEXT: _text,
}
