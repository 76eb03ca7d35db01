"""``execgraph approvals``: what waits for the answer of a person."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .common import JsonOption, NamespaceOption, StoreOption, at, opened, print_json, run, say

if TYPE_CHECKING:
    from ...engine.outcome.confirmation import ConfirmationRequest

__all__ = ["approvals"]


def approvals(
    *,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """List what waits for an answer before a tool with effect="confirm" may be called.

    Of each it tells the tool, its arguments, the facts that it rests on, and why the call is
    believed to be right. Secrets are hidden.

    Example: execgraph approvals --json
    """

    async def work() -> tuple[list[ConfirmationRequest], str | None]:
        async with opened(store, namespace) as engine:
            found = await engine.approvals()
            return found, None if found else (await engine.runs(limit=1)).hint

    pending, hint = run(work)
    if json_output:
        print_json([_as_json(it) for it in pending])
    elif pending:
        say("\n\n".join(map(_shown, pending)))
    else:
        say("Nothing waits for an answer.")
    if hint is not None:
        say(hint, err=True)


def _as_json(request: ConfirmationRequest) -> dict[str, Any]:
    return asdict(request) | {"expires_at": request.expires_at.isoformat()}


def _shown(request: ConfirmationRequest) -> str:
    until = at(int(request.expires_at.timestamp() * 1000))
    lines = [
        f"{request.id}",
        f"  {request.tool} {_text(request.arguments)}",
        f"  for {request.agent}, task {_text(request.task)}; until {until}",
        f"  asked by the run {request.execution_id}",
        f"  {request.why}",
        *(f"  rests on {it} (version {it.version}): {_text(it.says)}" for it in request.facts),
        *(f"  an equal effect is in doubt: {it}" for it in request.in_doubt),
    ]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
