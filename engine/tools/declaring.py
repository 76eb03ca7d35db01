"""What a tool declares of itself, checked: its effect class, and what depends on that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

from ...graphstore.model import Effect
from ...invalidation.resources import Resource
from ..errors import ToolError

__all__ = [
    "checked_effect",
    "checked_fresh_for",
    "checked_lookup",
    "checked_on_change",
    "checked_once_per",
    "checked_requirements",
    "checked_requires",
]


class _OncePer(Resource):
    """What tells an effect apart that happens once: it is named as a resource is."""

    kind = "once"

    @property
    def _named(self) -> str:
        return f"once_per={self.name!r}"


def checked_requirements(requires: Iterable[Any], owner: str) -> tuple[Resource, ...]:
    """``requires`` as a tuple. Raises ToolError if one of them is no requirement."""
    if isinstance(requires, str | Resource):
        raise ToolError(f"{owner} has requires={requires!r}; give a list: [Acl('prod/deploy')]")
    checked = tuple(requires)
    for requirement in checked:
        if not isinstance(requirement, Resource):
            raise ToolError(
                f"{owner} requires {requirement!r}, which is no requirement; write for example"
                " Acl('prod/deploy')"
            )
    return checked


def checked_effect(name: str, effect: Effect | str | None) -> Effect:
    """The effect class that is meant. Raises ToolError."""
    try:
        return Effect(effect) if effect is not None else Effect.WRITE
    except ValueError:
        known = ", ".join(repr(str(item)) for item in Effect)
        raise ToolError(
            f"the tool {name} declares the effect {effect!r}; use one of {known}"
        ) from None


def checked_requires(
    name: str, effect: Effect, requires: Sequence[Resource] | None, *, declared: bool
) -> tuple[Resource, ...]:
    """What a tool requires, which a write has to state. ``declared``: whether its effect is.

    Raises ToolError.
    """
    if requires is None and effect.writes:
        told = f"it has the effect {effect}" if declared else "an undeclared effect is a write"
        raise ToolError(
            f"the tool {name} writes ({told}) and does not say what it rests on: state"
            " requires=[...], an empty list if it rests on nothing, or another effect"
        )
    return checked_requirements(requires or (), f"the tool {name}")


def checked_on_change(name: str, effect: Effect, on_change: str) -> str:
    """What is done when that changes. Raises ToolError for what says nothing."""
    if on_change not in ("ask", "rerun"):
        raise ToolError(
            f"the tool {name} has on_change={on_change!r}; it is 'ask' (the model, when"
            " what the tool requires has changed) or 'rerun' (only the tool)"
        )
    if on_change == "rerun" and not effect.writes:
        raise ToolError(
            f"the tool {name} has on_change='rerun' and the effect {effect}, whose"
            " requirements guard its actions only anyway; leave it out"
        )
    return on_change


def checked_fresh_for(name: str, effect: Effect, fresh_for: Any) -> timedelta | None:
    """How long an output is as good as another one. Raises ToolError."""
    if fresh_for is None:
        return None
    if effect is not Effect.READ:
        raise ToolError(
            f"the tool {name} has fresh_for= and the effect {effect}; it says how long"
            ' an output of an effect="read" is used again, so leave it out or change the effect'
        )
    if not isinstance(fresh_for, timedelta) or fresh_for <= timedelta(0):
        raise ToolError(
            f"the tool {name} has fresh_for={fresh_for!r}; give a positive timedelta, for"
            " example timedelta(minutes=10)"
        )
    return fresh_for


def checked_once_per(name: str, effect: Effect, once_per: str | None) -> Resource | None:
    """What effects are told apart by. Raises ToolError for what tells none apart."""
    if once_per is None:
        return None
    if effect is not Effect.ONCE:
        raise ToolError(
            f"the tool {name} has once_per={once_per!r} and the effect {effect}; it"
            ' says what an effect="once" is told apart by, so leave it out or change the effect'
        )
    if "{" not in once_per:
        raise ToolError(
            f"the tool {name} has once_per={once_per!r}, which is the same for all of its"
            " calls, so it would be performed once for ever; name what tells two of its effects"
            ' apart, for example once_per="{invoice_id}"'
        )
    return _OncePer(once_per)


def checked_lookup(
    name: str, effect: Effect, lookup: Callable[..., Any] | None, parameters: Collection[str]
) -> Callable[..., Any] | None:
    """What tells whether an effect happened. Raises ToolError for what cannot be asked so."""
    if lookup is None:
        return None
    if not effect.writes:
        raise ToolError(
            f"the tool {name} has lookup= and the effect {effect}; it tells whether a write"
            " happened, so leave it out or change the effect"
        )
    if not callable(lookup):
        raise ToolError(f"the tool {name} has lookup={lookup!r}; give a function")
    wanted = inspect.signature(lookup).parameters
    unknown = [
        it.name
        for it in wanted.values()
        if it.name not in parameters
        and it.default is it.empty
        and it.kind not in (it.VAR_POSITIONAL, it.VAR_KEYWORD)
    ]
    if unknown:
        raise ToolError(
            f"the lookup of the tool {name} takes {', '.join(unknown)}, which the tool does not; it"
            f" may take {', '.join(sorted(parameters))}"
        )
    return lookup
