"""Looking at the server as a whole: its version, its indexes, what this user may do, its clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import StoreAccessDenied
from ..finding import Finding, Level
from .queries import schema_statements

if TYPE_CHECKING:
    from .client import Client

__all__ = ["examine"]

_APART_MS = 60_000


async def examine(client: Client) -> list[Finding]:
    """What the server says of itself, and whether it lets this user write."""
    return [*await _server(client), await _indexes(client), await _rights(client)]


async def _server(client: Client) -> list[Finding]:
    row = await client.row("server", {})
    assert row is not None
    name, version, edition, now = row
    apart = abs(now - time.time_ns() // 1_000_000)
    clock = Finding(Level.GOOD, "clock", "the server's clock and this machine's agree")
    if apart > _APART_MS:
        clock = Finding(
            Level.WARNING,
            "clock",
            f"the server's clock and this machine's are {apart / 1000:,.0f} s apart",
            "have both set by a time service: a fact is believed by the server's clock, and a"
            " moment given as until= by this machine's",
        )
    return [Finding(Level.GOOD, "server", f"{name} {version} ({edition})"), clock]


async def _indexes(client: Client) -> Finding:
    states = {name: state for name, state in await client.run("indexes", {})}  # noqa: C416
    wanted = {
        name.replace("create_", "") for name in schema_statements() if name.startswith("create_")
    }
    offline = sorted(name for name, state in states.items() if state != "ONLINE")
    if offline or len(states) < len(wanted):
        missing = f"{len(states)} of {len(wanted)} are there"
        return Finding(
            Level.ERROR,
            "indexes",
            f"{missing}; not online: {', '.join(offline) or 'none'}",
            "without a constraint two processes can write one node twice: stop the programs, drop"
            " the node (:ExecgraphSchema), and start one of them, which makes what is missing",
        )
    return Finding(Level.GOOD, "indexes", f"all {len(states)} constraints and indexes are online")


async def _rights(client: Client) -> Finding:
    try:
        await client.row("may_write", {})
    except StoreAccessDenied as error:
        return Finding(
            Level.ERROR,
            "rights",
            str(error),
            "give this user the right to write, or have the database made writable",
        )
    return Finding(Level.GOOD, "rights", "this user may write")
