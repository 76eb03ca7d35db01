"""Shadow runs: the model is asked as if nothing were recorded, and what it says is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ...graphstore.canonical import Json, decode, fingerprint
from ..lookup.judging import Recorded
from ..model.client import Dialect, Names
from ..outcome.cause import Cause, MissKind
from ..outcome.differences import differences
from ..run.run import Run

__all__ = ["Shadowed", "following"]


class Shadowed(NamedTuple):
    """A recorded decision that stands, and is only compared. ``reply`` None: it is damaged."""

    trace: str
    output_key: str
    reply: Json

    @classmethod
    async def of(cls, run: Run, recorded: Recorded) -> Shadowed:
        """Make one of a recorded decision that ``run`` has found."""
        output = await run.search.output(recorded)
        reply = None if output is None else decode(output)
        return cls(recorded.trace, recorded.step.output_key, reply)

    def beside(self, reply: Json, names: Names, dialect: Dialect) -> Cause:
        """Why the model was asked, now that it gave ``reply``: to see whether it says the same."""
        now = dialect.canonical_reply(reply, Names(names))
        output_key = fingerprint(now)
        if output_key == self.output_key:
            return self.as_expected
        cause = Cause(MissKind.SHADOW_DIFFERS, self.trace, self.output_key, output_key)
        if self.reply is None:
            return cause
        before = dialect.canonical_reply(self.reply, Names(names))
        return replace(cause, differences=differences(before, now))

    @property
    def as_expected(self) -> Cause:
        """Why the model is asked, as long as it has said nothing else."""
        return Cause(MissKind.SHADOW_SAME, self.trace)


def following(cause: Cause) -> Cause:
    """Why a model was asked what no recording answers: of what follows from another reply than the
    recorded one that it cannot be compared; else ``cause``."""
    if cause.kind is not MissKind.SHADOW_DIFFERS:
        return cause
    return Cause(MissKind.SHADOW_FOLLOWS, cause.node)
