"""The passes over the workload, on one store, and their figures."""

from __future__ import annotations

from dataclasses import dataclass

from anthropic import AsyncAnthropic

from execgraph import Engine
from execgraph.scripts.bench.recorded.drive import Driver, Pass
from execgraph.scripts.bench.recorded.foreseen import edited, resting_on, rests, start
from execgraph.scripts.bench.recorded.trajectories import Trajectory, Workload, chosen

__all__ = ["EVERY_WRITE", "SOME_WRITES", "Scenario", "play"]

#: The section of a policy that speaks of all writes, and one that speaks of some: an airline's.
EVERY_WRITE = "(preamble)"
SOME_WRITES = "Cancel flight"


@dataclass(frozen=True)
class Scenario:
    """One store's passes: recorded, repeated, every policy's preamble edited, the edit taken
    back, one section edited."""

    workload: Workload
    trajectories: tuple[Trajectory, ...]
    recorded: Pass
    repeated: Pass
    preamble_edited: Pass
    restored: Pass
    section_edited: Pass

    @property
    def turns(self) -> int:
        return sum(len(trajectory.turns) for trajectory in self.trajectories)

    def resting_on(self, section: str) -> dict[str, list[int]]:
        """By tid, the turns that an edit of a policy's section puts to the model again."""
        return resting_on(section, rests(self.workload, self.trajectories))

    def figures(self) -> str:
        """All that was measured, to be read by people."""
        there = len(self.trajectories)
        equal = self.repeated.databases == self.recorded.databases
        as_recorded, outputs = self.recorded.outputs
        skipped = ", ".join(f"{count} ({why})" for why, count in sorted(self.skipped.items()))
        size = f"{self.turns} turns of the agent, {outputs} tool calls"
        lines = [
            f"{there} of {len(self.workload.trajectories)} trajectories, {size}",
            f"skipped: {skipped or 'none'}",
            *(f"{name + ':':17} {done.figures()}" for name, done in self.passes.items()),
            f"databases after the repeat: {'equal' if equal else 'DIFFERENT'}",
            f"tool outputs as in the trajectories: {as_recorded} of {outputs}",
        ]
        return "\n".join(lines)

    @property
    def passes(self) -> dict[str, Pass]:
        """The passes by name, in their order."""
        return {
            "recorded": self.recorded,
            "repeated": self.repeated,
            "policies edited": self.preamble_edited,
            "edit taken back": self.restored,
            "a section edited": self.section_edited,
        }

    @property
    def skipped(self) -> dict[str, int]:
        return dict(self.workload.skipped)


async def play(url: str, namespace: str, workload: Workload, limit: int) -> Scenario:
    """Drive at most ``limit`` trajectories, pass after pass, on the store at ``url``."""
    trajectories = chosen(workload.trajectories, limit)
    engine = Engine(url, namespace=namespace)
    with Driver.server(trajectories) as server:
        async with AsyncAnthropic(base_url=server.url, api_key="local") as client, engine:
            driver = Driver(engine, workload, trajectories, server, client)
            policies = start(workload, trajectories)

            await driver.tell(policies)
            recorded = await driver.drive()
            repeated = await driver.drive()

            await driver.tell(edited(policies, EVERY_WRITE))
            preamble_edited = await driver.drive()

            await driver.tell(policies)
            restored = await driver.drive()

            await driver.tell(edited(policies, SOME_WRITES))
            section_edited = await driver.drive()
    return Scenario(
        workload,
        tuple(trajectories),
        recorded,
        repeated,
        preamble_edited,
        restored,
        section_edited,
    )
