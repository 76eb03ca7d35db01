"""Which directories are to be watched, so that no change of a file that globs match goes unseen.

These are real directories: what a symbolic link leads to, under the path it was reached at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .globs import Glob

__all__ = ["Places"]

_Identity = tuple[int, int] | None


@dataclass
class Places:
    """What is to be watched: real directories, and the paths under which they are known.

    ``trails``: as in a ``Scan``.
    """

    links: Mapping[str, str]  # directories reached through symbolic links, with what they are
    trails: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deep: dict[str, bool] = field(default_factory=dict)  # by real path
    known_as: dict[str, set[str]] = field(default_factory=dict)  # by real path
    entries: dict[str, set[str]] = field(default_factory=dict)  # by real path of a parent: names
    identities: dict[str, _Identity] = field(default_factory=dict)
    passed: dict[str, set[str]] = field(default_factory=dict)  # by real path: links through it

    @classmethod
    def of(
        cls,
        globs: Iterable[Glob],
        links: Mapping[str, str],
        trails: Mapping[str, tuple[str, ...]],
    ) -> Places:
        """The directories that the globs look in, and the entries that lead to them."""
        places = cls(dict(links), dict(trails))
        for glob in globs:
            places._add(glob.prefix, deep=glob.deep)
            places._add_entry(glob.prefix)
        for path in links:
            places._add(path, deep=True)
        for path, passed in trails.items():
            for entry in passed:
                places._add_passed(entry, path)
        return places

    def _add_passed(self, entry: str, link: str) -> None:
        if _identity(os.path.dirname(entry)) is None:  # noqa: PTH120 - strings, see globs
            self._add_entry(entry)
        else:
            self.passed.setdefault(entry, set()).add(link)

    def _add(self, path: str, *, deep: bool) -> None:
        real = os.path.realpath(path)
        identity = self.identities[path] = _identity(path)
        if identity is not None:
            self.deep[real] = self.deep.get(real, False) or deep
            self.known_as.setdefault(real, set()).add(path)

    def _add_entry(self, path: str) -> None:
        """Watch for ``path`` to appear or to be replaced, in the nearest directory there is."""
        parent, name = os.path.split(path)
        while name and _identity(parent) is None:
            parent, name = os.path.split(parent)
        if name:
            real = os.path.realpath(parent)
            self.entries.setdefault(real, set()).add(os.path.join(real, name))  # noqa: PTH118

    def passed_in(self) -> dict[str, set[str]]:
        """What links pass, by its directory."""
        by_folder: dict[str, set[str]] = {}
        for entry in self.passed:
            by_folder.setdefault(os.path.dirname(entry), set()).add(entry)  # noqa: PTH120
        return by_folder

    def known(self, path: str) -> Iterator[str]:
        """The paths that a real path is known as."""
        yield from self.passed.get(path, ())
        for real, names in self.known_as.items():
            if path == real:
                yield from names
            elif path.startswith(real.rstrip(os.sep) + os.sep):
                rest = path[len(real.rstrip(os.sep)) :]
                yield from (name.rstrip(os.sep) + rest for name in names)

    def moved(self) -> bool:
        """Whether a directory is another one now, or is there or gone since."""
        return any(_identity(path) != was for path, was in self.identities.items())


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)  # noqa: PTH116 - beside os.scandir's plain strings
    except OSError:
        return None
    return status.st_dev, status.st_ino
