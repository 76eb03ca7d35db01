"""What a manifest, a signature and a trace notice."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from execgraph.graphstore.canonical import digest, hash_of
from execgraph.graphstore.facts import ABSENT, Expected, Fact, Facts, FactState, expected_of
from execgraph.graphstore.model import (
    NEVER,
    Effect,
    Execution,
    ExecutionState,
    FacetRef,
    Precondition,
    Step,
    StepKind,
    Trace,
    Usage,
    Value,
    manifest,
    new_id,
    signature,
    step_id,
)
from execgraph.tests.conformance.samples import guard, sample_recording

_HELD = guard("team", "acl:a", {"a": 1}, "$.a")
_OTHER = guard("team", "acl:b", {"b": 1})
_RECORDING = sample_recording(guards=[_HELD])
_STEPS = _RECORDING.steps

# A different value for every field of a step.
_CHANGES: dict[str, Any] = {
    "position": 9,
    "kind": StepKind.ACTION,
    "name": "other",
    "key": "other",
    "occurrence": 1,
    "code_key": "other",
    "output": "other",
    "output_key": "other",
    "error": True,
    "started_at": 7,
    "duration_ms": 1.0,
    "guards": (_OTHER.id,),
    "feeds": (7,),
    "head": None,
    "extends": 5,
    "shared": 3,
    "messages": (),
    "usage": None,
    "asked_at": 7,
    "seen": {"acl:prod": 3},
    "cost": 0.5,
    "effect": Effect.PURE,
    "arguments": "other",
    "decision": 4,
    "call": 2,
}
_SAME_BEHAVIOUR = {
    "position", "kind", "name", "code_key", "output", "started_at", "duration_ms", "feeds", "head",
    "extends", "shared", "messages", "usage", "asked_at", "seen", "cost", "effect", "arguments",
    "decision", "call",
}  # fmt: skip


def _changed(field: str) -> tuple[Step, ...]:
    first = _STEPS[0].model_copy(update={field: _CHANGES[field]})
    assert first != _STEPS[0]
    return (first, *_STEPS[1:])


def test_every_field_of_a_step_is_tried() -> None:
    assert set(_CHANGES) == set(Step.model_fields)


@pytest.mark.parametrize("field", Step.model_fields)
def test_a_manifest_notices_every_field(field: str) -> None:
    assert manifest(_changed(field)) != manifest(_STEPS)


@pytest.mark.parametrize("field", Step.model_fields)
def test_a_signature_notices_what_is_done_under_which_guards(field: str) -> None:
    same = signature(_changed(field)) == signature(_STEPS)
    assert same == (field in _SAME_BEHAVIOUR)


def test_both_notice_a_missing_step_and_another_order() -> None:
    for judge in (manifest, signature):
        variants = [_STEPS, _STEPS[:-1], _STEPS[1:], _STEPS[::-1], ()]
        assert len({judge(steps) for steps in variants}) == len(variants)


def test_a_manifest_of_copies_is_equal() -> None:
    copies = [Step.model_validate_json(step.model_dump_json()) for step in _STEPS]
    assert manifest(copies) == manifest(_STEPS)


def test_a_field_at_its_default_is_not_part_of_a_manifest() -> None:
    bare = Step(
        position=0, kind=StepKind.ACTION, name="n", key="k", occurrence=0, code_key="c",
        output="o", output_key="p",
    )  # fmt: skip
    explicit = bare.model_copy(update={"usage": None, "guards": (), "shared": 0})
    expected = (
        '[{"code_key":"c","key":"k","kind":"action","name":"n","occurrence":0,"output":"o",'
        '"output_key":"p","position":0}]'
    )
    assert manifest([bare]) == manifest([explicit]) == digest(expected.encode())


def _trace(**changes: Any) -> Trace:
    execution = _RECORDING.execution.model_copy(
        update={"state": ExecutionState.PUBLISHED, "manifest": manifest(_STEPS)}
    )
    whole: dict[str, Any] = {
        "execution": execution,
        "steps": _STEPS,
        "preconditions": {_HELD.id: _HELD},
    }
    return Trace(**whole | changes)


def test_a_trace_as_published_is_intact() -> None:
    assert _trace().intact("team")


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": _STEPS[:-1]},
        {"steps": _changed("output_key")},
        {"preconditions": {}},
        {"preconditions": {_OTHER.id: _OTHER}},
        {"preconditions": {_HELD.id: _OTHER}},
        {"preconditions": {_HELD.id: _HELD.model_copy(update={"fingerprint": "x"})}},
        {"preconditions": {_HELD.id: _HELD.model_copy(update={"resource": "acl:x"})}},
        {"preconditions": {_HELD.id: _HELD.model_copy(update={"selector": None})}},
        {"preconditions": {_HELD.id: _HELD.model_copy(update={"facet": "x"})}},
        {"preconditions": {_HELD.id: _HELD, _OTHER.id: _OTHER.model_copy(update={"facet": ""})}},
    ],
)
def test_a_trace_that_differs_is_not_intact(changes: dict[str, Any]) -> None:
    assert not _trace(**changes).intact("team")


def test_a_trace_of_another_namespace_is_not_intact() -> None:
    assert not _trace().intact("other")


def test_a_trace_knows_its_resources_and_payloads() -> None:
    trace = _trace(preconditions={_HELD.id: _HELD, _OTHER.id: _OTHER})
    assert trace.resources == {"acl:a", "acl:b"}
    named = {step.output for step in _STEPS} | {step.head for step in _STEPS if step.head}
    assert named < trace.payloads
    assert trace.payloads <= {value.digest for value in _RECORDING.values}


def test_a_precondition_is_its_namespace_facet_and_fingerprint() -> None:
    parts = [
        ("team", FacetRef("acl:a", "$.a"), "1"),
        ("other", FacetRef("acl:a", "$.a"), "1"),
        ("team", FacetRef("acl:b", "$.a"), "1"),
        ("team", FacetRef("acl:a", None), "1"),
        ("team", FacetRef("acl:a", ""), "1"),
        ("team", FacetRef("acl:a", "$.a"), NEVER),
    ]
    assert len({Precondition.of(*part).id for part in parts}) == len(parts)
    assert Precondition.of(*parts[0]) == Precondition.of(*parts[0])
    assert Precondition.of(*parts[0]).ref == parts[0][1]


def test_ids_sort_by_time_and_never_repeat() -> None:
    times = [0, 1, 1_700_000_000_000, 1_700_000_000_001, 2**47]
    ids = [new_id(ms) for ms in times]
    assert ids == sorted(ids)
    assert len({new_id(5) for _ in range(1000)}) == 1000
    assert step_id("run", 3) == "run/3"
    assert hash_of("a") != hash_of("b")


def test_nodes_cannot_be_changed_or_misspelt() -> None:
    with pytest.raises(ValidationError):
        _STEPS[0].position = 3
    with pytest.raises(ValidationError):
        Execution.model_validate({**_RECORDING.execution.model_dump(), "colour": "red"})


def test_usage_adds_up() -> None:
    one = Usage(input_tokens=1, output_tokens=2)
    two = Usage(cache_creation_input_tokens=3, cache_read_input_tokens=4)
    assert (one + two).total == 10
    assert one + Usage() == one


def test_a_value_is_named_by_its_bytes() -> None:
    assert Value.of(b"x").digest == digest(b"x") != Value.of(b"x ").digest


@pytest.mark.parametrize(
    ("fact", "believed"),
    [
        (ABSENT, False),
        (Fact(1, FactState.WITHDRAWN), False),
        (Fact(1, FactState.PRESENT), True),
        (Fact(1, FactState.PRESENT, until=101), True),
        (Fact(1, FactState.PRESENT, until=100), False),  # until excludes its own moment
        (Fact(1, FactState.WITHDRAWN, until=101), False),
    ],
)
def test_what_is_believed(fact: Fact, believed: bool) -> None:  # noqa: FBT001 - a table's column
    assert fact.believed(now=100) is believed
    assert expected_of("acl:a", fact, 100) == Expected("acl:a", fact.version, believed)


def test_only_present_resources_miss_facets() -> None:
    facts = Facts(
        now=0,
        by_resource={
            "a": Fact(1, FactState.PRESENT, None, {"$.x": "1"}),
            "b": Fact(1, FactState.WITHDRAWN),
        },
    )
    wanted: dict[str, frozenset[str | None]] = {
        "a": frozenset({"$.x", None}),
        "b": frozenset({None}),
        "c": frozenset({None}),
    }
    assert facts.missing(wanted) == [FacetRef("a", None)]
    assert facts.of("c") is ABSENT
