"""What a store URL says, and that nothing shows its password."""

from __future__ import annotations

import subprocess
import sys

import pytest

from execgraph.graphstore.connect import connect
from execgraph.graphstore.errors import StoreError, UnknownStore
from execgraph.graphstore.neo4j.address import Address
from execgraph.graphstore.neo4j.store import Neo4jStore


def test_credentials_and_database_leave_the_address_of_the_server() -> None:
    address = Address.of("neo4j+s://ann:p%40ss%2Fword@db.example.com:7777/graphs?policy=eu")
    assert address.uri == "neo4j+s://db.example.com:7777?policy=eu"
    assert address.database == "graphs"
    assert address.credentials == ("ann", "p@ss/word")


def test_without_a_path_the_database_is_neo4j_and_without_a_user_nobody_logs_in() -> None:
    address = Address.of("bolt://localhost:7687/")
    assert (address.uri, address.database) == ("bolt://localhost:7687", "neo4j")
    assert address.credentials is None


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:hunter2@localhost:7687",
        "neo4j://ann:hunter2@",
        "neo4j://ann:hunt/er2@localhost:7687",
        "neo4j://ann:hunt#er2@localhost:7687",
        "neo4j://ann:hunter2@localhost:port",
        "neo4j://ann:hunter2@[localhost",
        "neo4j:",
    ],
)
def test_what_is_no_address_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(UnknownStore, match="neo4j://user:password@host:7687") as caught:
        Neo4jStore(url, namespace="space")
    assert "hunt" not in str(caught.value)
    assert "er2" not in str(caught.value)


def test_no_repr_shows_the_password() -> None:
    store = connect("neo4j://ann:hunter2@localhost:7687/graphs", namespace="space")
    assert repr(store) == "Neo4jStore('neo4j://***@localhost:7687/graphs')"
    assert store.url == "neo4j://***@localhost:7687/graphs"
    assert "hunter2" not in repr(Address.of("neo4j://ann:hunter2@localhost"))


async def test_a_store_that_is_not_open_says_so() -> None:
    store = Neo4jStore("neo4j://localhost", namespace="space")
    with pytest.raises(StoreError, match="is not open"):
        await store.task("key")
    await store.close()


def test_naming_a_store_does_not_load_the_driver() -> None:
    program = (
        "import sys; from execgraph.graphstore.connect import connect;"
        "connect('neo4j://ann:hunter2@localhost', namespace='x'); assert 'neo4j' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
