import uuid
from collections import Counter

import httpx
import pytest

from bowerbird.client import Client
from bowerbird.errors import InputError
from bowerbird.log.dead_letters import read_dead_letters
from tests.server.process import ServerProcess


def click(user: int = 3, item: str = "i1", **more: object) -> dict[str, object]:
    return {"type": "click", "id": uuid.uuid4().hex, "user": user, "item": item, **more}


def test_an_acknowledged_event_is_seen_by_the_next_request(client: Client) -> None:
    before = client.entity("user", 11).features["clicks_1h"]
    lsn = client.score("home", 11, ["i1"]).lsn
    for number in range(1, 20):
        assert client.send_event(click(11)).accepted == 1
        now = client.entity("user", 11)
        assert now.features["clicks_1h"] == before + number
        assert client.score("home", 11, ["i1"]).lsn == lsn + number


def test_a_batch_is_answered_event_by_event(client: Client) -> None:
    once = click()
    answer = client.send_events([once, {"type": "clck"}, once, click(), {"type": "click", "user": 3}, {}])
    assert [each.status for each in answer.events] == [
        "accepted", "rejected", "duplicate", "accepted", "rejected", "rejected",
    ]  # fmt: skip
    assert (answer.accepted, answer.duplicate, answer.rejected) == (2, 1, 3)
    assert "Did you mean 'click'" in answer.events[1].reason
    assert answer.events[0].id == once["id"]


def test_a_repeated_event_is_a_duplicate_and_is_not_counted_twice(client: Client) -> None:
    event = click(12)
    before = client.entity("user", 12).features["clicks_1h"]
    outcomes = Counter(client.send_event(event).events[0].status for _ in range(5))
    assert outcomes == {"accepted": 1, "duplicate": 4}
    assert client.entity("user", 12).features["clicks_1h"] == before + 1


def test_an_imported_record_is_a_duplicate_too(client: Client) -> None:
    answer = client.send_events(
        [
            {"type": "exposure", "id": "x5", "user": 3, "item": "i1"},
            {"type": "click", "id": "x5", "user": 3, "item": "i1"},
        ]
    )
    assert [each.status for each in answer.events] == ["duplicate", "accepted"]


@pytest.mark.parametrize(
    "change",
    [
        {"user": "three"},
        {"item": ""},
        {"item": None},
        {"itme": "i1"},
        {"time": "yesterday"},
        {"time": "2999-01-01T00:00:00Z"},
        {"time": 12},
        {"slate_id": "made up"},
        {"type": ["click"]},
        {"type": None},
    ],
)
def test_a_single_bad_event_is_a_problem_and_a_dead_letter(
    shared: ServerProcess, client: Client, change: dict[str, object]
) -> None:
    count = sum(1 for _ in read_dead_letters(shared.workspace.dead_letter_folder, "live"))
    with pytest.raises(InputError, match="rejected"):
        client.send_event({**click(), **change})
    assert sum(1 for _ in read_dead_letters(shared.workspace.dead_letter_folder, "live")) == count + 1


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"events": {}}',
        b'{"events": [1]}',
        b'{"events": [], "more": 1}',
        b'{"type": "order", "amount": NaN}',
    ],
)
def test_bodies_that_are_not_events(shared: ServerProcess, body: bytes) -> None:
    answer = httpx.post(shared.address + "/v1/events", content=body, trust_env=False)
    assert answer.status_code == 422
    assert answer.json()["code"] == "input"


def test_a_batch_has_a_limit(client: Client) -> None:
    with pytest.raises(InputError, match="10,001"):
        client.send_events([{}] * 10_001)
    assert client.send_events([]).accepted == 0


def test_an_exposure_echoes_its_slate_and_a_new_item_can_be_recalled(client: Client) -> None:
    slate = client.score("home", 5, ["new item"])
    exposure = {
        "type": "exposure",
        "user": 5,
        "item": "new item",
        "slate_id": slate.slate_id,
        "page": 1,
        "position": 0,
    }
    assert client.send_event(exposure).accepted == 1
    client.send_events([click(user, "new item") for user in range(20)] * 1)
    client.send_events([click(user, "new item") for user in range(20)])
    popular = {each.item for each in client.recommend("home", 77, 30).items}
    assert popular  # counted at most once a second, so that the new item may come a moment later


def test_table_rows_change_attributes_at_once(client: Client) -> None:
    before = client.score("home", 3, ["i7"]).scores["click"]
    client.send_event({"type": "items", "id": uuid.uuid4().hex, "item": "i7", "genre": "g0", "price": 5000.0})
    assert client.entity("item", "i7").features["price"] == 5000.0
    assert client.score("home", 3, ["i7"]).scores["click"] != before
