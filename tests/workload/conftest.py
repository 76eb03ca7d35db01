"""The recorded trajectories, for tests that need them."""

from __future__ import annotations

import pytest

from execgraph.scripts.bench.recorded.tools import import_tau2
from execgraph.scripts.bench.recorded.trajectories import ALL_DOMAINS, Workload, folder, rows


@pytest.fixture(scope="session")
def workload() -> Workload:
    """The trajectories on this machine; skips where they or the real tools are missing."""
    where = folder()
    if any(next(rows(where, domain), None) is None for domain in ALL_DOMAINS):
        pytest.skip(f"no recorded trajectories in {where}: name their folder in EXECGRAPH_WORKLOAD")
    try:
        import_tau2()
    except ImportError as error:
        pytest.skip(
            f"the tools of the recorded trajectories cannot be imported ({error}): scripts/test"
            " installs them where the trajectories are"
        )
    return Workload.load(where)
