"""Record what an LLM agent did as a graph, and replay it while its preconditions hold.

The names below are loaded when they are first used, so that `import execgraph` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .engine.agent import Agent
    from .engine.asking.stats import Stats
    from .engine.asking.why import Why
    from .engine.engine import Engine
    from .engine.errors import (
        AgentError,
        ArgumentsInvalid,
        ConfigurationError,
        ExecutionUnknown,
        NotCurrent,
        NotOpen,
        NotReplayable,
        PreconditionChanged,
        ResourceUnknown,
        RunFailed,
        TaskUnknown,
        ToolError,
    )
    from .engine.outcome.attempts import Attempt
    from .engine.outcome.cause import Cause, MissKind
    from .engine.outcome.events import Event, ResourceChanged, RunEnded, RunStarted, StepEnded
    from .engine.outcome.result import Outcome, Result
    from .engine.program import Handle, ProgramRun
    from .engine.sync import SyncEngine
    from .engine.tools.marks import Opaque, Unseen
    from .engine.tools.tool import IdempotencyKey, Tool
    from .graphstore.canonical import Json
    from .graphstore.cypher import Table
    from .graphstore.errors import (
        CypherFailed,
        CypherRefused,
        CypherTimeout,
        ExecgraphError,
        NotJson,
        StoreError,
        StoreUnavailable,
    )
    from .graphstore.model import ChangeEvent, ChangeKind, Mode
    from .graphstore.retention import Collected, Retention
    from .invalidation.files.file_source import FileSource
    from .invalidation.impact import Impact
    from .invalidation.resources import Acl, BusinessRule, DeploymentTarget, Resource, Schema
    from .invalidation.source import Source, Unreadable

__all__ = [
    "Acl",
    "Agent",
    "AgentError",
    "ArgumentsInvalid",
    "Attempt",
    "BusinessRule",
    "Cause",
    "ChangeEvent",
    "ChangeKind",
    "Collected",
    "ConfigurationError",
    "CypherFailed",
    "CypherRefused",
    "CypherTimeout",
    "DeploymentTarget",
    "Engine",
    "Event",
    "ExecgraphError",
    "ExecutionUnknown",
    "FileSource",
    "Handle",
    "IdempotencyKey",
    "Impact",
    "Json",
    "MissKind",
    "Mode",
    "NotCurrent",
    "NotJson",
    "NotOpen",
    "NotReplayable",
    "Opaque",
    "Outcome",
    "PreconditionChanged",
    "ProgramRun",
    "Resource",
    "ResourceChanged",
    "ResourceUnknown",
    "Result",
    "Retention",
    "RunEnded",
    "RunFailed",
    "RunStarted",
    "Schema",
    "Source",
    "Stats",
    "StepEnded",
    "StoreError",
    "StoreUnavailable",
    "SyncEngine",
    "Table",
    "TaskUnknown",
    "Tool",
    "ToolError",
    "Unreadable",
    "Unseen",
    "Why",
]

_HOMES = {
    "Acl": ".invalidation.resources",
    "Agent": ".engine.agent",
    "AgentError": ".engine.errors",
    "ArgumentsInvalid": ".engine.errors",
    "Attempt": ".engine.outcome.attempts",
    "BusinessRule": ".invalidation.resources",
    "Cause": ".engine.outcome.cause",
    "ChangeEvent": ".graphstore.model",
    "ChangeKind": ".graphstore.model",
    "Collected": ".graphstore.retention",
    "ConfigurationError": ".engine.errors",
    "CypherFailed": ".graphstore.errors",
    "CypherRefused": ".graphstore.errors",
    "CypherTimeout": ".graphstore.errors",
    "DeploymentTarget": ".invalidation.resources",
    "Engine": ".engine.engine",
    "Event": ".engine.outcome.events",
    "ExecgraphError": ".graphstore.errors",
    "ExecutionUnknown": ".engine.errors",
    "FileSource": ".invalidation.files.file_source",
    "Handle": ".engine.program",
    "IdempotencyKey": ".engine.tools.tool",
    "Impact": ".invalidation.impact",
    "Json": ".graphstore.canonical",
    "MissKind": ".engine.outcome.cause",
    "Mode": ".graphstore.model",
    "NotCurrent": ".engine.errors",
    "NotJson": ".graphstore.errors",
    "NotOpen": ".engine.errors",
    "NotReplayable": ".engine.errors",
    "Opaque": ".engine.tools.marks",
    "Outcome": ".engine.outcome.result",
    "PreconditionChanged": ".engine.errors",
    "ProgramRun": ".engine.program",
    "Resource": ".invalidation.resources",
    "ResourceChanged": ".engine.outcome.events",
    "ResourceUnknown": ".engine.errors",
    "Result": ".engine.outcome.result",
    "Retention": ".graphstore.retention",
    "RunEnded": ".engine.outcome.events",
    "RunFailed": ".engine.errors",
    "RunStarted": ".engine.outcome.events",
    "Schema": ".invalidation.resources",
    "Source": ".invalidation.source",
    "Stats": ".engine.asking.stats",
    "StepEnded": ".engine.outcome.events",
    "StoreError": ".graphstore.errors",
    "StoreUnavailable": ".graphstore.errors",
    "SyncEngine": ".engine.sync",
    "Table": ".graphstore.cypher",
    "TaskUnknown": ".engine.errors",
    "Tool": ".engine.tools.tool",
    "ToolError": ".engine.errors",
    "Unreadable": ".invalidation.source",
    "Unseen": ".engine.tools.marks",
    "Why": ".engine.asking.why",
}


def __getattr__(name: str) -> object:
    """Import the module that defines `name`, once (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
