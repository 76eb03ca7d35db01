"""The store of a test, and the tier it belongs to."""

from __future__ import annotations

import atexit
import os
import shutil
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from execgraph.graphstore.store import GraphStore
from execgraph.tests.stores import BOTH, opened, store_url

TESTS = Path(__file__).parent

#: Machines are busy: how long an example takes is no failure.
settings.register_profile(
    "busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")

#: What each folder, file or test belongs to; the longest path counts. What is not named is fast.
#: `fast`: while one works. `slow`: whole programs, and waits for the machine. `sound`: searches for
#: a stale replay at random, by killing, by enumerating, with many processes.
TIERS = {
    "adapters/test_demo.py": "slow",
    "adapters/test_watch_command.py": "slow",
    "concurrency": "sound",
    "crashes": "sound",
    "engine/test_door_random.py": "sound",
    "engine/test_graph_random.py": "sound",
    "engine/test_impact_random.py": "sound",
    "engine/test_server_emptied.py": "slow",
    "engine/test_server_killed.py": "slow",
    "graphstore/test_retention_random.py": "sound",
    "histories": "sound",
    "invalidation/test_files_followed.py": "sound",
    "model": "sound",
    "services": "slow",
    "test_neo4j_script.py": "slow",
    "workload": "slow",
}


def tier(path: str) -> str:
    """Of a test's path below this folder, as ``engine/test_a.py::test_b[sqlite]``."""
    named = [each for each in TIERS if path == each or path.startswith((f"{each}/", f"{each}:"))]
    return TIERS[max(named, key=len)] if named else "fast"


#: Files whose tests share something costly: one process runs all of a file.
TOGETHER = {
    "adapters/test_demo.py",
    "adapters/test_newcomer_pages.py",  # one page's server has a fixed port
    "adapters/test_plain_installation.py",
    "crashes/test_killed.py",
    "engine/test_server_emptied.py",
    "engine/test_server_killed.py",
    "test_cookbook.py",
    "workload/test_workload.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(TESTS):
            inside = item.path.relative_to(TESTS).as_posix()
            item.add_marker(tier(f"{inside}::{item.name}"))
            if inside.startswith("conformance/"):
                item.add_marker("conformance")


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each test to any process, but those of a file in ``TOGETHER`` to one.

    The groups of pytest-xdist are part of a test's id, which pytest no longer lets it change.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.removeprefix("tests/") in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


#: Folders whose tests, and the processes that these start, reach nobody outside of this machine.
LOCAL = {"concurrency", "crashes", "engine", "histories", "services"}

_AUTHORITIES = "SSL_CERT_FILE"
_given = os.environ.get(_AUTHORITIES)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Local tests know one authority: each client reads all there are, which takes as long as a
    test."""
    local = item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in LOCAL
    known = _one_authority() if local else _given
    if known is None:
        os.environ.pop(_AUTHORITIES, None)
    else:
        os.environ[_AUTHORITIES] = known


@cache
def _one_authority() -> str | None:
    """A file with one certificate of those that this machine has; None if it has none."""
    known = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not known:
        return _given
    file = Path(tempfile.mkdtemp()) / "authority.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(known[0]), encoding="ascii")
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    return str(file)


@pytest.fixture(scope="session")
def neo4j_uri() -> str:
    """Where the Neo4j of this test run is; skips where there is none."""
    uri = os.environ.get("NEO4J_URI")
    if not uri:
        pytest.skip("NEO4J_URI is not set: scripts/test sets it and starts a Neo4j where it can")
    return uri


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a real store: a fresh SQLite file, and the Neo4j of this test run."""
    return store_url(request, tmp_path)


@pytest.fixture
def namespace() -> str:
    """A namespace that nobody used before."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def store(url: str, namespace: str) -> AsyncIterator[GraphStore]:
    """A real store, open."""
    async with opened(url, namespace) as store:
        yield store
