"""What an agent is declared with, and what a run is called with: each parameter once.

The methods of the face take them: ``Engine.agent``, ``Agent.execute`` and ``Engine.run``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel

from ..graphstore.canonical import Json, is_text
from ..invalidation.resources import Resource
from .errors import AgentError
from .outcome.confirmation import Confirm
from .run.lot import why_no_share
from .run.spec import Accept, OnPartial, RunSpec, Trust
from .sessions.confirming import checked_callback, checked_span
from .sessions.single_flight import patience_of
from .task import Task, check_requirement, checked_labels, checked_name
from .tools.declaring import checked_requirements
from .tools.tool import Tool

__all__ = ["AgentOptions", "ExecuteOptions", "ProgramOptions"]

_ON_PARTIAL = ("continue", "live", "stop")


@dataclass(frozen=True)
class AgentOptions:
    """An agent as it is declared. Raises AgentError, naming what is wrong."""

    name: str
    _: KW_ONLY
    model: str
    client: object = None
    system: str | None = None
    tools: Sequence[Tool] = ()
    requires: Sequence[Resource] = ()
    max_tokens: int = 4096
    params: Mapping[str, Json] | None = None
    max_turns: int = 20
    opaque: Sequence[str] = ()
    accept: Accept | None = None
    publish: Literal["auto", "manual"] = "auto"
    max_age: timedelta | None = None
    shadow: float | None = None
    confirm: Confirm | None = None

    def __post_init__(self) -> None:
        checked_name(self.name, "an agent")
        checked_callback(self.confirm)
        if self.max_turns < 1:
            raise AgentError(f"max_turns={self.max_turns} leaves the agent {self.name} no turn")
        _ = self.trust

    @property
    def trust(self) -> Trust:
        """What its runs need to become traces. Raises AgentError."""
        return _trust(f"the agent {self.name}", self)


@dataclass(frozen=True, kw_only=True)
class _RunOptions:
    """What any run may be told beside what it is to do."""

    context: Json | BaseModel = None
    labels: Mapping[str, str] | None = None
    replay: bool = True
    require: Literal["replay"] | None = None
    single_flight: bool | timedelta | None = None
    run_id: str | None = None
    idempotency: str | None = None
    resume: Literal["auto", "off"] = "auto"
    wait: float = 0.0
    confirm: Confirm | None = None
    wait_for_approval: timedelta | None = None

    def spec(self, task: Task, trust: Trust, *, confirm: Confirm | None = None) -> RunSpec:
        """What is asked for with ``task``; ``confirm`` of the agent is asked if the run names none.
        Raises AgentError, ConfigurationError."""
        if self.require not in (None, "replay"):
            raise AgentError(
                f"require={self.require!r} is unknown; the only requirement is 'replay'"
            )
        if not isinstance(self.replay, bool):
            raise AgentError(f"replay={self.replay!r} is neither True nor False")
        self._check_names()
        return RunSpec(
            task,
            checked_labels(self.labels),
            may_serve=self.replay,
            must_serve=self.require == "replay",
            patience=None if self.single_flight is None else patience_of(self.single_flight),
            trust=trust,
            run_id=self.run_id,
            idempotency=self.idempotency,
            resume=self.resume == "auto",
            wait=self.wait,
            confirm=checked_callback(self.confirm) or confirm,
            wait_for_approval=checked_span("wait_for_approval", self.wait_for_approval),
        )

    def _check_names(self) -> None:
        for name, given in (("run_id", self.run_id), ("idempotency", self.idempotency)):
            if given is not None and not (given and is_text(given)):
                wrong = "is empty" if given == "" else "is no text"
                raise AgentError(f"{name}={given!r} {wrong}; give each thing to be done its own")
        if self.run_id is not None and self.idempotency is not None:
            raise AgentError("give run_id= or idempotency=: a run id makes keys of its own")
        if self.resume not in ("auto", "off"):
            raise AgentError(f"resume={self.resume!r} is unknown; it is 'auto' or 'off'")
        if self.resume == "off" and self.run_id is not None:
            raise AgentError("resume='off' and run_id= contradict each other: leave one out")
        if not self.wait >= 0:  # which is no number either
            raise AgentError(f"wait={self.wait!r} is no number of seconds")


@dataclass(frozen=True)
class ExecuteOptions(_RunOptions):
    """A run of an agent."""

    task: str | Mapping[str, Json] | BaseModel
    _: KW_ONLY
    on_partial: OnPartial | None = None

    def spec(self, task: Task, trust: Trust, *, confirm: Confirm | None = None) -> RunSpec:
        """What is asked for with ``task``. Raises AgentError."""
        on_partial: object = self.on_partial
        if on_partial is not None and not callable(on_partial) and on_partial not in _ON_PARTIAL:
            raise AgentError(
                f"on_partial={on_partial!r} is unknown; give one of"
                f" {', '.join(map(repr, _ON_PARTIAL))}, or a function of the plan that does"
            )
        if on_partial is not None and self.require is not None:
            raise AgentError(
                "require='replay' lets no model be asked, so that on_partial= has nothing to"
                " decide; leave one of them out"
            )
        return replace(super().spec(task, trust, confirm=confirm), on_partial=self.on_partial)


@dataclass(frozen=True)
class ProgramOptions(_RunOptions):
    """A run of a program. Raises AgentError, ToolError."""

    name: str
    inputs: str | Mapping[str, Json] | BaseModel
    _: KW_ONLY
    requires: Sequence[Resource] = ()
    client: object = None
    opaque: Sequence[str] = ()
    accept: Accept | None = None
    publish: Literal["auto", "manual"] = "auto"
    max_age: timedelta | None = None
    shadow: float | None = None

    def __post_init__(self) -> None:
        checked_name(self.name, "a run")

    @property
    def trust(self) -> Trust:
        """What it takes for the run to be a trace. Raises AgentError."""
        return _trust(f"the run {self.name}", self)

    def checked_requires(self, task: Task) -> tuple[Resource, ...]:
        """What the program's decisions rest on. Raises ConfigurationError if ``task`` does not
        name it."""
        rests_on = checked_requirements(self.requires, f"the run {self.name}")
        for requirement in rests_on:
            requirement.check((), f"the run {self.name}")
            check_requirement(requirement, task)
        return rests_on


def _trust(owner: str, options: AgentOptions | ProgramOptions) -> Trust:
    accept, publish, share = options.accept, options.publish, options.shadow
    if accept is not None and not callable(accept):
        raise AgentError(
            f"{owner} has accept={accept!r}; give a function that takes the Result and says"
            " whether it may be published"
        )
    if publish not in ("auto", "manual"):
        raise AgentError(f"{owner} has publish={publish!r}; use 'auto' or 'manual'")
    max_age: object = options.max_age
    if max_age is not None and not (isinstance(max_age, timedelta) and max_age > timedelta(0)):
        raise AgentError(
            f"{owner} has max_age={max_age!r}; give a positive timedelta, for example"
            " timedelta(days=30)"
        )
    if share is not None and (why := why_no_share(share)) is not None:
        raise AgentError(f"{owner} has shadow={share!r}, which {why}")
    return Trust(accept, publish == "manual", share)
