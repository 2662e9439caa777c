"""Which worker hosts which client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.hosting import Wish, assign_clients
from federa.errors import BadInput

ANY = Wish()


def test_clients_are_dealt_in_turn():
    assert assign_clients(5, {"b": ANY, "a": ANY}) == {0: "a", 1: "b", 2: "a", 3: "b", 4: "a"}


def test_a_worker_gets_what_it_insists_on_and_nothing_else():
    hosts = assign_clients(5, {"a": ANY, "b": Wish(clients=(0, 3))})
    assert hosts == {0: "b", 1: "a", 2: "a", 3: "b", 4: "a"}


def test_workers_with_data_of_their_own_host_a_client_each():
    own = Wish(own_data=True)
    assert assign_clients(2, {"a": own, "b": own}) == {0: "a", 1: "b"}
    assert assign_clients(3, {"a": Wish(clients=(2,), own_data=True), "b": ANY}) == {0: "b", 1: "b", 2: "a"}


@pytest.mark.parametrize(
    ("clients", "wishes", "words"),
    [
        (3, {"a": Wish(clients=(3,)), "b": ANY}, "worker a hosts client 3, but the experiment has 0 to 2"),
        (3, {"a": Wish(clients=(1,)), "b": Wish(clients=(1,))}, "client 1 is hosted by both a and b"),
        (3, {"a": Wish(clients=(1,))}, "no worker hosts the clients 0, 2"),
        (2, {}, "no worker hosts the clients 0, 1"),
        (4, {"a": Wish(own_data=True), "b": ANY}, "worker a trains on a file of its own, so it must host one client"),
        (1, {"a": Wish(clients=(0,)), "b": Wish(own_data=True)}, "worker b .* must host one client, not 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(clients, wishes, words):
    with pytest.raises(BadInput, match=words):
        assign_clients(clients, wishes)


@given(
    clients=st.integers(1, 12),
    wishes=st.dictionaries(
        st.sampled_from("abcd"), st.lists(st.integers(0, 11), max_size=3, unique=True).map(tuple), min_size=1
    ),
)
def test_every_client_has_one_host_or_the_whole_is_refused(clients, wishes):
    wanted = {name: Wish(clients=chosen) for name, chosen in wishes.items()}
    try:
        hosts = assign_clients(clients, wanted)
    except BadInput:
        named = [client for chosen in wishes.values() for client in chosen]
        alone = all(wishes.values()) and set(named) != set(range(clients))
        assert len(set(named)) < len(named) or max(named) >= clients or alone
        return
    assert list(hosts) == list(range(clients))
    for name, chosen in wishes.items():
        hosted = {client for client, host in hosts.items() if host == name}
        assert hosted == set(chosen) if chosen else True
    # Those that did not insist carry alike, to within one client.
    dealt = [sum(host == name for host in hosts.values()) for name, chosen in wishes.items() if not chosen]
    assert not dealt or max(dealt) - min(dealt) <= 1
    # Who connected first does not matter.
    assert assign_clients(clients, dict(reversed(wanted.items()))) == hosts
