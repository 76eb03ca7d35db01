"""What the graph holds, as JSON and words for people and programs: times in ISO form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ...graphstore.model import ChangeEvent, Execution

__all__ = ["became", "change_as_json", "iso"]


def iso(milliseconds: int) -> str:
    """A moment (milliseconds since 1970) in ISO form: UTC, to the millisecond."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    moment = moment.replace(microsecond=milliseconds % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds")


def became(execution: Execution) -> str:
    """The mode and the state of a run; that a plain replay is not published is no news."""
    mode, state = execution.mode.value, execution.state.value
    return mode if execution.is_plain_replay else f"{mode}, {state}"


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
