"""What a check says when a store breaks its word. Works under ``python -O`` too."""

from __future__ import annotations

from typing import Any

__all__ = ["equal", "true"]


def true(condition: object, promise: str) -> None:
    """Raises AssertionError unless ``condition`` holds; ``promise`` says what was promised."""
    if not condition:
        raise AssertionError(promise)


def equal(actual: Any, expected: Any, promise: str) -> None:
    """Raises AssertionError unless the two are equal."""
    if actual != expected:
        raise AssertionError(f"{promise}\n  expected: {expected!r}\n  actual:   {actual!r}")
