"""States down and updates up over an emulated link, against a coordinator that is played by a stub."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from edge import transfer
from edge.transfer import Link, download, upload
from protos.channel import ADMITTED
from protos.federation_pb2 import Chunk, DownloadRequest, UpdateHeader, UploadReply
from protos.streams import CHUNK_BYTES, Assembler, StreamError, split

BLOB = hashlib.shake_128(b"state").digest(CHUNK_BYTES + 10)
DIGEST = hashlib.sha256(BLOB).digest()


class FakeClock:
    """Time goes on only by sleeping, and by what a test adds."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self._pass = asyncio.sleep
        monkeypatch.setattr(transfer.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(transfer.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds):
        assert seconds >= 0
        until = self.now + seconds
        await self._pass(0)  # others go to sleep at the same time
        self.now = max(self.now, until)


@pytest.fixture
def clock(monkeypatch):
    return FakeClock(monkeypatch)


def carry(link, *sizes):
    async def scenario():
        for size in sizes:
            await link.carry(size)

    asyncio.run(scenario())


@pytest.mark.parametrize(("mbps", "size", "seconds"), [(8.0, 1_000_000, 1.0), (1.0, 125, 0.001), (1000.0, 0, 0.0)])
def test_bytes_take_as_long_as_the_link_says(clock, mbps, size, seconds):
    carry(Link(mbps), size)
    assert clock.now - 100 == pytest.approx(seconds)


def test_pieces_take_as_long_as_the_whole(clock):
    carry(Link(8.0), *[1000] * 500)
    assert clock.now - 100 == pytest.approx(0.5)


def test_time_that_went_by_between_pieces_counts(clock):
    # Writing to the disk goes on while the next piece is under way; the link must not add up both.
    link = Link(8.0)
    carry(link, 100_000)
    clock.now += 0.04
    carry(link, 100_000)
    assert clock.now - 100 == pytest.approx(0.1 + 0.04 + 0.1)


def test_a_link_that_lay_idle_saves_nothing_up(clock):
    link = Link(8.0)
    carry(link, 100_000)
    clock.now += 3600
    before = clock.now
    carry(link, 1_000_000)
    assert clock.now - before == pytest.approx(1.0)


def test_two_streams_share_a_link(clock):
    link = Link(8.0)

    async def scenario():
        # Both ask before either has slept: the second's bytes come after the first's.
        await asyncio.gather(link.carry(500_000), link.carry(500_000))

    asyncio.run(scenario())
    assert clock.now - 100 == pytest.approx(1.0)


def test_the_link_as_it_is_never_sleeps(clock):
    carry(Link(None), 10**12)
    assert clock.now == 100


class FakeCoordinator:
    """As much of a FederationStub as transfers call."""

    def __init__(self, chunks=()):
        self.chunks = chunks
        self.received = []

    async def Download(self, request):
        for chunk in self.chunks:
            yield chunk

    def Upload(self, chunks):
        return FakeUpload(self, chunks)


class FakeUpload:
    """The call: it admits the upload once its header is there."""

    def __init__(self, coordinator, chunks):
        self._coordinator = coordinator
        self._chunks = chunks
        self._header = asyncio.Event()

    async def initial_metadata(self):
        await self._header.wait()
        return (ADMITTED,)

    def __await__(self):
        return self._receive().__await__()

    async def _receive(self):
        self._coordinator.received = []
        async for chunk in self._chunks:
            self._coordinator.received.append(chunk)
            self._header.set()
        return UploadReply(already_accepted=True)


def fetch(chunks, link=None, sha256=DIGEST):
    return asyncio.run(download(FakeCoordinator(chunks), DownloadRequest(sha256=sha256), link or Link(None)))


def test_a_state_comes_down_whole():
    assert fetch(split(BLOB)) == BLOB


def test_another_state_than_asked_for_is_refused():
    with pytest.raises(StreamError, match="another state than the one asked for"):
        fetch(split(BLOB), sha256=bytes(32))


@pytest.mark.parametrize("chunks", [[], list(split(BLOB))[:-1], [Chunk(data=BLOB)]])
def test_a_broken_download_is_refused(chunks):
    with pytest.raises(StreamError):
        fetch(chunks)


def test_an_update_goes_up_with_its_header():
    coordinator = FakeCoordinator()
    header = UpdateHeader(run_id="r", round=2, client=3, worker="ada", examples=5, step_ms=[1.0])
    reply = asyncio.run(upload(coordinator, BLOB, header, Link(None)))
    assert reply.already_accepted
    received = bytearray()
    assembler = Assembler(received.extend, size_limit=len(BLOB))
    for chunk in coordinator.received:
        assembler.feed(chunk)
    assert assembler.finish().update == header
    assert received == BLOB


def test_transfers_are_paced_by_what_goes_over_the_wire(clock, monkeypatch):
    async def at_once(call, *arguments):
        return call(*arguments)

    # Handing the hashing to a thread would wait in real time.
    monkeypatch.setattr(transfer.asyncio, "to_thread", at_once)
    header = UpdateHeader(run_id="r")
    for chunks, run in (
        (list(split(BLOB)), lambda: fetch(split(BLOB), Link(8.0))),
        (list(split(BLOB, header)), lambda: asyncio.run(upload(FakeCoordinator(), BLOB, header, Link(8.0)))),
    ):
        before = clock.now
        run()
        assert clock.now - before == pytest.approx(sum(chunk.ByteSize() for chunk in chunks) * 8 / 8e6)
