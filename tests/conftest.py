"""Fixtures that several test files share."""

import os

import pytest


@pytest.fixture(scope="session")
def neo4j_uri() -> str:
    """Where the Neo4j of this test run is; skips where there is none."""
    uri = os.environ.get("NEO4J_URI")
    if not uri:
        pytest.skip("NEO4J_URI is not set: scripts/test sets it and starts a Neo4j where it can")
    return uri
