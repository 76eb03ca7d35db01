"""Which files claim which resources."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...graphstore.errors import ConfigurationError
from ..resources import check_uri
from ..source import Stamp
from .globs import Glob, MatchedFile, Scan
from .links import trail
from .places import Places
from .stamps import FileStamp, file_stamp, resource_stamp, stamps_now
from .template import Template

__all__ = ["Claims"]

_log = logging.getLogger("execgraph")


class Claims:
    """The files that some globs match, by resource, as of the last scan and the events since.

    ``shared``: files with several names; no event tells of a change by another name.
    """

    def __init__(self, name: str, globs: Sequence[Glob], template: Template) -> None:
        self._name = name
        self._globs = globs
        self._template = template
        self.scanned = False
        self.shared: Mapping[str, FileStamp] = {}
        self._files: dict[str, dict[str, FileStamp]] = {}  # by URI: by path, as last seen
        self._links: Mapping[str, str] = {}
        self._trails: dict[str, tuple[str, ...]] = {}
        self._warned: set[str] = set()

    def present(self, uri: str) -> dict[str, FileStamp]:
        """The files that claim a resource and are there now."""
        return stamps_now(self._files.get(uri, {}))

    @property
    def places(self) -> Places:
        """What is to be watched, so that no change of them goes unseen. Blocks."""
        return Places.of(self._globs, self._links, self._trails)

    def seen_from(self, places: Places) -> bool:
        """Whether these are still the places to be watched."""
        return (places.links, places.trails) == (self._links, self._trails)

    # Scans --------------------------------------------------------------------------------

    def stamps(self) -> dict[str, Stamp]:
        """Scan: all resources with their stamps. Raises OSError."""
        began = time.time_ns()
        return {uri: resource_stamp(files, began) for uri, files in self.scan().items()}

    def scan(self) -> Mapping[str, Mapping[str, FileStamp]]:
        """Look at all files by stat alone; by URI, those that claim it. Raises OSError."""
        scan = Scan()
        files: dict[str, dict[str, FileStamp]] = {}
        seen: set[str] = set()
        shared: dict[str, FileStamp] = {}
        for glob in self._globs:
            found = None
            for found in scan.files(glob):
                if found.path not in seen and (uri := self._uri(found)) is not None:
                    stamp = files.setdefault(uri, {})[found.path] = file_stamp(found.stat)
                    if found.stat is not None and found.stat.st_nlink > 1:
                        shared[found.path] = stamp
                seen.add(found.path)
            self._warn_if(found is None, glob.absolute, _why_nothing(glob))
        self._refuse_closed(scan.closed)
        self._files, self._links, self.scanned = files, scan.links, True
        self._trails, self.shared = scan.trails, shared
        return files

    def _refuse_closed(self, closed: Mapping[str, OSError]) -> None:
        """What was there and cannot be looked at is neither there nor gone."""
        known = {path for files in self._files.values() for path in files}
        for directory, error in closed.items():
            if any(path.startswith(directory + os.sep) for path in known):
                raise error
            self._warn_if(True, directory, f"{directory} cannot be read and is left out: {error}")

    def _uri(self, file: MatchedFile) -> str | None:
        uri = self._template.filled(file)
        try:
            return check_uri(uri)
        except ConfigurationError:
            self._warn_if(True, file.path, f"{file.path!r} is left out: its resource is {uri!r}")
            return None

    def _warn_if(self, wrong: bool, about: str, message: str) -> None:  # noqa: FBT001
        """Warn once of what stays wrong."""
        if not wrong:
            self._warned.discard(about)
        elif about not in self._warned:
            self._warned.add(about)
            _log.warning("%s: %s", self._name, message)

    # Events -------------------------------------------------------------------------------

    def touched(self, path: str) -> str | None:
        """The resource of a file that an event names; the file claims it from now on.

        None, if no glob matches the file.
        """
        for glob in self._globs:
            if glob.matches(path):
                below = path[len(glob.prefix.rstrip(os.sep)) + 1 :].replace(os.sep, "/")
                if (uri := self._uri(MatchedFile(path, below, None))) is not None:
                    self._files.setdefault(uri, {}).setdefault(path, None)
                    self._follow(path)
                return uri
        return None

    def _follow(self, path: str) -> None:
        """Note what links the file is reached through now; they are to be watched."""
        if passed := trail(path):
            self._trails = {**self._trails, path: passed}
        elif path in self._trails:
            self._trails = {link: it for link, it in self._trails.items() if link != path}

    def leads(self, path: str) -> bool:
        """Whether this is a link that more than one file may be reached through."""
        return path in self._links or os.path.islink(path)  # noqa: PTH114

    def changed_elsewhere(self) -> list[str]:
        """The resources of shared files that were changed by another name of theirs."""
        before, now = self.shared, stamps_now(self.shared)
        self.shared = {path: now.get(path) for path in before}
        uris = (self.touched(path) for path in before if now.get(path) != before[path])
        return [uri for uri in uris if uri is not None]


def _why_nothing(glob: Glob) -> str:
    whole = Path(glob.absolute)
    if whole.is_dir():
        return f"{whole} is a directory; say which files in it are meant: {whole}/*.yaml"
    return f"no file matches {whole}"
