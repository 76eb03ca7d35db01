"""What the graph holds, as JSON for people and programs: times in ISO form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ...graphstore.model import ChangeEvent

__all__ = ["change_as_json", "iso"]


def iso(milliseconds: int) -> str:
    """A moment (milliseconds since 1970) in ISO form: UTC, to the millisecond."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    moment = moment.replace(microsecond=milliseconds % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds")


def change_as_json(event: ChangeEvent) -> dict[str, Any]:
    """A change event, with the facets whose fingerprints changed."""
    return {
        "id": event.id,
        "at": iso(event.at),
        "resource": event.resource,
        "kind": event.kind.value,
        "from_version": event.from_version,
        "to_version": event.to_version,
        "changed": [
            {"selector": change.selector, "before": change.before, "after": change.after}
            for change in event.changed
        ],
        "source": event.source,
    }
