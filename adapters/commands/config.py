"""``execgraph.toml``: which store, which namespace, and the files that are watched."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from ...graphstore.canonical import fingerprint
from ...graphstore.errors import ConfigurationError
from .common import duration

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from ...invalidation.files.file_source import FileSource

__all__ = ["Config", "read_config"]

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
# One line, as errors are; it can be pasted.
_EXAMPLE = "source = [{glob = 'config/acl/*.yaml', resource = 'acl:{path.stem}'}]"


@dataclass(frozen=True)
class Config:
    """What ``execgraph.toml`` says. ``digest`` is equal for all copies of the same file that
    name the same files: relative globs in two folders do not."""

    path: Path
    store: str | None  # None: EXECGRAPH_STORE, else .execgraph/graph.db
    namespace: str
    sources: tuple[FileSource, ...]
    digest: str


def read_config(path: Path, *, root: Path | None = None) -> Config:
    """What the file says. ``root``: where relative globs begin; None: beside the file.

    Raises ConfigurationError, naming the file and what is wrong there.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no {path}; name the file, or write one with: {_EXAMPLE}"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    return _config(path, content, root)


def _config(path: Path, content: Mapping[str, Any], root: Path | None) -> Config:
    from pydantic import ValidationError

    models = _models()
    try:
        config: Any = models["execgraph.toml"].model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_in_words(error, models)}") from None
    folder = path.absolute().parent
    sources = [
        _source(f"{path}: {_nth(at)}", one, root or folder) for at, one in enumerate(config.source)
    ]
    dumped = config.model_dump(mode="json", include={"namespace", "source"})
    return Config(
        path=path,
        store=_store(path, config.store, folder),
        namespace=config.namespace,
        sources=tuple(sources),
        digest=fingerprint([dumped, [source.name for source in sources]]),
    )


def _models() -> dict[str, type[BaseModel]]:
    """The tables of the file. pydantic is not loaded for ``--help``."""
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

    from ...invalidation.formats import Format

    time = Annotated[timedelta, BeforeValidator(duration)]

    class Source(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

        glob: str | list[str]
        resource: str
        format: Format | None = None
        interval: time = timedelta(seconds=30)
        max_age: time | None = None
        debounce: time = timedelta(milliseconds=200)
        polling: bool = False
        max_bytes: int = Field(default=16 * 1024 * 1024, gt=0)

    class File(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

        store: str | None = None
        namespace: str = Field(default="default", min_length=1)
        source: list[Source] = Field(min_length=1)

    return {"execgraph.toml": File, "[[source]]": Source}


def _source(where: str, table: Any, folder: Path) -> FileSource:
    from ...invalidation.files.file_source import FileSource

    globs = [table.glob] if isinstance(table.glob, str) else table.glob
    settings = table.model_dump(exclude={"glob"})
    try:
        return FileSource(*globs, root=folder, **settings)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _store(path: Path, configured: str | None, folder: Path) -> str | None:
    if configured is None:
        return None

    def value(match: re.Match[str]) -> str:
        if filled := os.environ.get(match[1]):
            return filled
        raise ConfigurationError(
            f"{path}: store names the environment variable {match[1]}, which is not set"
        )

    url = _VARIABLE.sub(value, configured)
    relative = url.removeprefix("sqlite:///")
    if url == configured and relative != url and not relative.startswith("/"):
        return f"sqlite:///{quote(str(folder))}/{relative}"
    return url


# What is wrong, in words -------------------------------------------------------------------


def _in_words(error: ValidationError, models: Mapping[str, type[BaseModel]]) -> str:
    # Never what was given there: it may be a password.
    return "; ".join(
        dict.fromkeys(
            _complaint(one["loc"], one["type"], one["msg"], models)
            for one in error.errors(include_url=False, include_input=False)
        )
    )


def _complaint(
    place: Sequence[str | int], kind: str, message: str, models: Mapping[str, type[BaseModel]]
) -> str:
    in_source = place[:1] == ("source",) and len(place) > 1
    table = _nth(int(place[1])) if in_source else None
    where = "at the top of the file" if table is None else f"in {table}"
    key = str(place[2] if in_source and len(place) > 2 else place[0])
    known = models["[[source]]" if in_source else "execgraph.toml"].model_fields
    match kind:
        case "extra_forbidden":
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            meant = f"did you mean {near[0]!r}? " if near else ""
            return f"unknown key {key!r} {where}; {meant}known are {', '.join(known)}"
        case "missing" if key == "source":
            return f"no source is named; write for example: {_EXAMPLE}"
        case "missing":
            return f"{table} lacks the key {key!r}"
        case "list_type" if place == ("source",):
            return "sources are a list of tables: write [[source]], in double brackets"
    problem = message.removeprefix("Value error, ").removeprefix("Input ")
    return f"{key!r} {where} {problem}" if place != ("source",) else f"[[source]] {problem}"


def _nth(index: int) -> str:
    return f"[[source]] number {index + 1}"
