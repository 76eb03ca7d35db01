"""Canonical form and digests: when two JSON values count as the same.

Keys and comparisons use the canonical form, payloads never do (``encode`` keeps them exact).
The form is RFC 8785 (JCS), extended to what Python can hold and RFC 8785 cannot write. An
extension is an object with one key that starts with ``$``; an ordinary key that starts with
``$`` is written with one more, so that no document can imitate an extension.

=====================  =======================================================
NaN, infinities        ``{"$float": "nan" | "inf" | "-inf"}``
numbers from 2**53     ``{"$int": "9007199254740993"}`` (exact decimal)
lone surrogates        ``{"$utf16": "..."}`` (hex of UTF-16), in keys ``$utf16:...``
other mapping keys     ``$bool:true``, ``$int:1``, ``$float:...``, ``$null:`` (a key ``"1"``
                       stays apart from a key ``1``)
=====================  =======================================================

As in RFC 8785, ``1`` and ``1.0`` are one number, and the order of object members says nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import rfc8785
from typing_extensions import TypeAliasType

from .errors import NotJson

__all__ = [
    "HashOf",
    "Json",
    "as_text",
    "canonical",
    "check_members",
    "decode",
    "digest",
    "encode",
    "fingerprint",
    "hash_of",
    "is_text",
]

#: What may be recorded: JSON, and the extensions listed above. Functions take it; those that read
#: what was recorded give it as Any, as ``json.loads`` does.
Json = TypeAliasType(
    "Json", "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
)

_DIGITS = 40  # hexadecimal digits kept of SHA-256: 160 bits, collisions out of reach
_EXACT = 2**53
_SCALARS = frozenset({str, int, float, bool, type(None)})
_ONLY_STR = frozenset({str})


def digest(data: bytes) -> str:
    """The address of exact bytes: the first 160 bits of their SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def canonical(value: Json) -> bytes:
    """The canonical form of ``value`` as UTF-8. Raises NotJson and says where."""
    try:
        return rfc8785.dumps(value if _is_plain(value) else _extended(value, "$"))
    except RecursionError:
        raise NotJson("the value refers to itself, or is nested too deeply for JSON") from None


def fingerprint(value: Json) -> str:
    """The digest of the canonical form: equal iff the two values count as the same."""
    return digest(canonical(value))


def hash_of(kind: str, *parts: str | int | None) -> str:
    """A key from its parts, separated by domain: ``hash_of("facet", uri, selector)``."""
    return digest(_write([kind, *parts]).encode())


class HashOf:
    """What ``hash_of`` gives, with parts that are added one after the other: each costs once."""

    def __init__(self, kind: str, *parts: str | int | None) -> None:
        self._hash = hashlib.sha256(_write([kind, *parts])[:-1].encode())

    def add(self, *parts: str | int | None) -> None:
        """Add parts to those so far."""
        self._hash.update("".join(f",{_write(part)}" for part in parts).encode())

    @property
    def key(self) -> str:
        """The key of the parts so far."""
        whole = self._hash.copy()
        whole.update(b"]")
        return whole.hexdigest()[:_DIGITS]


def encode(value: Json) -> bytes:
    """``value`` as exact JSON text: order and number types kept, only ASCII bytes.

    NaN and infinities are written as Python's ``json`` does (``decode`` reads them back), and
    so are mapping keys: ``1`` becomes ``"1"``. Raises NotJson for what is not JSON.
    """
    try:
        text = _write(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotJson(f"the value cannot be written as JSON: {error}") from None
    return text.encode("ascii")


def decode(data: bytes) -> Any:
    """The value that ``encode`` wrote, or any JSON text in UTF-8.

    Raises NotJson for text that is nested too deeply, and ValueError for what is no JSON text.
    """
    try:
        return _read(data.decode())
    except RecursionError:
        raise NotJson("the text is nested too deeply for JSON") from None


def check_members(value: Any) -> None:
    """Raises NotJson if ``encode`` would write two members of an object under one name."""
    if isinstance(value, Mapping):
        _check_names(value)
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        if type(item) not in _SCALARS:
            check_members(item)


def _check_names(value: Mapping[Any, Any]) -> None:
    if _ONLY_STR.issuperset(map(type, value)):
        return
    known: dict[str, object] = {}
    for key in value:
        [name] = _read(encode({key: None}).decode())
        if name in known:
            raise NotJson(
                f"the keys {known[name]!r} and {key!r} of one object are the same key in JSON;"
                " rename one of them"
            )
        known[name] = key


def is_text(value: object) -> bool:
    """Whether ``value`` is text that can be written as UTF-8: no half of a surrogate pair."""
    return isinstance(value, str) and not _has_surrogate(value)


def as_text(text: str) -> str:
    """``text`` with halves of surrogate pairs spelled out: a backslash, u, four digits."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _refuse(value: object, where: str = "") -> NoReturn:
    raise NotJson(
        f"{_name(value)}{where} is not JSON. Give dicts, lists, strings, numbers, booleans or None"
        " (pydantic models and dataclasses can be dumped first)."
    )


def _name(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _is_plain(value: Any) -> bool:
    """Whether RFC 8785 can write ``value`` as it is: the common case, tested without copying."""
    kind: type = type(value)
    if kind is str:
        return not _has_surrogate(value)
    if kind is dict:
        return all(
            type(key) is str
            and not key.startswith("$")
            and not _has_surrogate(key)
            and _is_plain(item)
            for key, item in value.items()
        )
    if kind is list:
        return all(map(_is_plain, value))
    if kind is int or kind is float:
        return bool(-_EXACT < value < _EXACT)
    return kind is bool or kind is type(None)


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


def _utf16(text: str) -> str:
    return text.encode("utf-16-be", "surrogatepass").hex()


def _paired(text: str) -> str:
    """``text`` with halves that stand side by side made one character, as ``decode`` does."""
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


def _extended(value: Any, where: str) -> Json:
    match value:
        case None | bool():
            return value
        case str():
            text = _paired(str(value))
            return {"$utf16": _utf16(text)} if _has_surrogate(text) else text
        case float() if not math.isfinite(value):
            return {"$float": str(float(value))}
        case int() | float():
            # From 2**53 on every float is a whole number, and the same one as that integer.
            exact = int(value) if isinstance(value, int) else float(value)
            return exact if -_EXACT < value < _EXACT else {"$int": str(int(value))}
        case Mapping():
            return {
                _key(key, where): _extended(item, f"{where}.{key}") for key, item in value.items()
            }
        case list() | tuple():
            return [_extended(item, f"{where}[{index}]") for index, item in enumerate(value)]
    _refuse(value, f" at {where}")


# Made once: json.dumps makes a new encoder for each call with settings of its own.
_write = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=_refuse).encode
_read = json.JSONDecoder().decode

_KEYS: dict[type, Callable[[Any], str]] = {
    bool: lambda key: f"$bool:{str(key).lower()}",
    int: lambda key: f"$int:{key}",
    float: lambda key: f"$float:{key!r}",
    type(None): lambda _: "$null:",
}


def _key(key: object, where: str) -> str:
    if isinstance(key, str):
        key = _paired(key)
        if _has_surrogate(key):
            return f"$utf16:{_utf16(key)}"
        return f"${key}" if key.startswith("$") else str(key)
    named = _KEYS.get(type(key))
    if named is None:
        raise NotJson(f"{_name(key)} as a key of the object at {where} is not JSON; use strings.")
    return named(key)
