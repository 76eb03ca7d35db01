"""What goes, as a function of rows: nothing that is still needed, and all that is not."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from execgraph.graphstore.retention import (
    EXPELLED,
    UNUSED,
    Expiry,
    ResourceHistory,
    Retention,
    Rules,
    Run,
    TaskHistory,
    Trace,
    Version,
    beyond,
    least_used,
)

_NOW = 1_000
_AGES = st.integers(0, 1_200).map(lambda ms: timedelta(milliseconds=ms))
_TIMES = st.integers(0, 1_100)  # some lie in the future, since clocks are set back
_RULES = st.builds(
    Retention,
    traces=st.integers(1, 4),
    history=st.integers(0, 5),
    versions=st.integers(0, 4),
    max_age=st.none() | _AGES,
    history_age=_AGES,
    grace=_AGES,
).map(lambda keep: Rules(keep, _NOW))
_TRACES = st.lists(st.tuples(_TIMES, st.booleans()), max_size=8).map(
    lambda rows: [
        Trace(f"trace-{n}", used, f"run-{n}" if is_used else None)
        for n, (used, is_used) in enumerate(rows)
    ]
)
_REASONS = st.sampled_from([None, "rejected", *EXPELLED])
_RUNS = st.lists(st.tuples(_TIMES, st.integers(0, 300), _REASONS, st.booleans()), max_size=12).map(
    lambda rows: sorted(
        (
            Run(f"run-{n}", start, start + took, reason, 1, held)
            for n, (start, took, reason, held) in enumerate(rows)
        ),
        key=_start,
    )
)


def _start(run: Run) -> tuple[int, str]:
    return run.started_at, run.id


def _history(runs: list[Run], kept: int) -> TaskHistory:
    """As a store lists it."""
    edge = _start(runs[-kept]) if 0 < kept <= len(runs) else (None, None)
    oldest = runs[0].started_at if runs else None
    return TaskHistory("task", edge[0], edge[1], oldest, any(it.reason in EXPELLED for it in runs))


@given(_RULES, _TRACES)
def test_the_newest_traces_stay_unless_nobody_uses_them(rules: Rules, traces: list[Trace]) -> None:
    why = rules.to_unpublish(traces)
    for place, trace in enumerate(traces):
        reason = why.get(trace.id)
        old = rules.retention.max_age
        unused = old is not None and _NOW - trace.used >= old // timedelta(milliseconds=1)
        if unused:
            assert reason == UNUSED
        else:
            assert reason == (
                beyond(rules.retention.traces) if place >= rules.retention.traces else None
            )


@given(_RULES, _TRACES)
def test_traces_unpublished_one_by_one_are_those_unpublished_at_once(
    rules: Rules, traces: list[Trace]
) -> None:
    left, gone = traces, dict[str, str]()
    while why := rules.to_unpublish(left):
        gone |= [*why.items()][:1]
        left = [it for it in traces if it.id not in gone]
    assert gone == rules.to_unpublish(traces)


@given(_RULES, _RUNS, st.sets(st.integers(0, 11).map("run-{}".format)))
def test_a_run_goes_iff_nothing_keeps_it(rules: Rules, runs: list[Run], uses: set[str]) -> None:
    keep = rules.retention
    gone = rules.runs_to_delete(_history(runs, keep.history), runs, uses)
    for place, run in enumerate(reversed(runs)):
        age = timedelta(milliseconds=_NOW - run.ended)
        is_kept = run.held or run.id in uses or age < keep.grace
        is_wanted = place < keep.history and age < keep.history_age and run.reason not in EXPELLED
        assert (run in gone) == (not is_kept and not is_wanted)


@given(_RULES, _RUNS)
def test_no_run_goes_that_is_not_looked_at(rules: Rules, runs: list[Run]) -> None:
    history = _history(runs, rules.retention.history)
    for run in rules.runs_to_delete(history, runs, ()):
        assert run.started_at <= rules.started_until(history)


@given(_RULES, _RUNS)
def test_a_trace_that_waits_for_its_grace_is_looked_at(rules: Rules, runs: list[Run]) -> None:
    history = _history(runs, rules.retention.history)
    for run in runs:
        if rules.waits(run) and run.started_at <= _NOW:
            assert run.started_at <= rules.started_until(history)


@given(_RULES, _RUNS, st.integers(0, 4))
def test_pages_of_a_history_give_what_the_whole_gives(
    rules: Rules, runs: list[Run], at: int
) -> None:
    history = _history(runs, rules.retention.history)
    parts = [rules.runs_to_delete(history, part, ()) for part in (runs[:at], runs[at:])]
    assert parts[0] + parts[1] == rules.runs_to_delete(history, runs, ())


@given(_RULES, _RUNS)
def test_only_what_was_not_heard_of_for_long_counts_as_killed(
    rules: Rules, runs: list[Run]
) -> None:
    keep = rules.retention
    for run in runs:
        age = timedelta(milliseconds=_NOW - run.ended)
        is_killed = age >= max(keep.grace, keep.history_age) and not run.held
        assert rules.killed_to_delete([run]) == ([run] if is_killed else [])


@given(_RULES, st.lists(st.tuples(_TIMES, st.booleans()), min_size=1, max_size=9))
def test_a_version_goes_iff_nothing_keeps_it(rules: Rules, rows: list[tuple[int, bool]]) -> None:
    keep = rules.retention
    versions = [Version(n, at, held) for n, (at, held) in enumerate(rows, 1)]
    current = len(versions)
    past = ResourceHistory("acl:prod", current, 1, versions[0].at, 0, None)
    gone = rules.versions_to_delete(past, versions)
    for version in versions:
        age = timedelta(milliseconds=_NOW - version.at)
        is_kept = version.n == current or version.held or age < keep.grace
        is_wanted = version.n >= current - keep.versions and age < keep.history_age
        assert (version in gone) == (not is_kept and not is_wanted)
    if gone and gone[0].n == 1:
        assert rules.has_versions_to_delete(past)


@given(_RULES, st.lists(st.tuples(_TIMES, st.booleans()), max_size=9), st.integers(0, 4))
def test_an_expiry_goes_iff_nothing_keeps_it(
    rules: Rules, rows: list[tuple[int, bool]], at: int
) -> None:
    keep = rules.retention
    events = [Expiry(f"event-{n}", time, held) for n, (time, held) in enumerate(rows)]
    gone = rules.expiries_to_delete(0, events[:at]) + rules.expiries_to_delete(at, events[at:])
    for place, event in enumerate(events):
        age = timedelta(milliseconds=_NOW - event.at)
        is_kept = place == 0 or event.held or age < keep.grace
        is_wanted = place < keep.versions and age < keep.history_age
        assert (event in gone) == (not is_kept and not is_wanted)


@given(_TRACES.filter(bool), st.integers(1, 60))
def test_no_more_traces_go_for_their_size_than_are_needed(traces: list[Trace], excess: int) -> None:
    """Each names ten bytes of its own, and ten that all of them name."""
    names = [trace.id for trace in traces]
    sizes = {name: {"shared": 10, name: 10} for name in names}
    chosen, left = least_used(names, sizes, set(), excess)
    taken = 10 * (len(chosen) + 1)
    assert chosen == names[: len(chosen)]
    assert left == excess - taken
    assert left > -10 or chosen == names[:1]
    assert left <= 0 or chosen == names
