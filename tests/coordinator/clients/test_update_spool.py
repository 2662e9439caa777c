"""From an upload's first byte to its acknowledgement: what is whole is kept once, what broke off is gone on with."""

from __future__ import annotations

import asyncio
import os
import threading
from array import array

import pytest
from update_fixtures import GOOD, OTHER, START, UpdateFixture, int8, state

from coordinator.clients import update_spool as intake
from coordinator.clients.errors import UpdateLate, UpdateRefused, UploadBroken
from coordinator.clients.update_checks import distance_limit
from coordinator.storage.ledger_types import LedgerFailure
from federa.tensors.state import digest_of, pack
from protos.federation_pb2 import Chunk
from protos.streams import data_chunks, header_of


@pytest.fixture
def office(tmp_path):
    office = UpdateFixture(tmp_path)
    yield office
    office.ledger.close()


def test_an_update_is_kept_and_recorded(office):
    assert office.take().already_accepted is False
    path = office.folder.update(1, 2, digest_of(GOOD))
    assert office.files == [path]
    assert path.read_bytes() == GOOD
    (row,) = office.ledger.contributions(1)
    assert (row["client"], row["device"], row["examples"], row["sha256"]) == (2, "ada", 5, digest_of(GOOD))
    assert (row["loss"], row["after_s"], array("f", row["step_ms"]).tolist()) == (0.5, 0.25, [1.5])
    assert row["distance"] == pytest.approx(10**0.5)  # ten values, each moved by 1
    assert len(GOOD) < office.ledger.bytes_up < len(GOOD) + 200


def test_the_same_update_again_is_acknowledged_again(office):
    assert office.take().already_accepted is False
    assert office.take().already_accepted is True
    assert len(office.files) == 1
    assert len(office.ledger.contributions(1)) == 1


def test_another_update_of_the_same_client_leaves_the_first_untouched(office):
    office.take(GOOD)
    kept = office.folder.update(1, 2, digest_of(GOOD))
    before = kept.stat().st_ino, kept.stat().st_mtime_ns
    assert office.take(OTHER).already_accepted is True
    assert kept.read_bytes() == GOOD
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == before
    (row,) = office.ledger.contributions(1)
    assert row["sha256"] == digest_of(GOOD)


@pytest.mark.parametrize("late", [GOOD, OTHER])
def test_a_second_update_that_comes_after_its_round_was_folded_leaves_nothing(office, late):
    # A retry over a bad link can arrive so late. Nobody would empty the spool of that round again.
    office.take(GOOD)
    office.folder.tidy(states={office.start}, updates=set(), round_=1)
    assert office.take(late).already_accepted is True
    assert office.files == []


def test_other_clients_and_rounds_stand_beside_it(office):
    for which in ({"client": 2}, {"client": 3}, {"round_": 2}):
        assert office.take(**which).already_accepted is False
    assert len(office.files) == 3


# ---------------------------------------------------------------- broken off


def test_an_upload_that_broke_off_goes_on_where_it_was(office):
    with pytest.raises(UploadBroken, match="the upload of client 2 for round 1 broke off: ends after 100 of"):
        office.take(most=100)
    assert [path.stat().st_size for path in office.files] == [100]
    assert office.take().already_accepted is False
    assert office.offsets == [0, 100]
    assert office.folder.update(1, 2, digest_of(GOOD)).read_bytes() == GOOD
    assert len(office.files) == 1
    # The bytes of both streams are counted: two headers, and the update's once.
    assert len(GOOD) + 100 < office.ledger.bytes_up < len(GOOD) + 300


def test_a_connection_that_dies_leaves_its_beginning(office):
    async def dying():
        yield header_of(GOOD, office.update())
        yield Chunk(data=GOOD[:40])
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(office.taking(dying()))
    assert [path.read_bytes() for path in office.files] == [GOOD[:40]]
    assert office.take().already_accepted is False
    assert office.offsets == [0, 40]


def test_another_process_goes_on_with_what_an_earlier_one_left(office):
    with pytest.raises(UploadBroken):
        office.take(most=100)
    again = UpdateFixture(office.folder.path)
    assert again.take().already_accepted is False
    assert again.offsets == [100]
    again.ledger.close()


def test_a_whole_file_that_was_not_recorded_is_not_sent_again(office):
    # A coordinator that is killed between the last byte and the ledger leaves this.
    office.folder.partial(1, 2, digest_of(GOOD)).write_bytes(GOOD)
    assert office.take().already_accepted is False
    assert office.offsets == [len(GOOD)]
    assert office.ledger.bytes_up < 200


@pytest.mark.parametrize("beginning", [b"\0" * 100, GOOD[:99] + b"\0", b"\0" * len(GOOD)])
def test_a_beginning_that_is_another_one_s_is_thrown_away_and_the_upload_starts_anew(office, beginning):
    # After a power cut a file may have its length and not its bytes.
    office.folder.partial(1, 2, digest_of(GOOD)).write_bytes(beginning)
    with pytest.raises(UploadBroken, match="must be sent anew: the bytes do not have the SHA-256"):
        office.take()
    assert office.files == []
    assert office.take().already_accepted is False
    assert office.offsets == [len(beginning), 0]


def test_a_beginning_that_is_longer_than_the_update_is_thrown_away(office):
    office.folder.partial(1, 2, digest_of(GOOD)).write_bytes(GOOD + b"more")
    assert office.take().already_accepted is False
    assert office.offsets == [0]


def test_the_beginning_of_another_update_of_that_client_is_thrown_away(office):
    # A worker that was restarted trained again, and on a GPU came to other bytes.
    with pytest.raises(UploadBroken):
        office.take(OTHER, most=100)
    assert office.take(GOOD).already_accepted is False
    assert office.offsets == [0, 0]
    assert office.files == [office.folder.update(1, 2, digest_of(GOOD))]


def test_a_second_stream_takes_over_from_a_dead_one(office):
    async def scenario():
        silent = asyncio.Event()

        async def dead():
            yield header_of(GOOD, office.update())
            yield Chunk(data=GOOD[:100])
            silent.set()
            await asyncio.Event().wait()

        first = asyncio.ensure_future(office.taking(dead()))
        await silent.wait()
        reply = await asyncio.wait_for(office.sending(), 5)
        with pytest.raises(UploadBroken, match="another stream"):
            await first
        return reply

    assert asyncio.run(scenario()).already_accepted is False
    assert office.offsets == [0, 100]
    assert len(office.ledger.contributions(1)) == 1


def test_an_upload_that_brings_nothing_is_ended_and_its_beginning_stays(office, monkeypatch):
    monkeypatch.setattr(intake, "IDLE_LIMIT_S", 0.05)

    async def idle():
        yield header_of(GOOD, office.update())
        yield Chunk(data=GOOD[:60])
        await asyncio.Event().wait()

    with pytest.raises(UploadBroken, match=r"brought nothing for 0\.05 s"):
        asyncio.run(office.taking(idle()))
    assert [path.stat().st_size for path in office.files] == [60]


def test_two_streams_of_one_update_count_once(office):
    async def both():
        return await asyncio.gather(office.sending(), office.sending(), return_exceptions=True)

    replies = asyncio.run(both())
    # The second took over from the first, or found it done.
    assert [reply.already_accepted for reply in replies if not isinstance(reply, UploadBroken)][:1] == [False]
    assert len(office.ledger.contributions(1)) == len(office.files) == 1


# ---------------------------------------------------------------- a round that is closed meanwhile


def test_an_update_whose_round_was_closed_while_it_came_is_late_and_leaves_nothing(office):
    office.wanted = False
    with pytest.raises(UpdateLate, match="update of client 2: round 1 was closed while it came"):
        office.take()
    assert office.files == []
    assert office.ledger.contributions(1) == []


def test_what_broke_off_goes_with_its_round(office):
    for which in ({"client": 1}, {"client": 2}, {"round_": 2}):
        with pytest.raises(UploadBroken):
            office.take(most=50, **which)
    asyncio.run(office.spool.forget(1))
    assert office.files == [office.folder.partial(2, 2, digest_of(GOOD))]


class Gate:
    """Holds a call up in its thread until `open`, the first time."""

    def __init__(self, monkeypatch, owner, name):
        self.reached, self.opened = threading.Event(), threading.Event()
        original = getattr(owner, name)

        def held(*arguments, **named):
            if not self.reached.is_set():
                self.reached.set()
                assert self.opened.wait(10)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, held)

    async def until_reached(self):
        assert await asyncio.to_thread(self.reached.wait, 10)

    def open(self):
        self.opened.set()


def test_a_round_that_closes_waits_for_what_is_being_recorded(office, monkeypatch):
    gate = Gate(monkeypatch, office.ledger, "accepted")

    async def scenario():
        taking = asyncio.ensure_future(office.sending())
        await gate.until_reached()
        office.wanted = False  # the round is closed at this very moment
        settled = asyncio.ensure_future(office.spool.settled())
        _, waiting = await asyncio.wait({settled}, timeout=0.05)
        assert waiting and office.ledger.contributions(1) == []
        gate.open()
        await settled
        rows = office.ledger.contributions(1)
        return rows, await taking

    rows, reply = asyncio.run(scenario())
    # It is acknowledged, so it had to be among those that the round folds.
    assert reply.already_accepted is False
    assert [row["client"] for row in rows] == [2]


@pytest.mark.parametrize("step", ["replace", "accepted"])
def test_an_update_whose_connection_dies_while_it_is_recorded_is_recorded_once(office, monkeypatch, step):
    gate = Gate(monkeypatch, os if step == "replace" else office.ledger, step)

    async def scenario():
        first = asyncio.ensure_future(office.sending())
        await gate.until_reached()
        first.cancel()
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(office.sending())  # the worker is back at once
        await asyncio.sleep(0.05)
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(scenario()).already_accepted is True
    assert office.files == [office.folder.update(1, 2, digest_of(GOOD))]
    assert len(office.ledger.contributions(1)) == 1
    # Its bytes are counted once. The second stream had to bring its header at most.
    assert office.ledger.bytes_up < 2 * len(GOOD)


# ---------------------------------------------------------------- what cannot be written


@pytest.mark.parametrize("step", ["fsync", "replace", "ledger"])
def test_a_failing_disk_is_never_acknowledged(office, monkeypatch, step):
    error = LedgerFailure("disk I/O error") if step == "ledger" else OSError(5, "Input/output error")

    def broken(*arguments, **named):
        raise error

    monkeypatch.setattr(office.ledger if step == "ledger" else os, "accepted" if step == "ledger" else step, broken)
    with pytest.raises(type(error), match="error"):
        office.take()
    monkeypatch.undo()
    assert office.ledger.contributions(1) == []
    # The worker tries again when the disk is well.
    assert office.take().already_accepted is False
    assert office.folder.update(1, 2, digest_of(GOOD)).read_bytes() == GOOD


# ---------------------------------------------------------------- how far an update may be


@pytest.mark.parametrize(
    ("distances", "factor", "limit"),
    [
        ([], 10.0, None),  # of the first round nothing is known
        ([1.0, 3.0, 100.0], 10.0, 30.0),
        ([1.0, 3.0], 2.0, 4.0),
        ([0.0, 0.0, 5.0], 10.0, None),  # nobody moved: everything would be too far
        ([1.0, 3.0, 100.0], None, None),
    ],
)
def test_the_limit_is_a_multiple_of_the_median_of_earlier_rounds(distances, factor, limit):
    assert distance_limit(distances, factor) == limit


@pytest.mark.parametrize(("factor", "farthest"), [(3.0, 2.9), (10.0, 9.9), (None, 1e30)])
def test_an_update_beyond_the_norm_limit_is_refused(tmp_path, factor, farthest):
    office = UpdateFixture(tmp_path, norm_limit=factor)
    # In the first round everybody may go as far as he likes; all values move by 1 in the median.
    for client, value in enumerate((1.0, 1.0, 1e6)):
        assert office.take(pack(state(value)), client=client).already_accepted is False
    if factor is not None:
        words = rf"it is [\d.e+]+ from the broadcast \(2-norm\), at most {factor * 10**0.5:.3g} is taken \("
        with pytest.raises(UpdateRefused, match=words):
            office.take(pack(state(factor + 0.1)), round_=2)
        assert len(office.files) == 3
    assert office.take(pack(state(farthest)), round_=2).already_accepted is False
    office.ledger.close()


def test_an_update_in_differences_is_measured_by_its_differences(tmp_path):
    office = UpdateFixture(tmp_path, wire="int8", norm_limit=2.0)
    for round_, value, taken in ((1, 1.0, True), (2, 1.9, True), (3, 9.0, False)):
        blob = int8(state(value), office.start)
        if taken:
            assert office.take(blob, round_=round_).already_accepted is False
        else:
            with pytest.raises(UpdateRefused, match="norm_limit"):
                office.take(blob, round_=round_)
    assert office.ledger.distances(before=2) == [pytest.approx(10**0.5)]
    office.ledger.close()


def test_an_update_that_moved_nothing_is_one(office):
    assert office.take(START).already_accepted is False
    assert office.ledger.distances(before=2) == [0.0]


def test_the_chunks_may_be_of_any_size(office):
    def chunks(update):
        return [header_of(GOOD, update), *(Chunk(data=GOOD[at : at + 7]) for at in range(0, len(GOOD), 7))]

    assert office.take(chunks=chunks).already_accepted is False
    assert sum(1 for _ in data_chunks(GOOD)) == 1
