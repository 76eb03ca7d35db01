"""Which files a glob names: one walk over directories, by stat alone.

``*``, ``?`` and ``[...]`` match within a name, ``**`` any number of directories. Names that begin
with a dot or end in ``~`` are matched only by a part of the pattern that does so too: editors
and Kubernetes keep copies under such names.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from pathlib import Path, PurePosixPath

from ...graphstore.errors import ConfigurationError
from .links import trail

__all__ = ["Glob", "MatchedFile", "Scan"]

_log = logging.getLogger("execgraph")

_WILD = re.compile(r"[*?\[]")
_ANY_DEPTH = "**"
#: As often a directory is entered that several links lead to: what links to each other would
#: else be walked along in every order.
_ENTRIES = 8
_ABSENT = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class Glob:
    """One pattern; ``prefix`` is the directory below which it looks."""

    pattern: str  # as it was given
    prefix: str  # absolute
    parts: tuple[str, ...]

    @classmethod
    def of(cls, pattern: str, root: Path) -> Glob:
        """The glob, relative to ``root`` unless absolute."""
        parts, wild = _parts(pattern)
        fixed = min(wild, len(parts) - 1)
        return cls(pattern, os.path.normpath(root.joinpath(*parts[:fixed])), parts[fixed:])

    @staticmethod
    def check(pattern: object) -> str:
        """Check ``pattern``, and give it. Raises ConfigurationError unless it can name files."""
        if not isinstance(pattern, str) or not pattern.strip():
            raise ConfigurationError(
                f"{pattern!r} is no glob; write a pattern such as 'config/acl/*.yaml'"
            )
        parts, wild = _parts(pattern)
        if pattern.endswith("/") or not parts or parts[-1] in ("..", _ANY_DEPTH):
            raise ConfigurationError(
                f"the glob {pattern!r} names directories; say which files below them are meant:"
                f" {pattern.rstrip('/')}/*.yaml"
            )
        if ".." in parts[wild:]:
            raise ConfigurationError(f"the glob {pattern!r} has '..' after a wildcard")
        for part in parts:
            if _ANY_DEPTH in part and part != _ANY_DEPTH:
                raise ConfigurationError(
                    f"the glob {pattern!r} has '**' beside other characters in {part!r}; it"
                    " stands for directories and must stand alone between slashes"
                )
        return pattern

    @property
    def absolute(self) -> str:
        """The whole pattern, from the root of the file system."""
        return "/".join((self.prefix.rstrip("/"), *self.parts))

    @property
    def deep(self) -> bool:
        """Whether the glob looks below its prefix's own entries."""
        return len(self.parts) > 1

    def matches(self, path: str) -> bool:
        """Whether ``path`` (absolute) would be matched if there is a file."""
        prefix = self.prefix.rstrip(os.sep) + os.sep
        if not path.startswith(prefix):
            return False
        parts = self.begin
        for name in path[len(prefix) :].split("/" if os.sep == "/" else os.sep):
            parts = self.after(name, parts)
        return len(self.parts) in parts

    # The state of a walk is the set of parts that the next name may be matched by.

    @cached_property
    def begin(self) -> frozenset[int]:
        """The state before the first name."""
        return self._closure({0})

    def after(self, name: str, parts: frozenset[int]) -> frozenset[int]:
        """The state once ``name`` was read too. It holds ``len(self.parts)`` if all is matched by
        now."""
        files = set()
        for part in parts - {len(self.parts)}:
            if self.parts[part] == _ANY_DEPTH:
                if _visible(name, "*"):
                    files.add(part)
            elif self._compiled[part].match(name) and _visible(name, self.parts[part]):
                files.add(part + 1)
        return self._closure(files)

    def _closure(self, parts: set[int]) -> frozenset[int]:
        """``**`` may stand for no directory at all, so what follows it is possible too."""
        reached = set(parts)
        for part in parts:
            at = part
            while at < len(self.parts) and self.parts[at] == _ANY_DEPTH:
                at += 1
                reached.add(at)
        return frozenset(reached)

    @cached_property
    def _compiled(self) -> tuple[re.Pattern[str], ...]:
        flags = re.IGNORECASE if os.name == "nt" else 0
        return tuple(re.compile(translate(part), flags) for part in self.parts)


def _parts(pattern: str) -> tuple[tuple[str, ...], int]:
    """The parts of a pattern, and where the first of them is that has a wildcard."""
    parts = PurePosixPath(pattern.replace(os.sep, "/")).parts
    wild = (at for at, part in enumerate(parts) if _WILD.search(part))
    return parts, next(wild, len(parts))


def _visible(name: str, part: str) -> bool:
    return (name[0] != "." or part[0] == ".") and (name[-1] != "~" or part[-1] == "~")


@dataclass(frozen=True, slots=True)
class MatchedFile:
    """A file that a glob matches. ``stat`` None: nothing is known but that there is one."""

    path: str  # absolute, as it was reached
    below: str  # from the glob's prefix on, with slashes
    stat: os.stat_result | None


@dataclass
class Scan:
    """One walk along globs.

    ``links``: directories reached through symbolic links, by the path they were reached at.
    ``trails``: where links lead that are matched themselves (``links.trail``), there or not.
    ``closed``: directories that could not be read.
    """

    links: dict[str, str] = field(default_factory=dict)
    closed: dict[str, OSError] = field(default_factory=dict)
    trails: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def files(self, glob: Glob) -> Iterator[MatchedFile]:
        """All regular files that ``glob`` matches, in order, symbolic links followed.

        Raises OSError if the glob's own directory cannot be read; nothing if there is none.
        """
        walk = _Walk(self, glob)
        try:
            chain = frozenset((_identity(glob.prefix),))
            yield from walk.directory(glob.prefix, "", glob.begin, chain)
        except _ABSENT:
            return


class _Walk:
    """A walk along one glob. A chain holds the directories that the walk is in."""

    def __init__(self, scan: Scan, glob: Glob) -> None:
        self._scan = scan
        self._glob = glob
        self._entered: Counter[tuple[int, int]] = Counter()

    def directory(
        self, path: str, below: str, parts: frozenset[int], chain: frozenset[tuple[int, int]]
    ) -> Iterator[MatchedFile]:
        end = len(self._glob.parts)
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            inner = f"{below}{entry.name}"
            matched = self._glob.after(entry.name, parts)
            if end in matched and (file := self._file(entry, inner)) is not None:
                yield file
            deeper = matched - {end}
            if deeper and (entered := self._enters(entry, chain)) is not None:
                yield from self._try(entry.path, f"{inner}/", deeper, chain | {entered})

    def _file(self, entry: os.DirEntry[str], below: str) -> MatchedFile | None:
        """The entry, if it is a regular file, or nobody can say what it is.

        Raises PermissionError where the directory lists names but lets nobody look at them.
        """
        if entry.is_symlink():
            self._scan.trails[entry.path] = trail(entry.path)
        try:
            status = entry.stat()
        except _ABSENT:
            return None  # gone meanwhile, or a link that leads nowhere
        except OSError:
            if not entry.is_symlink():
                raise
            return MatchedFile(entry.path, below, None)
        return MatchedFile(entry.path, below, status) if stat.S_ISREG(status.st_mode) else None

    def _enters(
        self, entry: os.DirEntry[str], chain: frozenset[tuple[int, int]]
    ) -> tuple[int, int] | None:
        """The identity of a directory that is to be entered; None of what is none, or a loop."""
        try:
            if not entry.is_dir():
                return None
            identity = _identity(entry.path)
            if not entry.is_symlink():
                return identity
            real = os.path.realpath(entry.path)
        except OSError:
            return None
        self._entered[identity] += 1
        if identity in chain or self._entered[identity] > _ENTRIES:
            _log.debug("the link %s leads back to where it is; it is not followed", entry.path)
            return None
        self._scan.links[entry.path] = real
        return identity

    def _try(
        self, path: str, below: str, parts: frozenset[int], chain: frozenset[tuple[int, int]]
    ) -> Iterator[MatchedFile]:
        try:
            yield from self.directory(path, below, parts, chain)
        except _ABSENT:
            return
        except OSError as error:
            self._scan.closed[path] = error


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - a Path for each of 10,000 files costs more than its stat
    return status.st_dev, status.st_ino
