"""A user, or a database, that may only be read: told at once, and nothing replays wrongly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from execgraph.engine.asking.examine import examine
from execgraph.graphstore.document import Document
from execgraph.graphstore.errors import StoreAccessDenied
from execgraph.graphstore.finding import Level
from execgraph.graphstore.neo4j.address import Address
from execgraph.graphstore.neo4j.store import Neo4jStore
from execgraph.tests.conformance.samples import (
    guard,
    newest,
    published,
    sample_effect,
    sample_recording,
)

if TYPE_CHECKING:
    from neo4j import AsyncDriver

pytestmark = pytest.mark.neo4j

_URI = "acl:prod"


class _Reading:
    """A driver whose sessions the server lets read only."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    def session(self, **settings: Any) -> Any:
        return self._driver.session(**{**settings, "default_access_mode": "READ"})


@pytest.fixture
async def reader(
    neo4j_driver: AsyncDriver, neo4j_uri: str, space: str
) -> AsyncIterator[Neo4jStore]:
    database = Address.of(neo4j_uri).database
    store = Neo4jStore(
        f"neo4j://given/{database or ''}",
        namespace=space,
        driver=_Reading(neo4j_driver),  # type: ignore[arg-type]
    )
    yield store
    await store.close()


async def test_what_would_write_is_denied_with_what_to_do(
    neo4j_store: Neo4jStore, reader: Neo4jStore, space: str
) -> None:
    await neo4j_store.change(_URI, Document.of({"a": 1}))
    guards = [guard(space, _URI, {"a": 1})]
    await published(neo4j_store, sample_recording(guards=guards))
    await neo4j_store.lookup("deploy", newest)
    await reader.open()  # the schema is there, so nothing is to be written
    with pytest.raises(StoreAccessDenied, match="takes no writes; connect to a database"):
        await reader.change(_URI, Document.of({"a": 2}))
    with pytest.raises(StoreAccessDenied):
        await reader.write(sample_recording(number=2))
    with pytest.raises(StoreAccessDenied):
        await reader.ping()
    with pytest.raises(StoreAccessDenied):
        await reader.intend(sample_effect("deploy-3"), [])
    assert (await reader.lookup("deploy", newest)).chosen == "deploy-1"
    assert await neo4j_store.effects("deploy-3") == []


async def test_the_doctor_says_that_nothing_can_be_written(
    neo4j_store: Neo4jStore, reader: Neo4jStore
) -> None:
    await neo4j_store.change(_URI, Document.of({"a": 1}))
    await reader.open()
    found = {it.about: it async for it in examine(reader)}
    assert found["rights"].level is Level.ERROR
    assert "right to write" in found["rights"].remedy
    assert found["facts"].level is Level.GOOD
