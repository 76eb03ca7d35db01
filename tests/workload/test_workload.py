"""Recorded trajectories of real agents: recorded once, they replay without the model.

The data are not part of this repository; where they or their tools are missing, these tests are
skipped and say why. EXECGRAPH_WORKLOAD names another folder, EXECGRAPH_WORKLOAD_LIMIT how many
trajectories are driven (``all`` for all); ``pytest -s`` shows the figures.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid

import pytest

from execgraph.scripts.bench.recorded.foreseen import steps_of
from execgraph.scripts.bench.recorded.trajectories import DOMAINS, Workload, rows
from execgraph.tests.stores import BOTH, store_url
from execgraph.tests.workload.scenario import EVERY_WRITE, SOME_WRITES, Scenario, play

DEFAULT_LIMIT = 48
ENOUGH = 40

# Some were recorded with models that the SDK calls outdated by now.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")


@pytest.fixture(scope="module", params=BOTH)
def scenario(
    request: pytest.FixtureRequest,
    workload: Workload,
    tmp_path_factory: pytest.TempPathFactory,
) -> Scenario:
    """All passes on one store, driven once for all tests."""
    url = store_url(request, tmp_path_factory.mktemp("workload"))
    told = os.environ.get("EXECGRAPH_WORKLOAD_LIMIT", str(DEFAULT_LIMIT))
    limit = len(workload.trajectories) if told == "all" else int(told)
    played = asyncio.run(play(url, f"test-{uuid.uuid4().hex}", workload, limit))
    sys.stdout.write(f"\n{request.param}\n{played.figures()}\n")
    return played


def test_enough_trajectories_of_each_domain_are_driven(scenario: Scenario) -> None:
    driven = [trajectory.domain for trajectory in scenario.trajectories]
    assert len(driven) >= min(ENOUGH, len(scenario.workload.trajectories))
    assert set(driven) == set(DOMAINS)


def test_what_cannot_be_driven_is_counted_with_its_reason(workload: Workload) -> None:
    there = [row for domain in DOMAINS for row in rows(workload.folder, domain)]
    failed = sum(row["end"] == "agent_error" for row in there)
    assert workload.skipped["airline: the recorded agent failed: its last turn is empty"] == failed
    assert len(workload.trajectories) + workload.skipped.total() == len(there)


def test_each_turn_of_an_agent_is_asked_once_and_recorded(scenario: Scenario) -> None:
    recorded = scenario.recorded
    assert recorded.model_calls == scenario.turns
    assert all(it.result.recorded for it in recorded.driven)
    steps = sum(len(it.result.steps) for it in recorded.driven)
    assert steps == steps_of(scenario.trajectories)


def test_a_repeat_asks_nothing(scenario: Scenario) -> None:
    repeated = scenario.repeated
    assert repeated.model_calls == 0
    assert [it.result.miss for it in repeated.driven if it.result.miss] == []
    assert all(it.result.replayed and it.result.tokens == 0 for it in repeated.driven)


def test_a_repeat_is_identical(scenario: Scenario) -> None:
    assert all(it.result.identical for it in scenario.repeated.driven)
    assert [it.outputs for it in scenario.repeated.driven] == [
        it.outputs for it in scenario.recorded.driven
    ]


def test_a_repeat_leaves_the_databases_as_the_recorded_run_did(scenario: Scenario) -> None:
    assert scenario.repeated.databases == scenario.recorded.databases
    # ... which says something only because the agents did change them.
    assert len(set(scenario.recorded.databases.values())) > len(DOMAINS)


def test_a_changed_policy_asks_again_what_led_to_a_write_and_nothing_else(
    scenario: Scenario,
) -> None:
    expected = scenario.resting_on(EVERY_WRITE)
    assert expected
    assert scenario.preamble_edited.asked == expected
    assert scenario.preamble_edited.model_calls == sum(map(len, expected.values()))
    assert scenario.preamble_edited.databases == scenario.recorded.databases


def test_a_policy_that_returns_makes_everything_replay_again(scenario: Scenario) -> None:
    assert scenario.restored.model_calls == 0
    assert all(it.result.identical for it in scenario.restored.driven)
    assert scenario.restored.databases == scenario.recorded.databases


def test_a_changed_section_asks_again_only_what_rests_on_that_section(scenario: Scenario) -> None:
    expected = scenario.resting_on(SOME_WRITES)
    assert 0 < len(expected) < len(scenario.resting_on(EVERY_WRITE))
    assert scenario.section_edited.asked == expected
    assert scenario.section_edited.databases == scenario.recorded.databases


def test_the_tools_give_nearly_always_what_they_gave_the_recorded_agents(
    scenario: Scenario,
) -> None:
    as_recorded, there = scenario.recorded.outputs
    assert as_recorded >= 0.9 * there
