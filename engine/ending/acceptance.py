"""Whether a run may be published at all, by what its caller declared (``accept=``)."""

from __future__ import annotations

import logging

from ..outcome.cause import Cause, MissKind
from ..run.callers import answer_of
from ..run.run import Run
from ..spelling import sentence_of
from .ended import EndedRun
from .results import result_of

__all__ = ["why_not_accepted"]

_log = logging.getLogger("execgraph")


async def why_not_accepted(ended: EndedRun) -> Cause | None:
    """Ask whether a run may be published; None if it may. What raises has not accepted it."""
    run = ended.run
    if (accept := run.spec.trust.accept) is None:
        return None
    try:
        accepted = bool(await answer_of(accept, result_of(ended, recorded=True)))
    except Exception as error:  # noqa: BLE001  (the answer is not lost because of it)
        _log.warning(
            "accept= of %s failed; the run is kept, and not published", _named(run), exc_info=error
        )
        why = f"accept raised {sentence_of(error)}"
        return Cause(MissKind.NOT_ACCEPTED, f"{_named(run)} ({why})")
    return None if accepted else Cause(MissKind.NOT_ACCEPTED, _named(run))


def _named(run: Run) -> str:
    return run.definition.name
