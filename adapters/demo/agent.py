"""The deployment agent: five tools, what each does to the world, and what each rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from ... import Acl, BusinessRule, DeploymentTarget, IdempotencyKey, Schema
from .world import Access, Deployment, Health, Release, Service, World

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from ...engine.agent import Agent
    from ...engine.engine import Engine

__all__ = ["TASK", "deployment_agent"]

TASK = {"service": "checkout", "version": "2.4.1", "target": "eu-west-1"}

_SYSTEM = """\
You deploy services for an online shop, one tool call at a time:

1. Look the service up.
2. Check the access rule prod/deploy. If it forbids, stop: build and deploy nothing.
3. Build exactly the version in the task, and deploy what you built.
4. Ask the service for its health: it must say ok and name that version.

If a tool fails, stop and report the error as it is. End with a short report.
"""


def deployment_agent(engine: Engine, client: AsyncAnthropic, world: World, model: str) -> Agent:
    """An agent that deploys on `world`'s machine."""

    @engine.tool(effect="read", uses=[World.lookup])
    def lookup_service(service: str) -> Service:
        """Look a service up in the registry: its owner and its runtime."""
        return world.lookup(service)

    @engine.tool(effect="read", requires=[Acl("prod/deploy")], uses=[World.access])
    def check_access(rule: str) -> Access:
        """Check whether an access rule allows you to act, and why."""
        return world.access(rule)

    @engine.tool(
        effect="write",
        requires=[Schema("services", "$.columns.runtime")],
        uses=[World.build],
    )
    def build_release(
        service: str, version: str, *, key: Annotated[str, IdempotencyKey]
    ) -> Release:
        """Build a release. What is running does not change."""
        return world.build(service, version, key)

    @engine.tool(
        effect="write",
        requires=[
            Acl("prod/deploy"),
            DeploymentTarget("{target}"),
            Schema("services", "$.columns.port"),
        ],
        uses=[World.deploy],
    )
    def deploy(
        service: str, version: str, target: str, *, key: Annotated[str, IdempotencyKey]
    ) -> Deployment:
        """Switch a service to a release that was built, and restart it."""
        return world.deploy(service, version, target, key)

    @engine.tool(effect="read", uses=[World.health])
    def check_health(service: str) -> Health:
        """Ask the running service how it is, and which version it runs."""
        return world.health(service)

    return engine.agent(
        "deployer",
        client=client,
        model=model,
        system=_SYSTEM,
        tools=[lookup_service, check_access, build_release, deploy, check_health],
        requires=[BusinessRule("change-freeze")],
        max_tokens=1024,
        max_turns=20,
    )
