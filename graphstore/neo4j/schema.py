"""Creating the schema, once for all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SchemaTooNew
from .queries import schema_statements
from .trouble import Passing

if TYPE_CHECKING:
    from .client import Client

__all__ = ["VERSION", "ensure_schema"]

#: The schema that this execgraph reads and writes.
VERSION = 4


async def ensure_schema(client: Client, url: str) -> None:
    """Make constraints and indexes, unless they are there, and bring an older schema up to
    date. Raises SchemaTooNew.

    Every statement is harmless when repeated, and the version is written last; so processes
    that open an empty database at once need no lock, and one that dies leaves nothing half-done.
    """
    found = await _version(client, "version")
    if found is None or found < VERSION:
        for name in schema_statements():
            await client.run(name, {})
        await client.run("await_indexes", {})
        found = await _version(client, "set_version")
    if found is not None and found > VERSION:
        raise SchemaTooNew(
            f"{url} was written by a newer execgraph (schema {found}, this one knows {VERSION});"
            " upgrade execgraph here: pip install --upgrade execgraph"
        )


async def _version(client: Client, name: str) -> int | None:
    # A server that cannot be reached when the store is opened is reported at once.
    row = await client.row(name, {"version": VERSION}, Passing.ROLLED_BACK)
    return None if row is None else row[0]
