"""Record what an LLM agent did as a graph, and replay it while its preconditions hold.

The names below are loaded when they are first used, so that `import execgraph` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .engine.agent import Agent
    from .engine.asking.generalise import Generalised
    from .engine.asking.recorded import RecordedRun, RecordedStep
    from .engine.asking.run_diff import RunDiff
    from .engine.asking.runs import Runs
    from .engine.asking.stats import Stats
    from .engine.asking.why import Why
    from .engine.engine import Engine
    from .engine.errors import (
        AgentError,
        ApprovalClosed,
        ApprovalUnknown,
        ArgumentsInvalid,
        AwaitingApproval,
        ConfigurationError,
        EffectInDoubt,
        EffectUnknown,
        ExecutionUnknown,
        NotApprovable,
        NotConfirmed,
        NotCurrent,
        NotOpen,
        NotPerformed,
        NotRejectable,
        NotReplayable,
        PreconditionChanged,
        ResourceUnknown,
        RunFailed,
        RunIdReused,
        RunInProgress,
        RunLost,
        TaskUnknown,
        ToolError,
    )
    from .engine.generalising.proposals import Proposal, ProposedMark
    from .engine.outcome.attempts import Attempt
    from .engine.outcome.cause import Cause, MissKind
    from .engine.outcome.confirmation import Approved, ConfirmationRequest, Denied, RequiredFact
    from .engine.outcome.events import (
        Event,
        ResourceChanged,
        RunEnded,
        RunStarted,
        RunWaits,
        StepEnded,
    )
    from .engine.outcome.result import Outcome, Result
    from .engine.outcome.run_plan import RunPlan
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
    from .graphstore.model import Approval, ApprovalState, ChangeEvent, ChangeKind, Mode
    from .graphstore.retention import Collected, Retention
    from .invalidation.files.file_source import FileSource
    from .invalidation.impact import Impact
    from .invalidation.resources import Acl, BusinessRule, DeploymentTarget, Resource, Schema
    from .invalidation.source import Source, Unreadable

__all__ = [
    "Acl",
    "Agent",
    "AgentError",
    "Approval",
    "ApprovalClosed",
    "ApprovalState",
    "ApprovalUnknown",
    "Approved",
    "ArgumentsInvalid",
    "Attempt",
    "AwaitingApproval",
    "BusinessRule",
    "Cause",
    "ChangeEvent",
    "ChangeKind",
    "Collected",
    "ConfigurationError",
    "ConfirmationRequest",
    "CypherFailed",
    "CypherRefused",
    "CypherTimeout",
    "Denied",
    "DeploymentTarget",
    "EffectInDoubt",
    "EffectUnknown",
    "Engine",
    "Event",
    "ExecgraphError",
    "ExecutionUnknown",
    "FileSource",
    "Generalised",
    "Handle",
    "IdempotencyKey",
    "Impact",
    "Json",
    "MissKind",
    "Mode",
    "NotApprovable",
    "NotConfirmed",
    "NotCurrent",
    "NotJson",
    "NotOpen",
    "NotPerformed",
    "NotRejectable",
    "NotReplayable",
    "Opaque",
    "Outcome",
    "PreconditionChanged",
    "ProgramRun",
    "Proposal",
    "ProposedMark",
    "RecordedRun",
    "RecordedStep",
    "RequiredFact",
    "Resource",
    "ResourceChanged",
    "ResourceUnknown",
    "Result",
    "Retention",
    "RunDiff",
    "RunEnded",
    "RunFailed",
    "RunIdReused",
    "RunInProgress",
    "RunLost",
    "RunPlan",
    "RunStarted",
    "RunWaits",
    "Runs",
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
    "Approval": ".graphstore.model",
    "ApprovalClosed": ".engine.errors",
    "ApprovalState": ".graphstore.model",
    "ApprovalUnknown": ".engine.errors",
    "Approved": ".engine.outcome.confirmation",
    "ArgumentsInvalid": ".engine.errors",
    "Attempt": ".engine.outcome.attempts",
    "AwaitingApproval": ".engine.errors",
    "BusinessRule": ".invalidation.resources",
    "Cause": ".engine.outcome.cause",
    "ChangeEvent": ".graphstore.model",
    "ChangeKind": ".graphstore.model",
    "Collected": ".graphstore.retention",
    "ConfigurationError": ".engine.errors",
    "ConfirmationRequest": ".engine.outcome.confirmation",
    "CypherFailed": ".graphstore.errors",
    "CypherRefused": ".graphstore.errors",
    "CypherTimeout": ".graphstore.errors",
    "Denied": ".engine.outcome.confirmation",
    "DeploymentTarget": ".invalidation.resources",
    "EffectInDoubt": ".engine.errors",
    "EffectUnknown": ".engine.errors",
    "Engine": ".engine.engine",
    "Event": ".engine.outcome.events",
    "ExecgraphError": ".graphstore.errors",
    "ExecutionUnknown": ".engine.errors",
    "FileSource": ".invalidation.files.file_source",
    "Generalised": ".engine.asking.generalise",
    "Handle": ".engine.program",
    "IdempotencyKey": ".engine.tools.tool",
    "Impact": ".invalidation.impact",
    "Json": ".graphstore.canonical",
    "MissKind": ".engine.outcome.cause",
    "Mode": ".graphstore.model",
    "NotApprovable": ".engine.errors",
    "NotConfirmed": ".engine.errors",
    "NotCurrent": ".engine.errors",
    "NotJson": ".graphstore.errors",
    "NotOpen": ".engine.errors",
    "NotPerformed": ".engine.errors",
    "NotRejectable": ".engine.errors",
    "NotReplayable": ".engine.errors",
    "Opaque": ".engine.tools.marks",
    "Outcome": ".engine.outcome.result",
    "PreconditionChanged": ".engine.errors",
    "ProgramRun": ".engine.program",
    "Proposal": ".engine.generalising.proposals",
    "ProposedMark": ".engine.generalising.proposals",
    "RecordedRun": ".engine.asking.recorded",
    "RecordedStep": ".engine.asking.recorded",
    "RequiredFact": ".engine.outcome.confirmation",
    "Resource": ".invalidation.resources",
    "ResourceChanged": ".engine.outcome.events",
    "ResourceUnknown": ".engine.errors",
    "Result": ".engine.outcome.result",
    "Retention": ".graphstore.retention",
    "RunDiff": ".engine.asking.run_diff",
    "RunEnded": ".engine.outcome.events",
    "RunFailed": ".engine.errors",
    "RunIdReused": ".engine.errors",
    "RunInProgress": ".engine.errors",
    "RunLost": ".engine.errors",
    "RunPlan": ".engine.outcome.run_plan",
    "RunStarted": ".engine.outcome.events",
    "RunWaits": ".engine.outcome.events",
    "Runs": ".engine.asking.runs",
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
