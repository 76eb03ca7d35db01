"""What became of the steps of a run, as it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execgraph.engine.outcome.cause import Cause, MissKind
from execgraph.engine.outcome.report import Report, ReportedStep
from execgraph.engine.outcome.result import Outcome
from execgraph.graphstore.model import FacetRef, StepKind

_texts = st.text(max_size=20)
_maybe = st.none() | _texts
_causes = st.builds(
    Cause,
    st.sampled_from(MissKind),
    _texts,
    _maybe,
    _maybe,
    st.none() | st.builds(FacetRef, _texts, _maybe),
)
_steps = st.builds(
    ReportedStep,
    st.sampled_from(StepKind),
    _texts,
    st.none() | st.sampled_from(Outcome),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.booleans(),
    st.none() | _causes,
    st.none() | st.integers(0, 10**6).map(lambda position: f"0123/{position}"),
    _maybe,
)
_reports = st.builds(
    Report,
    st.lists(_steps, max_size=6).map(tuple),
    st.lists(_causes, max_size=3).map(tuple),
    st.none() | st.tuples(_texts, _maybe),
)


@given(_reports)
def test_what_is_kept_is_what_was_told(report: Report) -> None:
    assert Report.of_value(report.value().data) == report


def test_a_cause_that_many_steps_share_is_kept_once() -> None:
    cause = Cause(MissKind.NEW_TASK, "a-task-with-a-long-key")
    steps = [
        ReportedStep(StepKind.DECISION, "m", Outcome.ASKED, 5, cause=cause, step=f"run/{n}")
        for n in range(50)
    ]
    data = Report(tuple(steps), (cause,)).value().data
    assert data.count(b"a-task-with-a-long-key") == 1
    assert data.count(b"run") == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"causes": [], "misses": [0], "steps": [], "execution": null}',
        b'{"causes": [["no kind", "", null, null, null]], "misses": [], "steps": []}',
        b'{"causes": [], "misses": [], "steps": [["decision"]], "execution": null}',
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Report.of_value(data)
