"""``execgraph resolve``: say whether an effect happened of which nobody knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import JsonOption, NamespaceOption, StoreOption, opened, print_json, run, say

if TYPE_CHECKING:
    from ...graphstore.model import SideEffect

__all__ = ["resolve"]


def resolve(
    effect_id: Annotated[
        str,
        typer.Argument(
            metavar="EFFECT_ID",
            help="The effect in doubt; the beginning of its id is enough.",
            show_default=False,
        ),
    ],
    *,
    done: Annotated[
        bool | None,
        typer.Option("--done/--not-done", help="Whether it happened.", show_default=False),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="With --done: what its tool would have given."),
    ] = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Say whether an effect happened that was begun and is not known to have ended.

    One that is to happen once does not happen again if it is done, and may if it is not.
    `execgraph doctor` lists the effects in doubt.

    Example: execgraph resolve 01a20a8d820d0d6c63fc3e1378475d4d --done --output '{"id": 4711}'
    """
    if done is None:
        raise typer.BadParameter("say whether it happened", param_hint="--done/--not-done")
    if output is not None and not done:
        raise typer.BadParameter("what did not happen gave nothing", param_hint="--output")
    given = _read(output)

    async def work() -> SideEffect:
        async with opened(store, namespace) as engine:
            return await engine.resolve(effect_id, done=done, output=given)

    effect = run(work)
    if json_output:
        print_json({"effect": effect.id, "tool": effect.tool, "state": effect.state.value})
    else:
        from ...engine.outcome.hiding import shown_target

        say(f"{effect.tool} {shown_target(effect.target)}: {effect.state}")


def _read(output: str | None) -> Any:
    if output is None:
        return None
    try:
        return json.loads(output)
    except ValueError:
        raise typer.BadParameter(f"{output!r} is no JSON", param_hint="--output") from None
