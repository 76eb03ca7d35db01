"""What the local model answers: a function of the conversation it is sent, and of nothing else.

It works as a careful operator would: look the service up, check the access rule, build, deploy,
check the health, report. What a tool reports decides what comes next: a rule that forbids ends the
task with a refusal, an error ends it with the error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..messages_api import Answer, call, text

__all__ = ["answer"]

_DEPLOYMENT_RULE = "prod/deploy"


class _Task(NamedTuple):
    service: str
    version: str
    target: str


class _Result(NamedTuple):
    """What a tool call gave: JSON, or the text of an error."""

    content: Any
    error: bool


_Results = Mapping[str, _Result]


def answer(body: Mapping[str, Any]) -> Answer:
    """The next thing to do, or the answer to the task."""
    task = _task(body["messages"])
    results = _results(body["messages"])
    if failed := next((name for name, it in results.items() if it.error), None):
        return Answer([text(f"I stopped: {failed} failed with: {results[failed].content}")])
    for tool, turn in _TURNS.items():
        if tool not in results:
            return turn(task, results)
    return _report(task, results)


def _look_up(task: _Task, _: _Results) -> Answer:
    return _act(
        f"To deploy {task.service} {task.version}, I first look the service up.",
        "lookup_service",
        {"service": task.service},
    )


def _check(_: _Task, results: _Results) -> Answer:
    record = results["lookup_service"].content
    return _act(
        f"{record['owner']} owns it, it runs on {record['runtime']}. May I deploy to production?",
        "check_access",
        {"rule": _DEPLOYMENT_RULE},
    )


def _build(task: _Task, results: _Results) -> Answer:
    access = results["check_access"].content
    if not access["allowed"]:
        owner = results["lookup_service"].content["owner"]
        refusal = (
            f"I did not deploy {task.service} {task.version} to {task.target}: the access rule"
            f" {_DEPLOYMENT_RULE} forbids it ({access['reason']}). Nothing was built or changed."
            f" Please ask somebody on call, or {owner}, to deploy it."
        )
        return Answer([text(refusal)])
    return _act(
        f"I may: {access['reason']}. I build the release.",
        "build_release",
        {"service": task.service, "version": task.version},
    )


def _deploy(task: _Task, results: _Results) -> Answer:
    digest = results["build_release"].content["digest"]
    return _act(
        f"It is built ({digest}). I deploy it to {task.target}.",
        "deploy",
        task._asdict(),
    )


def _check_health(task: _Task, _: _Results) -> Answer:
    return _act(
        f"It was started in {task.target}. I ask the service itself how it is.",
        "check_health",
        {"service": task.service},
    )


def _report(task: _Task, results: _Results) -> Answer:
    health = results["check_health"].content
    if (health["status"], health["version"]) != ("ok", task.version):
        return Answer([text(f"{task.service} is not well: {json.dumps(health)}.")])
    report = (
        f"{task.service} {task.version} is deployed to {task.target} and healthy: it reports"
        f" version {health['version']} and status {health['status']}."
    )
    return Answer([text(report)])


#: What to do while a tool has not answered yet, in this order.
_TURNS: Mapping[str, Callable[[_Task, _Results], Answer]] = {
    "lookup_service": _look_up,
    "check_access": _check,
    "build_release": _build,
    "deploy": _deploy,
    "check_health": _check_health,
}


def _act(words: str, tool: str, arguments: Mapping[str, Any]) -> Answer:
    return Answer([text(words), call(tool, arguments)])


def _task(messages: list[Mapping[str, Any]]) -> _Task:
    """The first JSON object in the first message."""
    said = "".join(block["text"] for block in _blocks(messages[0]) if block["type"] == "text")
    task, _ = json.JSONDecoder().raw_decode(said, said.index("{"))
    return _Task(task["service"], task["version"], task["target"])


def _results(messages: list[Mapping[str, Any]]) -> dict[str, _Result]:
    """The last result of each tool, by the tool's name."""
    names: dict[str, str] = {}
    results: dict[str, _Result] = {}
    for message in messages:
        for block in _blocks(message):
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
            elif block["type"] == "tool_result":
                results[names[block["tool_use_id"]]] = _result(block)
    return results


def _result(block: Mapping[str, Any]) -> _Result:
    content = block["content"]
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    if block.get("is_error"):
        return _Result(content, error=True)
    return _Result(json.loads(content), error=False)


def _blocks(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message["content"]
    yield from [{"type": "text", "text": content}] if isinstance(content, str) else content
