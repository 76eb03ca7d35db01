"""Prints the workload's figures: ``python -m execgraph.tests.workload [store URL] [how many]``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid

from .scenario import play
from .trajectories import Workload, folder


def main() -> None:
    """Drive on the store given (a fresh SQLite file), as many as given (all)."""
    url, limit = (*sys.argv[1:], "", "")[:2]
    workload = Workload.load(folder())
    with tempfile.TemporaryDirectory() as temporary:
        scenario = asyncio.run(
            play(
                url or f"sqlite:///{temporary}/graph.db",
                f"workload-{uuid.uuid4().hex[:12]}",
                workload,
                int(limit or len(workload.trajectories)),
            )
        )
    sys.stdout.write(f"{scenario.figures()}\n")


if __name__ == "__main__":
    main()
