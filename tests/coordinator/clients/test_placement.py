"""Which worker hosts which client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.clients.placement import PlacementRequest, assign_clients
from federa.errors import BadInput

ANY = PlacementRequest()
OWN = PlacementRequest(own_data=True)


def test_clients_are_dealt_in_turn():
    assert assign_clients(5, 2, {"b": ANY, "a": ANY}) == {0: "a", 1: "b", 2: "a", 3: "b", 4: "a"}


def test_a_worker_gets_what_it_insists_on_and_nothing_else():
    hosts = assign_clients(5, 2, {"a": ANY, "b": PlacementRequest(clients=(0, 3))})
    assert hosts == {0: "b", 1: "a", 2: "a", 3: "b", 4: "a"}


def test_workers_with_data_of_their_own_host_a_client_each():
    assert assign_clients(2, 2, {"a": OWN, "b": OWN}) == {0: "a", 1: "b"}
    assert assign_clients(3, 2, {"a": PlacementRequest(clients=(2,), own_data=True), "b": ANY}) == {
        0: "b",
        1: "b",
        2: "a",
    }
    # One comes, another is still expected.
    assert assign_clients(2, 2, {"b": OWN}) == {0: "b"}


def test_who_comes_late_gets_what_was_left_for_it():
    early = assign_clients(6, 3, {"b": ANY})
    assert early == {0: "b", 3: "b"}
    second = assign_clients(6, 3, {"c": ANY}, early)
    assert second == {0: "b", 1: "c", 3: "b", 4: "c"}
    assert assign_clients(6, 3, {"a": ANY}, second) == {0: "b", 1: "c", 2: "a", 3: "b", 4: "c", 5: "a"}


def test_who_comes_late_may_insist_on_what_is_free():
    early = assign_clients(4, 2, {"a": PlacementRequest(clients=(0, 1))})
    assert early == {0: "a", 1: "a"}
    assert assign_clients(4, 2, {"b": PlacementRequest(clients=(2, 3))}, early) == {0: "a", 1: "a", 2: "b", 3: "b"}
    with pytest.raises(BadInput, match="client 1 is hosted by both a and b"):
        assign_clients(4, 2, {"b": PlacementRequest(clients=(1, 2))}, early)


def test_with_nobody_new_nothing_changes():
    hosts = {0: "a", 1: "b", 2: "a"}
    assert assign_clients(3, 2, {}, hosts) == hosts
    assert assign_clients(3, 3, {}, {0: "a"}) == {0: "a"}


@pytest.mark.parametrize(
    ("clients", "devices", "requests", "words"),
    [
        (
            3,
            2,
            {"a": PlacementRequest(clients=(3,)), "b": ANY},
            "worker a hosts client 3, but the experiment has 0 to 2",
        ),
        (
            3,
            2,
            {"a": PlacementRequest(clients=(1,)), "b": PlacementRequest(clients=(1,))},
            "client 1 is hosted by both a and b",
        ),
        (
            3,
            1,
            {"a": PlacementRequest(clients=(1,))},
            "no worker hosts the clients 0, 2; name them with federa-worker --clients",
        ),
        (4, 2, {"a": OWN, "b": ANY}, "worker a trains on a file of its own, so it must host one client, not 2"),
        (1, 2, {"a": PlacementRequest(clients=(0,)), "b": OWN}, "worker b .* must host one client, not 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(clients, devices, requests, words):
    with pytest.raises(BadInput, match=words):
        assign_clients(clients, devices, requests)


REQUESTS = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.integers(0, 11), max_size=3, unique=True).map(tuple), min_size=1
)


@given(clients=st.integers(1, 12), requests=REQUESTS)
def test_every_client_has_one_host_or_the_whole_is_refused(clients, requests):
    wanted = {name: PlacementRequest(clients=chosen) for name, chosen in requests.items()}
    try:
        hosts = assign_clients(clients, len(wanted), wanted)
    except BadInput:
        named = [client for chosen in requests.values() for client in chosen]
        alone = all(requests.values()) and set(named) != set(range(clients))
        assert len(set(named)) < len(named) or max(named) >= clients or alone
        return
    assert list(hosts) == list(range(clients))
    for name, chosen in requests.items():
        hosted = {client for client, host in hosts.items() if host == name}
        assert hosted == set(chosen) if chosen else True
    # Those that did not insist carry alike, to within one client.
    dealt = [sum(host == name for host in hosts.values()) for name, chosen in requests.items() if not chosen]
    assert not dealt or max(dealt) - min(dealt) <= 1
    # Who connected first does not matter.
    assert assign_clients(clients, len(wanted), dict(reversed(wanted.items()))) == hosts


@given(clients=st.integers(1, 20), order=st.permutations("abcde"), devices=st.integers(1, 5), first=st.integers(1, 5))
def test_whoever_comes_late_all_clients_are_hosted_alike_once_everybody_is_there(clients, order, devices, first):
    # So many come together, the others one by one.
    names = order[:devices]
    hosts = assign_clients(clients, devices, dict.fromkeys(names[:first], ANY))
    for name in names[first:]:
        more = assign_clients(clients, devices, {name: ANY}, hosts)
        assert {client: more[client] for client in hosts} == hosts, "nobody loses a client"
        hosts = more
    assert list(hosts) == list(range(clients))
    carried = [list(hosts.values()).count(name) for name in names]
    assert max(carried) - min(carried) <= 1
