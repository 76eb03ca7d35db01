"""A process that forks while the engine is open in it."""

from __future__ import annotations

import json

from .conftest import Service, on_sqlite

FORKING = """
import json, os, sys
from multiprocessing import get_context
import deploys
from execgraph import NotOpen

TASK = {"service": "checkout", "version": "2.4"}
face = deploys.engine.sync()


def told(work):
    try:
        return work()
    except NotOpen as error:
        return str(error)


def uses():
    return face.agent(deploys.deployer).execute(TASK).mode


def opens_another():
    with deploys.engine.sync() as e, e.watch([deploys.rules]):
        return e.agent(deploys.deployer).execute(TASK).mode


def opens_again():
    with face:
        return uses()


def leaves():
    face.__exit__(None, None, None)
    return "left"


def child(answers):
    answers.put([told(work) for work in (uses, leaves, opens_another, opens_again, uses)])


with face, face.watch([deploys.rules]):
    before = uses()
    context = get_context("fork")
    answers = context.Queue()
    process = context.Process(target=child, args=(answers,), daemon=True)
    process.start()
    print(json.dumps([before, answers.get(timeout=20), uses()]))
    process.join(20)
sys.exit(process.exitcode)
"""


@on_sqlite
def test_a_child_opens_for_itself_and_is_told_so(service: Service) -> None:
    (service.folder / "forking.py").write_text(FORKING)
    done = service.run("forking", PYTHONWARNINGS="error,ignore::DeprecationWarning")
    assert done.returncode == 0, done.stderr
    before, child, after = json.loads(done.stdout)
    assert (before, after) == ("live", "replay")
    inherited, left, another, again, closed = child
    assert "forked" in inherited
    assert "with engine.sync() as e" in inherited
    assert (left, another, again) == ("left", "replay", "replay")
    assert "use it inside" in closed
    assert service.model.requests == 2
