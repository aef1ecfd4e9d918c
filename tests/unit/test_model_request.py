"""Requests of other services: what is read, what is refused, and that the shipped schemas say the same."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ha_tasks
from ha_tasks.model.request import RequestKind, parse_request, parse_status

CONTRACT = Path(ha_tasks.__file__).parent / "contract"
BODY = {
    "v": 1,
    "service": "web",
    "kind": "restart",
    "reason": "its memory grows",
    "requested_by": "shop/ana",
    "idempotency_key": "shop-4711",
}


def schema(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((CONTRACT / f"{name}.schema.json").read_text()))


REQUEST, STATUS = schema("recovery-request"), schema("recovery-status")


def problems(body: dict, parse=parse_request) -> list[str]:
    return [str(wrong) for wrong in parse(body)[1]]


def test_the_least_that_is_needed_is_read_with_its_defaults():
    request, wrong = parse_request(BODY)

    assert wrong == ()
    assert (request.service, request.kind, request.idempotency_key) == (
        "web",
        RequestKind.RESTART,
        "shop-4711",
    )
    assert (request.scope, request.playbook, request.dry_run, request.deadline_s) == (None, None, False, None)


def test_order_and_defaults_do_not_make_another_request():
    plain, _ = parse_request(BODY)
    spelled, _ = parse_request(
        dict(reversed(BODY.items())) | {"dry_run": False, "scope": None, "evidence": {}}
    )
    other, _ = parse_request(BODY | {"scope": "web1"})

    assert plain.sha256() == spelled.sha256()
    assert plain.sha256() != other.sha256()
    assert len({parse_request(BODY | {"reason": r})[0].sha256() for r in ("a", "b", "\ud800")}) == 3


def test_an_unknown_field_is_named_with_the_nearest_known_one():
    assert problems(BODY | {"idempotence_key": "x"}) == [
        'idempotence_key: unknown field; did you mean "idempotency_key"?'
    ]


def test_everything_that_is_wrong_is_said_at_once():
    found = problems({"v": 2, "servce": "web", "kind": "explode", "reason": 3, "requested_by": " "})

    assert found == [
        'servce: unknown field; did you mean "service"?',
        "v: is no version that is known here; write 1",
        "service: is missing; a service of the inventory",
        "kind: is none of the kinds; one of failover, restart, rejoin, restore, rollback, drain, shift",
        "reason: is no text; say why, in 1 to 500 characters",
        "requested_by: is empty; say who, in 1 to 128 characters",
        "idempotency_key: is missing; 8 to 128 printable ASCII characters without blanks; "
        "a new one for each new wish",
    ]


WRONG = [
    ("v", True),
    ("v", "1"),
    ("service", "a b"),
    ("kind", ["restart"]),
    ("scope", 7),
    ("playbook", ""),
    ("reason", "x" * 501),
    ("requested_by", None),
    ("idempotency_key", "short"),
    ("idempotency_key", "x" * 129),
    ("idempotency_key", "with blank in it"),
    ("dry_run", "yes"),
    ("dry_run", 1),
    ("evidence", [1]),
    ("deadline_s", True),
    ("deadline_s", 0),
    ("deadline_s", 86401),
    ("deadline_s", "60"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_here_and_by_the_schema_and_never_repeated(name, value):
    _, wrong = parse_request(BODY | {name: value})

    assert [w.field for w in wrong] == [name]
    assert not REQUEST.is_valid(BODY | {name: value})
    if isinstance(value, str) and len(value) > 4:
        assert value not in str(wrong[0])


def test_a_line_end_behind_a_name_is_refused():
    """Python's ``$`` would let it through (and so does the schema's pattern in Python, not in ECMAScript)."""
    assert [w.field for w in parse_request(BODY | {"service": "web\n"})[1]] == ["service"]


def test_evidence_has_a_size_that_only_the_desk_can_judge():
    _, wrong = parse_request(BODY | {"evidence": {"log": "x" * 9000}})

    assert [w.problem for w in wrong] == ["is longer than 8192 bytes as JSON"]


RIGHT = [
    {},
    {"scope": "web1", "playbook": "http-instance", "dry_run": True, "deadline_s": 60.5},
    {"scope": None, "playbook": None, "dry_run": None, "evidence": None, "deadline_s": None},
    {"evidence": {"seen": [1, {"deep": None}]}},
    {"v": 1.0},
]


@pytest.mark.parametrize("more", RIGHT)
def test_what_is_read_here_is_valid_by_the_schema(more):
    assert problems(BODY | more) == []
    assert REQUEST.is_valid(BODY | more)


NAMES = st.sampled_from([*BODY, "scope", "playbook", "dry_run", "evidence", "deadline_s", "surprise"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 90000),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=140),
    st.sampled_from([*RequestKind, "web", "shop-4711", 1, 1.0]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(
    changes=st.dictionaries(NAMES, VALUES, max_size=3), left_out=st.sets(st.sampled_from([*BODY]), max_size=2)
)
def test_parser_and_schema_agree_on_every_request(changes, left_out):
    body = {key: value for key, value in (BODY | changes).items() if key not in left_out}

    assert (problems(body) == []) is REQUEST.is_valid(body), problems(body)


@given(
    body=st.dictionaries(st.sampled_from(["v", "run", "idempotency_key", "rnu"]), VALUES, max_size=4),
    version=st.booleans(),
)
def test_parser_and_schema_agree_on_every_question(body, version):
    body = body | ({"v": 1} if version else {})

    assert (problems(body, parse_status) == []) is STATUS.is_valid(body), problems(body, parse_status)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"v": 1, "run": 7}, (7, None)),
        ({"v": 1, "idempotency_key": "shop-4711"}, (None, "shop-4711")),
        ({"v": 1, "run": None, "idempotency_key": "shop-4711"}, (None, "shop-4711")),
    ],
)
def test_a_question_is_after_a_run_or_after_a_key(body, found):
    question, wrong = parse_status(body)

    assert wrong == ()
    assert (question.run, question.idempotency_key) == found


@pytest.mark.parametrize(
    "body", [{"v": 1}, {"v": 1, "run": 7, "idempotency_key": "shop-4711"}, {"v": 1, "run": 0}, {"run": 1}]
)
def test_a_question_after_nothing_or_both_is_refused(body):
    assert parse_status(body)[0] is None
    assert not STATUS.is_valid(body)


@pytest.mark.parametrize("file", sorted(CONTRACT.glob("*.json")), ids=lambda f: f.name)
def test_every_shipped_schema_is_one(file: Path):
    jsonschema.Draft202012Validator.check_schema(json.loads(file.read_text()))


def nested(depth: int) -> dict:
    evidence: dict = {}
    for _ in range(depth):
        evidence = {"a": evidence}
    return evidence


@pytest.mark.parametrize(
    "evidence",
    [{"x": float("nan")}, {"x": -float("inf")}, {"x": 10**5000}, nested(200), {"x": [nested(900)]}],
)
def test_evidence_that_no_store_would_take_is_refused_and_not_tripped_over(evidence):
    """Python reads NaN as JSON, and PostgreSQL does not: the request would end without an answer."""
    (problem,) = problems(BODY | {"evidence": evidence})

    assert problem.startswith("evidence: is ")


def test_evidence_may_be_nested_as_deeply_as_anybody_nests():
    assert problems(BODY | {"evidence": nested(30)}) == []


def test_who_asks_is_named_in_characters_that_every_store_takes():
    request, _ = parse_request(BODY | {"requested_by": "an\0a\ud800"})

    assert request.requested_by == "an\N{REPLACEMENT CHARACTER}a?"
