import math

import httpx
import msgspec
import pytest

from bowerbird.client import Client
from bowerbird.errors import InputError, NotFoundError
from bowerbird.serving.slates import iterate_slates
from tests.server.process import ServerProcess

SCORE = "/v1/scenes/home/score"


CLOCK = 1e-6
"""How far two answers may lie apart because the clock went on between them: ages are features."""
ROUNDING = 1e-6
"""How far PyTorch's answers for two equal rows may lie apart, relatively: what ends a vector has a code of its own."""


def test_every_candidate_gets_a_score_per_label_and_the_same_one_again(client: Client) -> None:
    answer = client.score("home", 3, ["i1", "i2", "i1"], context={"page": 1, "speed": 0.5})
    assert set(answer.scores) == {"click", "order"}
    click, order = answer.scores["click"], answer.scores["order"]
    assert click[0] == pytest.approx(click[2], rel=ROUNDING)
    assert all(0 < each < 1 for each in click + order)
    assert answer.ranking[1] == pytest.approx(click[1] + 2 * order[1], abs=1e-6)


def test_a_candidate_never_seen_and_a_new_user_are_scored(client: Client) -> None:
    answer = client.score("home", 987654, ["never seen", "nor this"])
    assert all(math.isfinite(each) for each in answer.ranking)


def test_ids_are_coerced_as_declared(client: Client) -> None:
    as_text, as_number = (client.score("home", user, ["i1"]).scores["click"] for user in ("3", 3))
    assert as_text == pytest.approx(as_number, abs=CLOCK)
    for user in ("three", "", 1.5, None, True, [1]):
        with pytest.raises(InputError):
            client.score("home", user, ["i1"])  # type: ignore[arg-type]


def test_no_candidates_is_an_empty_answer(client: Client) -> None:
    answer = client.score("home", 3, [])
    assert answer.scores == {"click": [], "order": []}
    assert answer.ranking == []


def test_five_thousand_candidates_are_scored_and_one_more_is_refused(client: Client) -> None:
    many = [f"i{number}" for number in range(5_000)]
    assert len(client.score("home", 3, many).ranking) == 5_000
    with pytest.raises(InputError, match="5,001"):
        client.score("home", 3, [*many, "i1"])


def test_given_features_override_for_all_or_for_one(client: Client) -> None:
    plain = client.score("home", 3, ["i1", "i2"]).scores["click"]
    same = client.score("home", 3, ["i1", "i2"], features={}).scores["click"]
    dear = client.score("home", 3, ["i1", "i2"], features={"price": 1e4}).scores["click"]
    one = client.score("home", 3, [{"id": "i1", "features": {"price": 1e4}}, "i2"]).scores["click"]
    assert plain == pytest.approx(same, abs=CLOCK)
    assert all(abs(a - b) > 10 * CLOCK for a, b in zip(dear, plain, strict=True))
    assert one == pytest.approx([dear[0], plain[1]], abs=CLOCK)
    as_other = client.score("home", 3, ["i1"], features={"genre": "g2", "user": 4, "city": None})
    assert abs(as_other.scores["click"][0] - plain[0]) > 10 * CLOCK


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"prise": 1}, "'price'"),
        ({"price": "much"}, "number"),
        ({"price": True}, "number"),
        ({"user": "x"}, "'user'"),
        ({"history": []}, "cannot be given"),
        ({"hour": 3}, "cannot be given"),
    ],
)
def test_features_that_cannot_be_given(client: Client, features: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        client.score("home", 3, ["i1"], features=features)


def test_a_request_feature_is_not_given_per_candidate(client: Client) -> None:
    with pytest.raises(InputError, match="belongs to the request"):
        client.score("home", 3, [{"id": "i1", "features": {"user": 4}}])


def test_context_columns_are_checked(client: Client) -> None:
    with pytest.raises(InputError, match="Did you mean 'page'"):
        client.score("home", 3, ["i1"], context={"pgae": 1})
    with pytest.raises(InputError, match="declared type is integer"):
        client.score("home", 3, ["i1"], context={"page": "first"})


def test_names_are_checked(client: Client) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'home'"):
        client.score("hoem", 3, ["i1"])
    with pytest.raises(NotFoundError, match="Did you mean 'din'"):
        client.score("home", 3, ["i1"], model="dinn")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"user": 3, "candidates": [NaN]}',
        b'{"user": 3, "candidates": ["i1"], "features": {"price": NaN}}',
        b'{"user": 3, "candidates": ["i1"], "features": {"price": Infinity}}',
        b'{"user": 3}',
        b'{"user": 3, "candidates": "i1"}',
        b'{"user": 3, "candidates": [["i1"]]}',
        b'{"user": 3, "candidates": [{"id": "i1", "extra": 1}]}',
        b'{"user": 3, "candidates": ["i1"], "candidate": []}',
        b'{"user": 3, "candidates": ["\xff"]}',
        b'{"user": 3, "candidates": ["\\ud800"]}',
        b'{"user": 99999999999999999999999, "candidates": ["i1"]}',
        b'{"user": 9223372036854775808, "candidates": ["i1"]}',
        b'{"user": 3, "candidates": [""]}',
        b'{"user": 3, "candidates": ["i1"], "context": {"speed": 1' + b"0" * 400 + b"}}",
        b'{"user": 3, "candidates": ["i1"], "context": {"speed": 1e999}}',
    ],
)
def test_bodies_that_are_not_requests_are_problems(shared: ServerProcess, body: bytes) -> None:
    answer = httpx.post(shared.address + SCORE, content=body, trust_env=False)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "input"
    assert problem["detail"] and problem["remedy"]
    assert problem["instance"] == answer.headers["x-request-id"]


def test_a_slate_is_logged_for_each_answer(shared: ServerProcess, client: Client) -> None:
    answer = client.score("home", 3, ["i1", {"id": "i2", "features": {"price": 3.5}}], context={"page": 2})
    slate = next(each for each in iterate_slates(shared.workspace.slates_folder) if each.slate_id == answer.slate_id)
    assert (slate.lsn, slate.user, slate.candidates, slate.context) == (
        answer.lsn,
        3,
        ["i1", "i2"],
        {"page": 2},
    )
    assert slate.candidate_given == {1: {"price": 3.5}}
    assert slate.features.numbers["price"].tolist() == pytest.approx([0.1, 0.2])
    assert slate.scores["click"].tolist() == answer.scores["click"]
    assert (slate.model, slate.version, slate.scene, slate.kind) == ("din", 1, "home", "score")


def test_a_request_id_is_echoed(shared: ServerProcess) -> None:
    body = msgspec.json.encode({"user": 3, "candidates": ["i1"]})
    answer = httpx.post(shared.address + SCORE, content=body, headers={"x-request-id": "abc-1"}, trust_env=False)
    assert answer.headers["x-request-id"] == "abc-1"
