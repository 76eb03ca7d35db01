"""Hints that files may have changed, from the operating system or by polling."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial

from ...graphstore.threads import in_thread
from .claims import Claims
from .observation import Observation, PathEvent, exhausted

__all__ = ["FileHints"]

_log = logging.getLogger("execgraph")

_LONGEST = 5  # quiet times after which a burst of events is taken as it is
_BURST = 1000  # events that mean "anything": the kernel may have lost some
_CHECK_SECONDS = 5.0  # how often it is checked that the right directories are watched
_POLL_SECONDS = 1.0


class FileHints:
    """Hints for the files of ``claims``. Times in seconds: ``quiet``, how long a file must be left
    alone; ``interval``, from one scan to the next."""

    def __init__(self, name: str, claims: Claims, *, quiet: float, interval: float) -> None:
        self._name = name
        self._claims = claims
        self._quiet = quiet
        self._interval = interval

    async def observed(self) -> AsyncGenerator[str | None, None]:
        """Hints from the operating system. They end, with a warning, if it watches no more files.

        Raises OSError.
        """
        while True:
            observation = Observation(await in_thread(lambda: self._claims.places))
            try:
                await in_thread(observation.start)
                yield None
                while not await in_thread(partial(self._stale, observation)):
                    for hint in await self._heard(observation):
                        yield hint
            except OSError as error:
                if (limit := exhausted(error)) is None:
                    raise
                _log.warning(
                    "%s: the system watches no more files for this user (%s); they are looked at"
                    " once a second instead. Raise the limit: %s",
                    self._name,
                    error.strerror,
                    limit,
                )
                return
            finally:
                await asyncio.shield(in_thread(observation.stop))

    def _stale(self, observation: Observation) -> bool:
        return observation.stale or not self._claims.seen_from(observation.places)

    async def _heard(self, observation: Observation) -> Sequence[str | None]:
        shared = bool(self._claims.shared)
        patience = min(_POLL_SECONDS if shared else _CHECK_SECONDS, self._interval)
        events = await observation.burst(
            quiet=self._quiet, longest=_LONGEST * self._quiet, patience=patience
        )
        if not events and not self._claims.shared:
            return []
        return await in_thread(partial(self._uris, events, observation))

    def _uris(self, events: Sequence[PathEvent], observation: Observation) -> Sequence[str | None]:
        if len(events) > _BURST or any(event.of_directory for event in events):
            return [None]
        real = {path for event in events for path in event.paths}
        paths = {known for path in real for known in observation.places.known(path)}
        uris: dict[str, None] = {}
        for path in sorted(paths):
            if (uri := self._claims.touched(path)) is not None:
                uris[uri] = None
            elif self._claims.leads(path):
                return [None]  # what a directory is, as a ConfigMap's ..data, may have changed
        return [*uris, *self._claims.changed_elsewhere()]

    async def polled(self) -> AsyncGenerator[str | None, None]:
        """Hints from looking at all files once a second, for ever."""
        before: Mapping[str, object] | None = None
        while True:
            try:
                now = await in_thread(self._claims.scan)
            except OSError as error:
                _log.debug("%s cannot be looked at: %s", self._name, error)
                hints: Sequence[str | None] = (None,) if before else ()
                before = None
            else:
                hints = (None,) if before is None else _differing(before, now)
                before = now
            for hint in hints:
                yield hint
            await asyncio.sleep(_POLL_SECONDS)


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> Sequence[str | None]:
    uris = [uri for uri in before.keys() | now.keys() if before.get(uri) != now.get(uri)]
    return [None] if len(uris) > _BURST else sorted(uris)
