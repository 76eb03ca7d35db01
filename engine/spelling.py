"""What a user's own objects say of themselves: their classes may fail to say anything."""

from __future__ import annotations

from ..graphstore.canonical import as_text

__all__ = ["sentence_of", "spelled"]


def spelled(value: object) -> str:
    """``value`` as ``str`` gives it, as text that every store can keep."""
    try:
        return as_text(str(value))
    except Exception as error:  # noqa: BLE001  (nothing is to fail for want of a text)
        return f"a {type(value).__name__} whose text cannot be made ({type(error).__name__})"


def sentence_of(error: BaseException) -> str:
    """The class of an error, and what it says."""
    return f"{type(error).__name__}: {spelled(error)}"
