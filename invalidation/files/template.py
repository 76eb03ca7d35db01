"""How the resource of a file is named: a URI with placeholders for parts of the file's path."""

from __future__ import annotations

import os
import re

from ...graphstore.errors import ConfigurationError
from ..resources import check_uri
from .globs import MatchedFile

__all__ = ["PLACEHOLDERS", "Template"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
PLACEHOLDERS = ("path", "path.name", "path.parent.name", "path.stem")


class Template:
    """One URI with placeholders, as ``acl:{path.stem}``. Raises ConfigurationError."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise ConfigurationError(f"resource={text!r} is no text such as 'acl:{{path.stem}}'")
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        for name in _PLACEHOLDER.findall(text):
            if name not in PLACEHOLDERS:
                raise ConfigurationError(
                    f"resource={text!r} has the placeholder {{{name}}}; known are {known}"
                )
        if set("{}") & set(_PLACEHOLDER.sub("", text)):
            raise ConfigurationError(f"resource={text!r} has a brace too many; known are {known}")
        check_uri(_PLACEHOLDER.sub("x", text))
        self._text = text

    def __str__(self) -> str:
        return self._text

    def filled(self, file: MatchedFile) -> str:
        """What the template says of a file; it need not be the URI of a resource."""
        directory, name = os.path.split(file.path)
        stem = os.path.splitext(name)[0]  # noqa: PTH122 - see globs: strings, for speed
        values = {
            "path": file.below[: len(file.below) - len(name) + len(stem)],
            "path.name": name,
            "path.parent.name": os.path.basename(directory),  # noqa: PTH119
            "path.stem": stem,
        }
        return _PLACEHOLDER.sub(lambda at: values[at[1]], self._text)
