"""Files as a source: each file that a glob matches is a resource."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePath

from ...graphstore.canonical import Json
from ...graphstore.errors import ConfigurationError
from ...graphstore.threads import in_thread
from ...graphstore.urls import absolute
from ..formats import FORMATS, Format
from ..source import Stamp, Unreadable
from .claims import Claims
from .globs import Glob
from .hints import FileHints
from .reading import FileReader, settled
from .template import Template

__all__ = ["FileSource"]


class FileSource:
    """The files that globs match, each of which is the document of a resource.

    ``FileSource("acl/**/*.yaml", resource="acl:{path}")`` makes acl/prod/deploy.yaml the resource
    ``acl:prod/deploy``. A file that is deleted or unreadable withdraws its resource, and so do two
    files that claim one resource; the last readable content is not kept.

    Args:
        *globs: Which files, relative to ``root`` or absolute; ``**`` stands for any number of
            directories.
        resource: The URI of a file's resource. ``{path}`` is the file's path below the glob's
            fixed part, without suffix; ``{path.stem}`` is its name without suffix, ``{path.name}``
            with it, ``{path.parent.name}`` its directory's name.
        root: Where relative globs begin; None: the working folder as it is now.
        max_age: How long a fact is believed after a scan; None: three intervals.
        interval: The time between two scans, which read only what changed.
        debounce: How long a file must be left alone before it is read.
        format: "json", "yaml", "toml", "markdown" or "text", for all files; None: by suffix.
        polling: Look for changes once a second instead of asking the operating system, as network
            file systems need it.
        max_bytes: A file of more bytes is unreadable.

    Raises:
        ConfigurationError: A setting cannot work; the message says which, and why.
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
        patterns = tuple(Glob.check(pattern) for pattern in globs)
        relative = not all(PurePath(pattern).is_absolute() for pattern in patterns)
        begin = absolute("" if root is None else root) if relative else Path("/")
        self._template = Template(resource)
        below = f" in {os.path.normpath(begin)}" if relative else ""
        self._name = f"files {', '.join(patterns)}{below} as {self._template}"
        self._interval = _checked_duration("interval", interval)
        debounce = _checked_duration("debounce", debounce, positive=False)
        self._pause = debounce.total_seconds()
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
        self._polling = polling
        self._reader = FileReader(format, max_bytes)
        globs_here = tuple(Glob.of(pattern, begin) for pattern in patterns)
        self._claims = Claims(self._name, globs_here, self._template)

    def __repr__(self) -> str:
        return f"<FileSource {self.name}>"

    @property
    def name(self) -> str:
        """The source's name: the globs, where they begin, and the resources that the files are.

        Equal globs in two folders are two sources: what one has is not the other's to withdraw.
        """
        return self._name

    @property
    def max_age(self) -> timedelta:
        """How long a fact is believed after a scan."""
        return self._max_age

    @property
    def interval(self) -> timedelta:
        """The time between two scans."""
        return self._interval

    async def resources(self) -> Mapping[str, Stamp]:
        """List the resources of all files there are, without reading any.

        Returns:
            A stamp by URI. A directory that is gone has no files.

        Raises:
            OSError: A directory cannot be read that a glob begins at, or that had files before.
        """
        return await in_thread(self._claims.stamps)

    async def read(self, uri: str) -> Json:
        """Read the file of a resource; one that is being written is read again until it is whole.

        Args:
            uri: One of the URIs that scans and hints have told.

        Returns:
            The document as JSON; None if there is no such file any more.

        Raises:
            Unreadable: The file is none of its format, is too large, or shares its resource.
            OSError: The file cannot be read at the moment.
        """
        if not self._claims.scanned:
            await self.resources()
        return await settled(partial(self._read, uri), self._pause)

    def _read(self, uri: str) -> Json:
        files = self._claims.present(uri)
        if not files:
            return None
        if len({stamp and stamp[-2:] for stamp in files.values()}) > 1:
            raise Unreadable(
                f"claimed by {' and by '.join(sorted(files))}; let one file claim it, or make"
                f" their resources differ (now {str(self._template)!r})"
            )
        try:
            return self._reader.document(min(files))
        except FileNotFoundError:
            return None

    async def changes(self) -> AsyncGenerator[str | None, None]:
        """Tell which files may have changed, as the operating system does.

        Yields:
            URIs whose file may have changed; None: any may have.
        """
        hints = FileHints(
            self.name, self._claims, quiet=self._pause, interval=self._interval.total_seconds()
        )
        for each in (hints.polled,) if self._polling else (hints.observed, hints.polled):
            async with aclosing(each()) as given:
                async for hint in given:
                    yield hint


def _checked_duration(name: str, value: object, *, positive: bool = True) -> timedelta:
    if not isinstance(value, timedelta):
        raise ConfigurationError(f"{name}={value!r} is no timedelta: timedelta(seconds=30)")
    if value < timedelta(0) or (positive and not value):
        raise ConfigurationError(f"{name}={value} is not a time; it must be positive")
    return value
