"""What bytes say, as a document."""

from .parse import FORMATS, Format, format_of, parse

__all__ = ["FORMATS", "Format", "format_of", "parse"]
