"""Errors between processes: pools and task queues pickle them."""

from __future__ import annotations

import pickle

import pytest

from execgraph import NotReplayable, RunFailed, StoreUnavailable
from execgraph.engine.errors import ExecutionUnknown
from execgraph.engine.outcome.cause import Cause, MissKind
from execgraph.graphstore.connect import connect
from execgraph.graphstore.errors import ExecgraphError, PayloadCorrupted
from execgraph.tests.conformance.samples import sample_effect

CAUSE = Cause(MissKind.NEW_TASK, "deployer")


@pytest.mark.parametrize(
    "error",
    [
        RunFailed("no answer", execution_id="e", effects=[sample_effect("x")]),
        RunFailed("no answer", execution_id="e"),
        NotReplayable([CAUSE]),
        ExecutionUnknown("e", connect("sqlite:///graph.db", namespace="team-a")),
        PayloadCorrupted(("d1", "d2")),
        StoreUnavailable("the store is away"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_reaches_another_process_as_it_is(error: ExecgraphError) -> None:
    received = pickle.loads(pickle.dumps(error))
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert vars(received) == vars(error)


def test_whether_it_may_be_tried_again_is_still_known_there() -> None:
    harmful = RunFailed("no answer", execution_id="e", effects=[sample_effect("x")])
    assert not pickle.loads(pickle.dumps(harmful)).safe_to_retry
