"""The cron job and the CI jobs of docs/services.md: programs that end, both stores."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from datetime import timedelta

from .conftest import COMMANDS, ON_CALL, Service, on_sqlite

KEYLESS = {"ANTHROPIC_API_KEY": ""}  # who is asked is part of a request: the address stays


def expire(service: Service) -> None:
    """Let the time pass after which nobody knows any more whether the rule is as it was."""
    with service.engine().sync() as e:
        document = {"allow": ["release-bot"]}
        assert e.observe("acl:deploy", document, until=timedelta(milliseconds=1)) is None


def nightly(service: Service, **environment: str) -> subprocess.CompletedProcess[str]:
    return service.run("nightly", **environment)


# cron -------------------------------------------------------------------------------------


def test_a_job_replays_what_the_last_one_recorded_though_nobody_watched_between(
    service: Service,
) -> None:
    first, asked, deployed = service.counted(lambda: nightly(service))
    assert (first.returncode, first.stdout, asked, deployed) == (0, "It is deployed.\n", 2, 1)
    expire(service)
    second, asked, deployed = service.counted(lambda: nightly(service, **KEYLESS))
    assert (second.returncode, second.stdout, asked, deployed) == (0, "It is deployed.\n", 0, 1)
    assert "replay, 0 tokens" in second.stderr


@on_sqlite
def test_a_job_asks_when_a_file_has_changed_since(service: Service) -> None:
    nightly(service)
    service.rule(ON_CALL)
    changed, asked, _ = service.counted(lambda: nightly(service))
    assert (changed.returncode, asked) == (0, 1)
    assert "precondition changed: acl:deploy" in changed.stderr


@on_sqlite
def test_a_job_that_does_not_look_trusts_no_expired_fact(service: Service) -> None:
    nightly(service)
    program = service.folder / "nightly.py"
    code = program.read_text()
    assert code.count(", e.watch([rules]):") == 1
    program.write_text(code.replace(", e.watch([rules]):", ":"))
    expire(service)
    blind, asked, _ = service.counted(lambda: nightly(service))
    assert (blind.returncode, asked) == (0, 1)
    assert "precondition expired: acl:deploy" in blind.stderr


@on_sqlite
def test_a_job_that_fails_says_so_in_one_line(service: Service) -> None:
    service.model.fail(400, message="no")
    failed = nightly(service)
    service.url = f"sqlite:///{service.folder}/nightly.py/graph.db"
    away = nightly(service)
    for job in (failed, away):
        assert job.returncode == 1
        assert "nightly: " in job.stderr
        assert "Traceback" not in job.stderr


# CI ---------------------------------------------------------------------------------------


def release(service: Service, *versions: str) -> subprocess.CompletedProcess[str]:
    tasks = [{"service": "checkout", "version": version} for version in versions]
    (service.folder / "tasks.json").write_text(json.dumps(tasks))
    return service.run("release", "tasks.json", **KEYLESS)


RECORD = """
import sys
import deploys

task = {"service": "checkout", "version": sys.argv[1]}
with deploys.engine.sync() as e, e.watch([deploys.rules]):
    print(e.agent(deploys.deployer).execute(task).tokens)
"""


def record(service: Service, version: str) -> int:
    """Run the task elsewhere, with a model. Gives its tokens."""
    (service.folder / "record.py").write_text(RECORD)
    done = service.run("record", version)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@on_sqlite
def test_what_is_recorded_is_released_without_a_key(service: Service) -> None:
    record(service, "2.4")
    released, asked, deployed = service.counted(lambda: release(service, "2.4"))
    assert (released.returncode, released.stdout) == (0, "It is deployed.\n"), released.stderr
    assert (asked, deployed) == (0, 1)


def test_what_would_have_to_be_asked_is_not_begun(service: Service) -> None:
    record(service, "2.4")
    refused, asked, deployed = service.counted(lambda: release(service, "2.5"))
    assert (refused.returncode, refused.stdout, asked, deployed) == (3, "", 0, 0)
    assert "new task" in refused.stderr

    service.rule(ON_CALL)
    refused, asked, deployed = service.counted(lambda: release(service, "2.4"))
    assert (refused.returncode, refused.stdout, asked, deployed) == (3, "", 0, 0)
    assert "precondition changed: acl:deploy" in refused.stderr


@on_sqlite
def test_an_output_other_than_the_recorded_one_is_a_failure(service: Service) -> None:
    record(service, "2.4")
    service.platform.answer = "queued"
    failed, asked, deployed = service.counted(lambda: release(service, "2.4"))
    assert failed.returncode == 1
    assert (asked, deployed) == (0, 1)
    assert "effects done: 1" in failed.stderr


@on_sqlite
def test_the_mode_asks_the_same_of_any_program(service: Service) -> None:
    mode = {**KEYLESS, "EXECGRAPH_MODE": "replay"}
    refused, asked, deployed = service.counted(lambda: nightly(service, **mode))
    assert (refused.returncode, asked, deployed) == (1, 0, 0)
    assert "nothing was executed" in refused.stderr
    nightly(service)
    replayed, asked, deployed = service.counted(lambda: nightly(service, **mode))
    assert (replayed.returncode, asked, deployed) == (0, 0, 1)
    off, asked, _ = service.counted(lambda: nightly(service, EXECGRAPH_MODE="off"))
    assert (off.returncode, asked) == (0, 2)


def gate(service: Service, *options: str) -> subprocess.CompletedProcess[str]:
    """What a pull request's job runs, in a checkout beside which the main branch's is."""
    [words] = [words for words in COMMANDS if words[:2] == ["execgraph", "impact"]]
    return service.run(*words, "--namespace", service.namespace, *options, **KEYLESS)


def test_a_pull_request_that_costs_too_much_does_not_pass(service: Service) -> None:
    record(service, "2.4")
    shutil.copytree(service.folder / "config", service.folder.parent / "main" / "config")
    unchanged = gate(service, "--max-tokens", "0")
    assert unchanged.returncode == 0, unchanged.stderr

    service.rule(ON_CALL)
    refused = gate(service, "--max-tokens", "0", "--json")
    assert refused.returncode == 1
    assert "more than the 0 of --max-tokens" in refused.stderr
    tokens = json.loads(refused.stdout)["tokens"]
    assert tokens > 0
    assert asyncio.run(changes(service)) == ["changed"], "asking has changed nothing"
    assert record(service, "2.4") == tokens, "it costs what was foreseen"


async def changes(service: Service) -> list[str]:
    """What became of the rule, by now."""
    async with service.engine() as engine:
        store = engine.session().store
        return [it.kind for it in await store.changes(resource="acl:deploy")]
