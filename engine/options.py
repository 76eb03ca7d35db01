"""What an agent is declared with, and what a run is called with: each parameter once.

The methods of the face take them: ``Engine.agent``, ``Agent.execute`` and ``Engine.run``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from pydantic import BaseModel

from ..graphstore.canonical import Json
from ..invalidation.resources import Resource
from .errors import AgentError
from .replay.run_spec import RunSpec
from .task import Task, check_requirement, checked_labels, checked_name
from .tools.tool import Tool, checked_requirements

__all__ = ["AgentOptions", "ExecuteOptions", "ProgramOptions"]


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

    def __post_init__(self) -> None:
        checked_name(self.name, "an agent")
        if self.max_turns < 1:
            raise AgentError(f"max_turns={self.max_turns} leaves the agent {self.name} no turn")


@dataclass(frozen=True, kw_only=True)
class _RunOptions:
    """What any run may be told beside what it is to do."""

    context: Json | BaseModel = None
    labels: Mapping[str, str] | None = None
    replay: bool = True
    require: Literal["replay"] | None = None

    def spec(self, task: Task) -> RunSpec:
        """What is asked for with ``task``. Raises AgentError."""
        if self.require not in (None, "replay"):
            raise AgentError(
                f"require={self.require!r} is unknown; the only requirement is 'replay'"
            )
        return RunSpec(task, checked_labels(self.labels), self.replay, self.require == "replay")


@dataclass(frozen=True)
class ExecuteOptions(_RunOptions):
    """A run of an agent."""

    task: str | Mapping[str, Json] | BaseModel


@dataclass(frozen=True)
class ProgramOptions(_RunOptions):
    """A run of a program. Raises AgentError, ToolError."""

    name: str
    inputs: str | Mapping[str, Json] | BaseModel
    _: KW_ONLY
    requires: Sequence[Resource] = ()
    client: object = None
    opaque: Sequence[str] = ()

    def __post_init__(self) -> None:
        checked_name(self.name, "a run")

    def checked_requires(self, task: Task) -> tuple[Resource, ...]:
        """What the program's decisions rest on. Raises ConfigurationError if ``task`` does not
        name it."""
        rests_on = checked_requirements(self.requires, f"the run {self.name}")
        for requirement in rests_on:
            requirement.check((), f"the run {self.name}")
            check_requirement(requirement, task)
        return rests_on
