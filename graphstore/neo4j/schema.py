"""Creating the schema, once for all processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import SchemaTooNew, StoreDamaged, StoreError
from .queries import made_names, query, schema_statements
from .trouble import Transient, is_of_duplicates

if TYPE_CHECKING:
    from .client import Client

__all__ = ["VERSION", "ensure_schema"]

#: The schema that this execgraph reads and writes.
VERSION = 4

_KEY = re.compile(r"FOR \(\w+:(\w+)\) REQUIRE (.+) IS UNIQUE")


async def ensure_schema(client: Client, url: str) -> str:
    """Make constraints and indexes, unless they are there, and bring an older schema up to
    date; the id of the store. Raises SchemaTooNew, and StoreDamaged for one with duplicates.

    Every statement is harmless when repeated, and the version is written last; so processes
    that open an empty database at once need no lock, and one that dies leaves nothing half-done.
    """
    version, store = await _version(client, "version")
    if version is None or version < VERSION or store is None or not await _is_made(client):
        for name in schema_statements():
            await _make(client, name, url)
        await client.run("await_indexes", {})
        version, store = await _version(client, "set_version")
    if version is not None and version > VERSION:
        raise SchemaTooNew(
            f"{url} was written by a newer execgraph (schema {version}, this one knows {VERSION});"
            " upgrade execgraph here: pip install --upgrade execgraph"
        )
    assert store is not None
    return store


async def _make(client: Client, name: str, url: str) -> None:
    try:
        await client.run(name, {})
    except StoreError as error:
        if not is_of_duplicates(error.__cause__):
            raise
        key = _KEY.search(query(name))
        label, properties = key.groups() if key else ("node", "one key")
        raise StoreDamaged(
            f"{url} has several nodes {label} that agree in {properties}: they were made while the"
            " constraints of the store were missing. What they say cannot be told apart. Empty the"
            " database (MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS) or name another"
            " one; facts are then observed, and runs recorded, anew."
        ) from error


async def _is_made(client: Client) -> bool:
    row = await client.row("made", {}, Transient.ROLLED_BACK)
    return row is not None and made_names() <= set(row[0])


async def _version(client: Client, name: str) -> tuple[int | None, str | None]:
    # A server that cannot be reached when the store is opened is reported at once.
    row = await client.row(name, {"version": VERSION}, Transient.ROLLED_BACK)
    return (None, None) if row is None else (row[0], row[1])
