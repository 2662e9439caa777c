"""From an upload's first byte to its acknowledgement: what is whole is kept once, what broke off is gone on with."""

from __future__ import annotations

import asyncio
import os
import threading
from array import array

import pytest
from update_fixtures import GOOD, OTHER, START, UpdateFixture, int8, state

from coordinator.clients import update_spool as receiver
from coordinator.clients.errors import UpdateLate, UpdateRefused, UploadBroken
from coordinator.clients.update_checks import distance_limit
from coordinator.storage.ledger_types import LedgerFailure
from federa.tensors.state import digest_of, pack
from protos.federation_pb2 import Chunk
from protos.streams import data_chunks, header_of


@pytest.fixture
def fixture(tmp_path):
    fixture = UpdateFixture(tmp_path)
    yield fixture
    fixture.ledger.close()


def test_an_update_is_kept_and_recorded(fixture):
    assert fixture.upload().already_accepted is False
    path = fixture.folder.update(1, 2, digest_of(GOOD))
    assert fixture.files == [path]
    assert path.read_bytes() == GOOD
    (row,) = fixture.ledger.contributions(1)
    assert (row["client"], row["device"], row["examples"], row["sha256"]) == (2, "ada", 5, digest_of(GOOD))
    assert (row["loss"], row["after_s"], array("f", row["step_ms"]).tolist()) == (0.5, 0.25, [1.5])
    assert row["distance"] == pytest.approx(10**0.5)  # ten values, each moved by 1
    assert len(GOOD) < fixture.ledger.bytes_up < len(GOOD) + 200


def test_the_same_update_again_is_acknowledged_again(fixture):
    assert fixture.upload().already_accepted is False
    assert fixture.upload().already_accepted is True
    assert len(fixture.files) == 1
    assert len(fixture.ledger.contributions(1)) == 1


def test_another_update_of_the_same_client_leaves_the_first_untouched(fixture):
    fixture.upload(GOOD)
    kept = fixture.folder.update(1, 2, digest_of(GOOD))
    before = kept.stat().st_ino, kept.stat().st_mtime_ns
    assert fixture.upload(OTHER).already_accepted is True
    assert kept.read_bytes() == GOOD
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == before
    (row,) = fixture.ledger.contributions(1)
    assert row["sha256"] == digest_of(GOOD)


@pytest.mark.parametrize("late", [GOOD, OTHER])
def test_a_second_update_that_comes_after_its_round_was_aggregated_leaves_nothing(fixture, late):
    # A retry over a bad link can arrive so late. Nobody would empty the spool of that round again.
    fixture.upload(GOOD)
    fixture.folder.tidy(states={fixture.start}, updates=set(), round_=1)
    assert fixture.upload(late).already_accepted is True
    assert fixture.files == []


def test_other_clients_and_rounds_stand_beside_it(fixture):
    for which in ({"client": 2}, {"client": 3}, {"round_": 2}):
        assert fixture.upload(**which).already_accepted is False
    assert len(fixture.files) == 3


# ---------------------------------------------------------------- broken off


def test_an_upload_that_broke_off_goes_on_where_it_was(fixture):
    with pytest.raises(UploadBroken, match="the upload of client 2 for round 1 broke off: ends after 100 of"):
        fixture.upload(most=100)
    assert [path.stat().st_size for path in fixture.files] == [100]
    assert fixture.upload().already_accepted is False
    assert fixture.offsets == [0, 100]
    assert fixture.folder.update(1, 2, digest_of(GOOD)).read_bytes() == GOOD
    assert len(fixture.files) == 1
    # The bytes of both streams are counted: two headers, and the update's once.
    assert len(GOOD) + 100 < fixture.ledger.bytes_up < len(GOOD) + 300


def test_a_connection_that_dies_leaves_its_beginning(fixture):
    async def dying():
        yield header_of(GOOD, fixture.update())
        yield Chunk(data=GOOD[:40])
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(fixture.receiving(dying()))
    assert [path.read_bytes() for path in fixture.files] == [GOOD[:40]]
    assert fixture.upload().already_accepted is False
    assert fixture.offsets == [0, 40]


def test_another_process_goes_on_with_what_an_earlier_one_left(fixture):
    with pytest.raises(UploadBroken):
        fixture.upload(most=100)
    again = UpdateFixture(fixture.folder.path)
    assert again.upload().already_accepted is False
    assert again.offsets == [100]
    again.ledger.close()


def test_a_whole_file_that_was_not_recorded_is_not_sent_again(fixture):
    # A coordinator that is killed between the last byte and the ledger leaves this.
    fixture.folder.partial(1, 2, digest_of(GOOD)).write_bytes(GOOD)
    assert fixture.upload().already_accepted is False
    assert fixture.offsets == [len(GOOD)]
    assert fixture.ledger.bytes_up < 200


@pytest.mark.parametrize("beginning", [b"\0" * 100, GOOD[:99] + b"\0", b"\0" * len(GOOD)])
def test_a_beginning_that_is_another_one_s_is_thrown_away_and_the_upload_starts_anew(fixture, beginning):
    # After a power cut a file may have its length and not its bytes.
    fixture.folder.partial(1, 2, digest_of(GOOD)).write_bytes(beginning)
    with pytest.raises(UploadBroken, match="must be sent anew: the bytes do not have the SHA-256"):
        fixture.upload()
    assert fixture.files == []
    assert fixture.upload().already_accepted is False
    assert fixture.offsets == [len(beginning), 0]


def test_a_beginning_that_is_longer_than_the_update_is_thrown_away(fixture):
    fixture.folder.partial(1, 2, digest_of(GOOD)).write_bytes(GOOD + b"more")
    assert fixture.upload().already_accepted is False
    assert fixture.offsets == [0]


def test_the_beginning_of_another_update_of_that_client_is_thrown_away(fixture):
    # A worker that was restarted trained again, and on a GPU came to other bytes.
    with pytest.raises(UploadBroken):
        fixture.upload(OTHER, most=100)
    assert fixture.upload(GOOD).already_accepted is False
    assert fixture.offsets == [0, 0]
    assert fixture.files == [fixture.folder.update(1, 2, digest_of(GOOD))]


def test_a_second_stream_takes_over_from_a_dead_one(fixture):
    async def scenario():
        silent = asyncio.Event()

        async def dead():
            yield header_of(GOOD, fixture.update())
            yield Chunk(data=GOOD[:100])
            silent.set()
            await asyncio.Event().wait()

        first = asyncio.ensure_future(fixture.receiving(dead()))
        await silent.wait()
        reply = await asyncio.wait_for(fixture.sending(), 5)
        with pytest.raises(UploadBroken, match="another stream"):
            await first
        return reply

    assert asyncio.run(scenario()).already_accepted is False
    assert fixture.offsets == [0, 100]
    assert len(fixture.ledger.contributions(1)) == 1


def test_an_upload_that_brings_nothing_is_ended_and_its_beginning_stays(fixture, monkeypatch):
    monkeypatch.setattr(receiver, "IDLE_LIMIT_S", 0.05)

    async def idle():
        yield header_of(GOOD, fixture.update())
        yield Chunk(data=GOOD[:60])
        await asyncio.Event().wait()

    with pytest.raises(UploadBroken, match=r"brought nothing for 0\.05 s"):
        asyncio.run(fixture.receiving(idle()))
    assert [path.stat().st_size for path in fixture.files] == [60]


def test_two_streams_of_one_update_count_once(fixture):
    async def both():
        return await asyncio.gather(fixture.sending(), fixture.sending(), return_exceptions=True)

    replies = asyncio.run(both())
    # The second took over from the first, or found it done.
    assert [reply.already_accepted for reply in replies if not isinstance(reply, UploadBroken)][:1] == [False]
    assert len(fixture.ledger.contributions(1)) == len(fixture.files) == 1


# ---------------------------------------------------------------- a round that is closed meanwhile


def test_an_update_whose_round_was_closed_while_it_came_is_late_and_leaves_nothing(fixture):
    fixture.wanted = False
    with pytest.raises(UpdateLate, match="update of client 2: round 1 was closed while it came"):
        fixture.upload()
    assert fixture.files == []
    assert fixture.ledger.contributions(1) == []


def test_what_broke_off_goes_with_its_round(fixture):
    for which in ({"client": 1}, {"client": 2}, {"round_": 2}):
        with pytest.raises(UploadBroken):
            fixture.upload(most=50, **which)
    asyncio.run(fixture.spool.forget(1))
    assert fixture.files == [fixture.folder.partial(2, 2, digest_of(GOOD))]


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


def test_a_round_that_closes_waits_for_what_is_being_recorded(fixture, monkeypatch):
    gate = Gate(monkeypatch, fixture.ledger, "accepted")

    async def scenario():
        taking = asyncio.ensure_future(fixture.sending())
        await gate.until_reached()
        fixture.wanted = False  # the round is closed at this very moment
        settled = asyncio.ensure_future(fixture.spool.settled())
        _, waiting = await asyncio.wait({settled}, timeout=0.05)
        assert waiting and fixture.ledger.contributions(1) == []
        gate.open()
        await settled
        rows = fixture.ledger.contributions(1)
        return rows, await taking

    rows, reply = asyncio.run(scenario())
    # It is acknowledged, so it had to be among those that the round aggregates.
    assert reply.already_accepted is False
    assert [row["client"] for row in rows] == [2]


@pytest.mark.parametrize("step", ["replace", "accepted"])
def test_an_update_whose_connection_dies_while_it_is_recorded_is_recorded_once(fixture, monkeypatch, step):
    gate = Gate(monkeypatch, os if step == "replace" else fixture.ledger, step)

    async def scenario():
        first = asyncio.ensure_future(fixture.sending())
        await gate.until_reached()
        first.cancel()
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(fixture.sending())  # the worker is back at once
        await asyncio.sleep(0.05)
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(scenario()).already_accepted is True
    assert fixture.files == [fixture.folder.update(1, 2, digest_of(GOOD))]
    assert len(fixture.ledger.contributions(1)) == 1
    # Its bytes are counted once. The second stream had to bring its header at most.
    assert fixture.ledger.bytes_up < 2 * len(GOOD)


# ---------------------------------------------------------------- what cannot be written


@pytest.mark.parametrize("step", ["fsync", "replace", "ledger"])
def test_a_failing_disk_is_never_acknowledged(fixture, monkeypatch, step):
    error = LedgerFailure("disk I/O error") if step == "ledger" else OSError(5, "Input/output error")

    def broken(*arguments, **named):
        raise error

    monkeypatch.setattr(fixture.ledger if step == "ledger" else os, "accepted" if step == "ledger" else step, broken)
    with pytest.raises(type(error), match="error"):
        fixture.upload()
    monkeypatch.undo()
    assert fixture.ledger.contributions(1) == []
    # The worker tries again when the disk is well.
    assert fixture.upload().already_accepted is False
    assert fixture.folder.update(1, 2, digest_of(GOOD)).read_bytes() == GOOD


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
    fixture = UpdateFixture(tmp_path, norm_limit=factor)
    # In the first round everybody may go as far as he likes; all values move by 1 in the median.
    for client, value in enumerate((1.0, 1.0, 1e6)):
        assert fixture.upload(pack(state(value)), client=client).already_accepted is False
    if factor is not None:
        words = rf"it is [\d.e+]+ from the broadcast \(2-norm\), at most {factor * 10**0.5:.3g} is taken \("
        with pytest.raises(UpdateRefused, match=words):
            fixture.upload(pack(state(factor + 0.1)), round_=2)
        assert len(fixture.files) == 3
    assert fixture.upload(pack(state(farthest)), round_=2).already_accepted is False
    fixture.ledger.close()


def test_an_update_in_differences_is_measured_by_its_differences(tmp_path):
    fixture = UpdateFixture(tmp_path, wire="int8", norm_limit=2.0)
    for round_, value, taken in ((1, 1.0, True), (2, 1.9, True), (3, 9.0, False)):
        blob = int8(state(value), fixture.start)
        if taken:
            assert fixture.upload(blob, round_=round_).already_accepted is False
        else:
            with pytest.raises(UpdateRefused, match="norm_limit"):
                fixture.upload(blob, round_=round_)
    assert fixture.ledger.distances(before=2) == [pytest.approx(10**0.5)]
    fixture.ledger.close()


def test_an_update_that_moved_nothing_is_one(fixture):
    assert fixture.upload(START).already_accepted is False
    assert fixture.ledger.distances(before=2) == [0.0]


def test_the_chunks_may_be_of_any_size(fixture):
    def chunks(update):
        return [header_of(GOOD, update), *(Chunk(data=GOOD[at : at + 7]) for at in range(0, len(GOOD), 7))]

    assert fixture.upload(chunks=chunks).already_accepted is False
    assert sum(1 for _ in data_chunks(GOOD)) == 1
