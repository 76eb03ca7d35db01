"""Methods whose parameters are the fields of a dataclass: listed there once, with their types.

A type checker and ``help`` show them as if they stood in the method itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["takes"]

_P = ParamSpec("_P")
_Self = TypeVar("_Self")
_Options = TypeVar("_Options")
_Given = TypeVar("_Given")


def takes(
    options: Callable[_P, _Options],
) -> Callable[[Callable[[_Self, _Options], _Given]], Callable[Concatenate[_Self, _P], _Given]]:
    """Have a method take what ``options`` takes; it is given the options made of that.

    The method then raises TypeError for a parameter that is not listed, and names those that are.
    """
    listed = inspect.signature(options)

    def declare(
        method: Callable[[_Self, _Options], _Given],
    ) -> Callable[Concatenate[_Self, _P], _Given]:
        @wraps(method)
        def taking(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _Given:
            try:
                made = options(*args, **kwargs)
            except TypeError:
                _check(method.__qualname__, listed, args, kwargs)
                raise
            return method(self, made)

        taking.__signature__ = _of_method(method, listed)  # type: ignore[attr-defined]
        return taking

    return declare


def _of_method(method: Callable[..., Any], listed: inspect.Signature) -> inspect.Signature:
    own = inspect.signature(method)
    first = next(iter(own.parameters.values()))
    return own.replace(parameters=[first, *listed.parameters.values()])


def _check(
    name: str, listed: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raises TypeError for arguments that are not as listed, and says what could be meant."""
    try:
        listed.bind(*args, **kwargs)
    except TypeError as error:
        known = list(listed.parameters)
        problems = "; ".join([str(error), *_meant(kwargs, known)])
        raise TypeError(f"{name}(): {problems}. It takes {', '.join(known)}.") from None


def _meant(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """What could be meant by names that are not known."""
    wrong = {name: get_close_matches(name, known, n=1) for name in names if name not in known}
    return [f"{name!r} may be meant as {like[0]!r}" for name, like in wrong.items() if like]
