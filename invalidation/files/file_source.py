"""Files as a source: each file that a glob matches is a resource."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat as modes
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePath

from ...graphstore.canonical import Json
from ...graphstore.errors import ConfigurationError
from ...graphstore.threads import in_thread
from ...graphstore.urls import absolute
from ..formats import FORMATS, Format, format_of, parse
from ..resources import check_uri
from ..source import Stamp, Unreadable
from .globs import Found, Glob, Scan
from .links import trail
from .observation import Event, Observation, exhausted
from .places import Places

__all__ = ["FileSource"]

_log = logging.getLogger("execgraph")

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("path", "path.name", "path.parent.name", "path.stem")

# A file may be written twice without its times showing it: clocks tick coarsely, at worst every
# 2 seconds (FAT). So what changed that recently is read again, whatever its stamp.
_TICK_NS = 2_000_000_000
_FRESH_SECONDS = 2.0  # what does not parse may be half-written if it changed that recently
_READS = 5  # how often a file that is being written is read before it is given up
_LONGEST = 5  # a burst of events is told after so many quiet times at most
_BURST = 1000  # events from which on "anything" is told: the kernel may have lost some
_CHECK_SECONDS = 5.0  # how often it is checked that the right directories are watched
_POLL_SECONDS = 1.0

# Files of more bytes are parsed one at a time: what runs in Python holds up all other threads a
# little, and several such the event loop too.
_LARGE = 256 * 1024
_turn = threading.Lock()

_Raw = tuple[int, int, int, int, int] | None


class FileSource:
    """The files that globs match, each the document of a resource.

    ``globs`` are relative to ``root`` (default: the working folder as it is now) or absolute;
    ``**`` stands for any number of directories. ``resource`` names a file's resource:
    ``{path.stem}`` is its name without suffix, ``{path.name}`` with it, ``{path.parent.name}``
    its directory's name, ``{path}`` its path below the glob's fixed part, without suffix:
    ``FileSource("acl/**/*.yaml", resource="acl:{path}")`` makes acl/prod/deploy.yaml the
    resource ``acl:prod/deploy``. Two files that claim one resource are unreadable.

    ``format`` reads all of them as "json", "yaml", "toml", "markdown" or "text", whatever their
    suffix (``formats.parse`` says how). A file of more than ``max_bytes`` is unreadable, and so
    is one that still does not parse, or changes, a moment after it was written: its resource is
    withdrawn, the last readable content not kept.

    ``interval``: the time between two scans, which read only what changed. ``max_age``: how long
    a fact is believed after a scan (default: three intervals). ``debounce``: how long a file must
    be left alone before it is read. ``polling``: look for changes once a second instead of
    asking the operating system, for network file systems. Raises ConfigurationError.
    """

    def __init__(
        self,
        *globs: str,
        resource: str,
        root: str | os.PathLike[str] | None = None,
        max_age: timedelta | None = None,
        interval: timedelta = timedelta(seconds=30),
        debounce: timedelta = timedelta(milliseconds=200),
        format: Format | None = None,  # noqa: A002 - what it is called everywhere
        polling: bool = False,
        max_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        if not globs:
            raise ConfigurationError(
                "a FileSource needs a glob: FileSource('config/acl/*.yaml', resource=...)"
            )
        self._patterns = tuple(Glob.check(pattern) for pattern in globs)
        self._template = _checked_template(resource)
        root = absolute("" if root is None else root) if _any_relative(globs) else Path("/")
        self._root = os.path.normpath(root)
        self._globs = tuple(Glob.of(pattern, root) for pattern in self._patterns)
        self._interval = _checked_duration("interval", interval)
        self._debounce = _checked_duration("debounce", debounce, positive=False)
        self._max_age = 3 * interval if max_age is None else _checked_duration("max_age", max_age)
        if self._max_age <= interval:
            raise ConfigurationError(
                f"max_age={self._max_age} is not longer than interval={interval}: each fact would"
                " expire before the next scan renews it"
            )
        if format is not None and format not in FORMATS:
            raise ConfigurationError(
                f"format={format!r} is unknown; use one of {', '.join(FORMATS)}"
            )
        self._format = format
        self._polling = polling
        self._max_bytes = max_bytes
        self._claims: dict[str, dict[str, _Raw]] = {}  # by URI: who claims it, as last seen
        self._links: dict[str, str] = {}
        self._trails: dict[str, tuple[str, ...]] = {}
        self._shared: dict[
            str, _Raw
        ] = {}  # files with other names: no event tells of a change there
        self._scanned = False
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<FileSource {self.name}>"

    @property
    def name(self) -> str:
        """The globs, where they begin, and the resources that the files are made.

        Equal globs in two folders are two sources: what one has is not the other's to withdraw.
        """
        below = f" in {self._root}" if _any_relative(self._patterns) else ""
        return f"files {', '.join(self._patterns)}{below} as {self._template}"

    @property
    def max_age(self) -> timedelta:
        return self._max_age

    @property
    def interval(self) -> timedelta:
        return self._interval

    # Listing ------------------------------------------------------------------------------

    async def resources(self) -> Mapping[str, Stamp]:
        """The resources of all files there are, by stat alone.

        A directory that is gone has none. Raises OSError where a directory cannot be read: one
        that a glob begins at, or one that had resources when it last could.
        """
        return await in_thread(self._list)

    def _list(self) -> dict[str, Stamp]:
        began = time.time_ns()
        self._scan()
        return {uri: _stamp(files, began) for uri, files in self._claims.items()}

    def _scan(self) -> dict[str, dict[str, _Raw]]:
        scan = Scan()
        claims: dict[str, dict[str, _Raw]] = {}
        seen: set[str] = set()
        shared: dict[str, _Raw] = {}
        for glob in self._globs:
            found = None
            for found in scan.files(glob):
                if found.path not in seen and (uri := self._uri(found)) is not None:
                    claims.setdefault(uri, {})[found.path] = _raw(found.stat)
                    if found.stat is not None and found.stat.st_nlink > 1:
                        shared[found.path] = _raw(found.stat)
                seen.add(found.path)
            self._tell_if(found is None, glob.absolute, _why_nothing(glob))
        self._refuse_closed(scan.closed)
        self._claims, self._links, self._scanned = claims, scan.links, True
        self._trails, self._shared = scan.trails, shared
        return claims

    def _refuse_closed(self, closed: Mapping[str, OSError]) -> None:
        """What was there and cannot be looked at is neither there nor gone."""
        known = {path for files in self._claims.values() for path in files}
        for directory, error in closed.items():
            if any(path.startswith(directory + os.sep) for path in known):
                raise error
            self._tell_if(True, directory, f"{directory} cannot be read and is left out: {error}")

    def _uri(self, found: Found) -> str | None:
        directory, name = os.path.split(found.path)
        stem = os.path.splitext(name)[0]  # noqa: PTH122 - see globs: strings, for speed
        values = {
            "path": found.below[: len(found.below) - len(name) + len(stem)],
            "path.name": name,
            "path.parent.name": os.path.basename(directory),  # noqa: PTH119
            "path.stem": stem,
        }
        uri = _PLACEHOLDER.sub(lambda at: values[at[1]], self._template)
        try:
            uri.encode()
            return check_uri(uri)
        except (ConfigurationError, UnicodeEncodeError):
            self._tell_if(True, found.path, f"{found.path!r} is left out: its resource is {uri!r}")
            return None

    def _tell_if(self, wrong: bool, about: str, message: str) -> None:  # noqa: FBT001
        """Warn once of what stays wrong."""
        if not wrong:
            self._told.discard(about)
        elif about not in self._told:
            self._told.add(about)
            _log.warning("%s: %s", self.name, message)

    # Reading ------------------------------------------------------------------------------

    async def read(self, uri: str) -> Json:
        """The document of the file whose resource ``uri`` is, as far as scans and hints have told;
        None if there is none any more.

        What is being written is read again until it stays as it is, for some moments.
        """
        if not self._scanned:
            await self.resources()
        before, why = None, ""
        for _ in range(_READS):
            try:
                return await in_thread(partial(self._read, uri))
            except _Unsettled as error:
                if error.as_it_was is not None and error.as_it_was == before:
                    raise Unreadable(str(error)) from None
                before, why = error.as_it_was, str(error)
                await asyncio.sleep(self._debounce.total_seconds())
        raise Unreadable(why)

    def _read(self, uri: str) -> Json:
        files = _present(self._claims.get(uri, {}))
        if not files:
            return None
        if len({found and found[-2:] for found in files.values()}) > 1:
            raise Unreadable(
                f"claimed by {' and by '.join(sorted(files))}; let one file claim it, or make"
                f" their resources differ (now {self._template!r})"
            )
        path = min(files)
        try:
            return self._content(path)
        except FileNotFoundError:
            return None

    def _content(self, path: str) -> Json:
        data, found = self._bytes(path)
        suffix = os.path.splitext(path)[1]  # noqa: PTH122
        try:
            with _turn if len(data) > _LARGE else nullcontext():
                return parse(data, self._format or format_of(suffix))
        except Unreadable as error:
            message = f"{path} {error}"
            if time.time() - found.st_mtime < _FRESH_SECONDS:
                raise _Unsettled(message, _raw(found)) from None
            raise Unreadable(message) from None

    def _bytes(self, path: str) -> tuple[bytes, os.stat_result]:
        # Without O_NONBLOCK, opening what has become a pipe would wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            before = os.fstat(file.fileno())
            if not modes.S_ISREG(before.st_mode):
                raise Unreadable(f"{path} is no regular file")
            if before.st_size > self._max_bytes:
                raise Unreadable(
                    f"{path} has {before.st_size:,} bytes, and at most {self._max_bytes:,} are"
                    " read; give the parts that matter files of their own, or set max_bytes="
                )
            data = file.read(self._max_bytes + 1)
            after = os.fstat(file.fileno())
        now = os.stat(path)  # noqa: PTH116
        if not _raw(before) == _raw(after) == _raw(now) or len(data) > self._max_bytes:
            raise _Unsettled(f"{path} keeps changing while it is read", None)
        return data, after

    # Hints --------------------------------------------------------------------------------

    async def changes(self) -> AsyncGenerator[str | None, None]:
        """Hints, the first one (None) when it has begun to look."""
        while not self._polling:
            places = await in_thread(self._places)
            observation = Observation(places)
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
                    self.name,
                    error.strerror,
                    limit,
                )
                break
            finally:
                await asyncio.shield(in_thread(observation.stop))
        async for hint in self._polled():
            yield hint

    def _places(self) -> Places:
        return Places.of(self._globs, self._links, self._trails)

    def _stale(self, observation: Observation) -> bool:
        places = observation.places
        return observation.stale or (places.links, places.trails) != (self._links, self._trails)

    async def _heard(self, observation: Observation) -> list[str | None]:
        quiet = self._debounce.total_seconds()
        events = await observation.burst(
            quiet=quiet,
            longest=_LONGEST * quiet,
            patience=min(
                _POLL_SECONDS if self._shared else _CHECK_SECONDS, self._interval.total_seconds()
            ),
        )
        if not events and not self._shared:
            return []
        return await in_thread(partial(self._hints, events, observation.places))

    def _hints(self, events: list[Event], places: Places) -> list[str | None]:
        if len(events) > _BURST or any(event.of_directory for event in events):
            return [None]
        real = {path for event in events for path in event.paths}
        paths = {known for path in real for known in places.known(path)}
        uris: dict[str | None, None] = {}
        for path in sorted(paths):
            if (uri := self._claim(path)) is not None:
                uris[uri] = None
                self._follow(path)
            elif path in self._links or os.path.islink(path):  # noqa: PTH114
                return [None]  # what a directory is, as a ConfigMap's ..data, may have changed
        return [*uris, *self._changed_elsewhere()]

    def _changed_elsewhere(self) -> list[str]:
        """The resources of files that were changed by another name of theirs."""
        was, now = self._shared, _present(self._shared)
        self._shared = {path: now.get(path) for path in was}
        uris = (self._claim(path) for path in was if now.get(path) != was[path])
        return [uri for uri in uris if uri is not None]

    def _follow(self, path: str) -> None:
        """What a file is reached through may be another by now; then it is to be watched."""
        if passed := trail(path):
            self._trails = {**self._trails, path: passed}
        elif path in self._trails:
            self._trails = {link: it for link, it in self._trails.items() if link != path}

    def _claim(self, path: str) -> str | None:
        """The resource of a file at this path; it is known from now on."""
        for glob in self._globs:
            if glob.matches(path):
                below = path[len(glob.prefix.rstrip(os.sep)) + 1 :].replace(os.sep, "/")
                if (uri := self._uri(Found(path, below, None))) is not None:
                    self._claims.setdefault(uri, {}).setdefault(path, None)
                return uri
        return None

    async def _polled(self) -> AsyncGenerator[str | None, None]:
        before: Mapping[str, object] | None = None
        while True:
            try:
                now = await in_thread(self._scan)
            except OSError as error:
                _log.debug("%s cannot be looked at: %s", self.name, error)
                hints: Iterable[str | None] = (None,) if before else ()
                before = None
            else:
                hints = (None,) if before is None else _differing(before, now)
                before = now
            for hint in hints:
                yield hint
            await asyncio.sleep(_POLL_SECONDS)


class _Unsettled(Exception):
    """Maybe readable in a moment. ``as_it_was``: how the file was seen, if it held still."""

    def __init__(self, message: str, as_it_was: _Raw) -> None:
        super().__init__(message)
        self.as_it_was = as_it_was


def _raw(found: os.stat_result | None) -> _Raw:
    if found is None:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


def _stamp(files: Mapping[str, _Raw], now: int) -> Stamp:
    if any(raw is None or raw[1] > now - _TICK_NS for raw in files.values()):
        return None
    return tuple(sorted(files.items()))


def _present(files: Iterable[str]) -> dict[str, _Raw]:
    """Those of the paths at which there is a file now."""
    found = {}
    for path in files:
        try:
            there = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            continue
        if modes.S_ISREG(there.st_mode):
            found[path] = _raw(there)
    return found


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> list[str | None]:
    uris = [uri for uri in before.keys() | now.keys() if before.get(uri) != now.get(uri)]
    return [None] if len(uris) > _BURST else [*sorted(uris)]


def _any_relative(globs: Iterable[str]) -> bool:
    return not all(PurePath(pattern).is_absolute() for pattern in globs)


def _why_nothing(glob: Glob) -> str:
    whole = Path(glob.absolute)
    if whole.is_dir():
        return f"{whole} is a directory; say which files in it are meant: {whole}/*.yaml"
    return f"no file matches {whole}"


def _checked_template(template: str) -> str:
    if not isinstance(template, str):
        raise ConfigurationError(f"resource={template!r} is no text such as 'acl:{{path.stem}}'")
    known = ", ".join(f"{{{name}}}" for name in _KNOWN)
    for name in _PLACEHOLDER.findall(template):
        if name not in _KNOWN:
            raise ConfigurationError(
                f"resource={template!r} has the placeholder {{{name}}}; known are {known}"
            )
    if set("{}") & set(_PLACEHOLDER.sub("", template)):
        raise ConfigurationError(f"resource={template!r} has a brace too many; known are {known}")
    check_uri(_PLACEHOLDER.sub("x", template))
    return template


def _checked_duration(name: str, value: object, *, positive: bool = True) -> timedelta:
    if not isinstance(value, timedelta):
        raise ConfigurationError(f"{name}={value!r} is no timedelta: timedelta(seconds=30)")
    if value < timedelta(0) or (positive and not value):
        raise ConfigurationError(f"{name}={value} is not a time; it must be positive")
    return value
