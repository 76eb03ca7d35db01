"""What a collection lists and deletes on Neo4j: each is one statement of retention.cypher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..collecting import Deletions
from ..retention import Collected
from .mapping import GATES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client import Client

__all__ = ["Contents"]

_LOOKED_AT = 10_000  # steps, executions or tasks whose payloads are looked at in one statement
_RESOURCES = 500  # of which it is all versions
_STEPS_A_SUSPECT = 1_000  # that are looked at: with fewer suspects, a look is put off
#: The phases of a look at payloads, in order: what names them.
_LOOKS = ("steps", "executions", "tasks", "versions")
_DELETE = "delete"
#: Listings of what another collection may delete meanwhile, and the fields that are never null.
_MAY_GO = {
    "unanswered": (0,),
    "suspects": (0,),
    **dict.fromkeys(("pasts", "versions", "expiries", "idle_preconditions"), (0, 1)),
    **dict.fromkeys(("runs", "killed"), (0, 1, 2)),
}
_PHASES = (*_LOOKS, _DELETE)


class Contents:
    """As ``collecting.Contents``, of the client's namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def now(self) -> int:
        [[now]] = await self.rows("now")
        return int(now)

    async def rows(self, listing: str, /, **parameters: Any) -> list[list[Any]]:
        if listing in _MAY_GO:
            return await self._client.there(listing, parameters, *_MAY_GO[listing])
        return await self._client.run(listing, parameters)

    # Deleting -----------------------------------------------------------------------------

    async def unpublish(self, why: Mapping[str, str]) -> int:
        [[done]] = await self.rows("expel", traces=[list(it) for it in sorted(why.items())])
        return int(done)

    async def delete(self, deletions: Deletions) -> Collected:
        collected = Collected()
        if executions := sorted(deletions.executions):
            rows = await self.rows("delete_executions", executions=executions)
            deleted, replays, effects, tasks = rows[0]
            collected += Collected(
                executions=deleted - replays, replays=replays, effects=effects, tasks=tasks
            )
        if approvals := sorted(deletions.approvals):
            rows = await self.rows("delete_approvals", approvals=approvals)
            collected += Collected(approvals=rows[0][0])
        if deletions.versions or deletions.events:
            rows = await self.rows(
                "delete_versions",
                resources=sorted({uri for uri, _ in (*deletions.versions, *deletions.events)}),
                versions=[list(it) for it in deletions.versions],
                events=[id_ for _, id_ in deletions.events],
            )
            collected += Collected(versions=rows[0][0], events=rows[0][1])
        return collected

    async def foreseen(self, deletions: Deletions) -> Collected:
        of = {
            "executions": deletions.executions,
            "versions": [list(it) for it in deletions.versions],
        }
        rows = await self.rows("foreseen", events=[id_ for _, id_ in deletions.events], **of)
        others, replays, effects, events, preconditions, facets, tasks, touched = rows[0]
        [[values, size]] = await self.rows("foreseen_payloads", tasks=tasks, touched=touched, **of)
        return Collected(
            executions=others,
            replays=replays,
            effects=effects,
            versions=len(deletions.versions),
            events=events,
            preconditions=preconditions,
            facets=facets,
            tasks=len(tasks),
            approvals=len(deletions.approvals),
            values=values,
            bytes=size,
        )

    # What is left -------------------------------------------------------------------------

    async def delete_rest(self, most: int, /) -> Collected | None:
        return await self._delete_idle(most) or await self._delete_payloads(most)

    async def _delete_idle(self, most: int) -> Collected | None:
        rows = await self.rows("idle_preconditions", batch=most)
        if not rows:
            return None
        [[preconditions, facets]] = await self.rows(
            "delete_preconditions",
            resources=sorted({resource for _, resource in rows}),
            preconditions=sorted(id_ for id_, _ in rows),
        )
        return Collected(preconditions=preconditions, facets=facets)

    async def _delete_payloads(self, most: int) -> Collected | None:
        while True:
            [state] = await self.rows("look_state", steps_a_suspect=_STEPS_A_SUSPECT)
            phase, cursor, scanned, suspects = state
            if phase in _LOOKS:
                if not await self._look(phase, cursor, scanned):
                    return Collected()
            elif phase is not None:
                if (collected := await self._delete_suspects(scanned, most)).values:
                    return collected
            elif suspects:
                await self.rows("begin_look", gates=GATES, phase=_PHASES[0])
            else:
                return None

    async def _look(self, phase: str, cursor: str, scanned: int) -> bool:
        """Clear what the next page names, and whether that was the last."""
        page = _RESOURCES if phase == "versions" else _LOOKED_AT
        cursors = dict.fromkeys(_LOOKS) | {phase: cursor}
        [[last, size, met]] = await self.rows("look_at", scanned=scanned, page=page, **cursors)
        ended = bool(size < page)
        await self.rows(
            "cleared",
            phase=phase,
            cursor=cursor,
            scanned=scanned,
            met=sorted(met),
            next=_PHASES[_PHASES.index(phase) + 1] if ended else phase,
            last="" if ended else last,
            steps=size if phase == "steps" else 0,
        )
        return ended

    async def _delete_suspects(self, scanned: int, most: int) -> Collected:
        """Delete what nobody was found to name, and end the look when nothing is left."""
        suspects = await self.rows("suspects", scanned=scanned, batch=most)
        digests = sorted(digest for (digest,) in suspects)
        rows = await self.rows("delete_values", phase=_DELETE, scanned=scanned, digests=digests)
        deleted, size = rows[0] if rows else (0, 0)
        return Collected(values=deleted, bytes=size)
