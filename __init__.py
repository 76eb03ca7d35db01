"""Record what an LLM agent did as a graph, and replay it while its preconditions hold.

The names below are loaded when they are first used, so that `import execgraph` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .engine.agent import Agent
    from .engine.cause import Cause, MissKind
    from .engine.engine import Engine
    from .engine.errors import (
        ArgumentsInvalid,
        ConfigurationError,
        NotOpen,
        NotReplayable,
        PreconditionChanged,
        RunFailed,
    )
    from .engine.program import Handle
    from .engine.result import Result
    from .engine.tool import IdempotencyKey, Tool
    from .graphstore.errors import ExecgraphError, StoreError, StoreUnavailable
    from .invalidation.resources import Acl, BusinessRule, DeploymentTarget, Resource, Schema

__all__ = [
    "Acl",
    "Agent",
    "ArgumentsInvalid",
    "BusinessRule",
    "Cause",
    "ConfigurationError",
    "DeploymentTarget",
    "Engine",
    "ExecgraphError",
    "Handle",
    "IdempotencyKey",
    "MissKind",
    "NotOpen",
    "NotReplayable",
    "PreconditionChanged",
    "Resource",
    "Result",
    "RunFailed",
    "Schema",
    "StoreError",
    "StoreUnavailable",
    "Tool",
]

_HOMES = {
    "Acl": ".invalidation.resources",
    "Agent": ".engine.agent",
    "ArgumentsInvalid": ".engine.errors",
    "BusinessRule": ".invalidation.resources",
    "Cause": ".engine.cause",
    "ConfigurationError": ".engine.errors",
    "DeploymentTarget": ".invalidation.resources",
    "Engine": ".engine.engine",
    "ExecgraphError": ".graphstore.errors",
    "Handle": ".engine.program",
    "IdempotencyKey": ".engine.tool",
    "MissKind": ".engine.cause",
    "NotOpen": ".engine.errors",
    "NotReplayable": ".engine.errors",
    "PreconditionChanged": ".engine.errors",
    "Resource": ".invalidation.resources",
    "Result": ".engine.result",
    "RunFailed": ".engine.errors",
    "Schema": ".invalidation.resources",
    "StoreError": ".graphstore.errors",
    "StoreUnavailable": ".graphstore.errors",
    "Tool": ".engine.tool",
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
