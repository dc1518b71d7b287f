from collections import Counter

import pytest

from bowerbird.client import Client
from bowerbird.errors import InputError
from bowerbird.serving.slates import iterate_slates
from tests.server.process import ServerProcess


def genre(item: object) -> int:
    return int(str(item)[1:]) % 4


def test_a_slate_is_ranked_diverse_and_of_the_asked_size(client: Client) -> None:
    slate = client.recommend("home", 3)
    assert len(slate.items) == 6
    scores = [each.score for each in slate.items]
    assert scores == sorted(scores, reverse=True)
    assert max(Counter(genre(each.item) for each in slate.items).values()) <= 3
    assert all(each.channels for each in slate.items)
    assert len(client.recommend("home", 3, 12).items) == 12
    assert slate.trace is None


def test_seen_and_excluded_items_are_left_out(client: Client) -> None:
    first = client.recommend("home", 8, 10)
    shown = [each.item for each in first.items]
    client.send_event({"type": "order", "user": 8, "item": shown[0], "amount": 1.0})
    again = client.recommend("home", 8, 10, exclude=[shown[1]], trace=True)
    assert not {shown[0], shown[1]} & {each.item for each in again.items}
    assert again.trace is not None
    assert {"item": shown[0], "filter": "seen"} in again.trace["dropped"]
    assert {"item": shown[1], "filter": "excluded"} in again.trace["dropped"]


def test_a_trace_explains_every_candidate(client: Client) -> None:
    slate = client.recommend("home", 3, trace=True)
    trace = slate.trace
    assert trace is not None
    assert set(trace["recalled"]) == {"co_visitation_0", "popular_1"}
    ranked = {each["item"]: each for each in trace["ranked"]}
    assert [each["rank"] for each in trace["ranked"]] == list(range(len(ranked)))
    for place, item in enumerate(slate.items):
        assert ranked[item.item]["score"] == item.score
        moved = [each for each in trace["moved"] if each["item"] == item.item]
        assert moved == [] or moved[0]["to"] == place


def test_the_slate_is_logged_with_all_candidates_and_what_was_shown(shared: ServerProcess, client: Client) -> None:
    answer = client.recommend("home", 3)
    slate = next(each for each in iterate_slates(shared.workspace.slates_folder) if each.slate_id == answer.slate_id)
    assert slate.kind == "recommend"
    assert [slate.candidates[position] for position in slate.shown] == [each.item for each in answer.items]
    assert len(slate.ranking) == len(slate.candidates) >= 6


def test_wishes_are_checked(client: Client) -> None:
    for count in (0, -1, 5_001):
        with pytest.raises(InputError, match="count"):
            client.recommend("home", 3, count)
    with pytest.raises(InputError, match="user"):
        client.recommend("home", "x")
