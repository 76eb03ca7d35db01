"""Hiding what is named as a secret, wherever people are shown what was recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["HIDDEN", "TOO_DEEP", "is_secret", "may_name_secrets", "shown_target", "without_secrets"]

HIDDEN = "hidden"
#: What stands in place of a document in which nobody can look for secrets.
TOO_DEEP = "<nested too deeply to be shown>"

_SECRET = re.compile(
    r"token|secret|passw|authori[sz]ation|api.?key|credential|cookie", re.IGNORECASE
)
_COUNT = re.compile(r"tokens$", re.IGNORECASE)  # `max_tokens` is a number, and no secret
#: What authorises in a text, as in a header or a URL, though no field is named so.
_AUTHORISES = re.compile(
    r"(\b(?:bearer|basic)\s+)(?=[a-z]*[\d._~+/=-])[\w.~+/=-]{6,}|(://[^\s/:@]{0,99}:)[^\s/@]{1,999}(?=@)",
    re.IGNORECASE,
)
_HINTS = ("earer", "asic", "EARER", "ASIC", "://")  # one is in each text that authorises


def is_secret(key: str, *values: Any) -> bool:
    """Whether a field of this name is not to be shown."""
    if not _SECRET.search(key):
        return False
    counts = _COUNT.search(key) and all(isinstance(it, int | float | None) for it in values)
    return not counts


def may_name_secrets(text: str) -> bool:
    """Whether a text has a word in it by which secrets are named."""
    return bool(_SECRET.search(text))


def without_secrets(value: Any) -> Any:
    """A document with ``hidden`` in place of what is named as a secret."""
    try:
        return _hidden(value)
    except RecursionError:
        return TOO_DEEP


def _hidden(value: Any) -> Any:
    match value:
        case Mapping():
            return {
                key: HIDDEN if is_secret(key, item) else _hidden(item)
                for key, item in value.items()
            }
        case list():
            return [_hidden(item) for item in value]
        case str() if value[:1] in ("{", "[") and may_name_secrets(value):
            return _hidden_in_text(value)
        case str():
            return _without_credentials(value)
    return value


def _hidden_in_text(text: str) -> str:
    """A text, which may be JSON: messages tell outputs so."""
    try:
        told = json.loads(text)
    except ValueError:
        return _without_credentials(text)
    hidden = _hidden(told)
    return text if hidden == told else json.dumps(hidden, ensure_ascii=False)


def _without_credentials(text: str) -> str:
    if not any(hint in text for hint in _HINTS):
        return text
    return _AUTHORISES.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", text)


def shown_target(target: str) -> str:
    """To what something was done, without secrets; one that was cut ends before the first."""
    told: str = without_secrets(target)
    if told != target or (found := _SECRET.search(told)) is None:
        return told
    return f"{told[: found.start()]}... ({HIDDEN})"
