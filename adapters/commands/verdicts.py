"""``execgraph approve``, ``deny`` and ``reject``: what people decide about effects and runs."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from .common import JsonOption, NamespaceOption, StoreOption, count, opened, print_json, run, say

if TYPE_CHECKING:
    from ...graphstore.model import Approval

__all__ = ["approve", "deny", "reject"]

_Run = Annotated[
    str,
    typer.Argument(
        metavar="EXECUTION_ID",
        help="The run; the beginning of its id is enough.",
        show_default=False,
    ),
]
_Asked = Annotated[
    str,
    typer.Argument(
        metavar="APPROVAL_ID",
        help="What was asked, as approvals lists it; the beginning of its id is enough.",
    ),
]
_By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who answers. [default: the user]")
]


def approve(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The approval of an effect, as approvals lists it; or a run. The beginning of its"
            " id is enough.",
            show_default=False,
        ),
    ],
    *,
    by: _By = None,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="A run also if its answer was rejected: lift that.")
    ] = False,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Approve an effect that waits for it (effect="confirm"), or a run (publish="manual").

    An id that begins with approval- is an effect's: one may begin, with those arguments under those
    facts. The run that waits for it goes on; one that has ended is to be done again.

    Any other id is a run's: it may serve later ones. Which runs wait: execgraph runs --state
    unapproved. Approving twice is harmless.

    Example: execgraph approve approval-0192f3a1c2d4 --by ann
    """

    async def work() -> Approval | None:
        async with opened(store, namespace) as engine:
            return await engine.approve(id_, by=by or _user(), overrule=overrule)

    if (approval := run(work)) is not None:
        _print(approval, json_output=json_output)
    elif json_output:
        print_json({"approved": id_})
    else:
        say("Approved: equal tasks are served from it while its facts hold.")


def deny(
    approval_id: _Asked,
    *,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why. The model is told.")
    ] = None,
    by: _By = None,
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Deny what was asked, for good. The run that asked, or asks next, is told.

    Example: execgraph deny approval-0192f3a1c2d4 --reason "not on a Friday"
    """

    async def work() -> Approval:
        async with opened(store, namespace) as engine:
            return await engine.deny(approval_id, by=by or _user(), reason=reason)

    _print(run(work), json_output=json_output)


def reject(
    execution_id: _Run,
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="What is wrong with its answer.", show_default=False)
    ],
    json_output: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Have a run, and any other with its answer, never serve anybody again.

    The reason is kept with it. The next equal task asks the model; if that gives the same answer,
    it is not published either.

    Example: execgraph reject 01a20a8d820d0d6c63fc3e1378475d4d --reason "wrong region"
    """

    async def work() -> tuple[str, ...]:
        async with opened(store, namespace) as engine:
            return await engine.reject(execution_id, reason=reason)

    rejected = run(work)
    if json_output:
        print_json({"rejected": list(rejected), "reason": reason})
        return
    say(f"Rejected: {rejected[0]} serves nobody any more.")
    if others := rejected[1:]:
        told = count(len(others), "other run")
        say(f"Rejected with it, for the same answer: {told} ({', '.join(others)}).")


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return None


def _print(approval: Approval, *, json_output: bool) -> None:
    if json_output:
        print_json(approval.model_dump(mode="json", exclude={"code_key", "arguments_key"}))
    else:
        by = f" by {approval.by}" if approval.by else ""
        say(f"{approval.tool} {approval.arguments}: {approval.state}{by}")
