"""States down and updates up over an emulated link, against a coordinator that is played by a stub."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc

import pytest

from edge.worker import transfer
from edge.worker.transfer import Download, Link, Spoiled, Upload, wanted_from
from protos.channel import ADMITTED
from protos.federation_pb2 import Chunk, DownloadRequest, UpdateHeader, UploadReply
from protos.streams import CHUNK_BYTES, Assembler, StreamError, data_chunks, header_of

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
    """As much of a FederationStub as transfers call. `streams` has the chunks of each download in turn."""

    def __init__(self, *streams, offset="0"):
        self.streams = list(streams)
        self.requests = []
        self.received = []
        self.offset = offset

    def Download(self, request):
        self.requests.append(request.offset)
        self.call = FakeDownload(self.streams.pop(0))
        return self.call

    def Upload(self):
        self.call = FakeUpload(self)
        return self.call


class FakeDownload:
    """The call: its chunks, and then what breaks it where the last of them is an exception."""

    def __init__(self, chunks):
        self._chunks = chunks
        self.cancels = 0

    async def __aiter__(self):
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def cancel(self):
        self.cancels += 1


class FakeUpload:
    """The call: it admits the upload once its header is there."""

    def __init__(self, coordinator):
        self._coordinator = coordinator
        self._coordinator.received = []
        self._done = asyncio.Event()
        self.cancels = 0

    async def write(self, chunk):
        self._coordinator.received.append(chunk)

    async def initial_metadata(self):
        assert len(self._coordinator.received) == 1, "data before the coordinator wants it"
        return (("other", "7"), (ADMITTED, self._coordinator.offset))

    async def done_writing(self):
        self._done.set()

    def cancel(self):
        self.cancels += 1

    def __await__(self):
        return self._answer().__await__()

    async def _answer(self):
        await self._done.wait()
        return UploadReply(already_accepted=True)


class Broke(Exception):
    """A stream's end before its last chunk."""


def split(blob, update=None, offset=0):
    return [header_of(blob, update), *data_chunks(blob, offset)]


def fetch(*streams, link=None, sha256=DIGEST):
    """The blob of the last stream's attempt; those before must break."""

    async def scenario():
        download = Download(coordinator, DownloadRequest(sha256=sha256), link or Link(None))
        for _ in streams[:-1]:
            with pytest.raises((Broke, Spoiled)):
                await download.attempt()
        blobs.append(await download.attempt())

    blobs = []  # asyncio.run() prints the result of what it runs, in full, before it cuts that short
    coordinator = FakeCoordinator(*streams)
    asyncio.run(scenario())
    return blobs.pop(), coordinator.requests


def send(blob, update, link=None, **options):
    coordinator = FakeCoordinator(**options)
    reply = asyncio.run(Upload(coordinator, blob, update, link or Link(None)).attempt())
    assert reply.already_accepted
    return coordinator.received


def test_a_state_comes_down_whole():
    assert fetch(split(BLOB)) == (BLOB, [0])


def test_a_state_comes_down_over_as_many_streams_as_it_takes():
    header, first, second = split(BLOB)
    assert (len(first.data), len(second.data)) == (CHUNK_BYTES, 10)
    blob, offsets = fetch([Broke()], [header, Broke()], [header, first, Broke()], [header, second, Broke()], [header])
    assert blob == BLOB
    assert offsets == [0, 0, 0, CHUNK_BYTES, len(BLOB)]


def test_what_was_put_together_wrongly_is_thrown_away_and_fetched_anew():
    header, first, _ = split(BLOB)
    wrong = Chunk(data=bytes(10))
    blob, offsets = fetch([header, first, Broke()], [header, wrong], split(BLOB))
    assert blob == BLOB
    assert offsets == [0, CHUNK_BYTES, 0]


def test_a_stream_that_goes_on_with_another_state_is_thrown_away():
    header, first, _ = split(BLOB)
    blob, offsets = fetch([header, first, Broke()], split(bytes(20)), split(BLOB))
    assert blob == BLOB
    assert offsets == [0, CHUNK_BYTES, 0]


def test_a_state_that_is_wrong_from_its_first_byte_is_refused():
    # Another attempt would bring the same.
    with pytest.raises(StreamError, match="SHA-256"):
        fetch([split(BLOB)[0], *split(bytes(len(BLOB)))[1:]])


def test_another_state_than_asked_for_is_refused():
    with pytest.raises(StreamError, match="another state than the one asked for"):
        fetch(split(BLOB), sha256=bytes(32))


@pytest.mark.parametrize("chunks", [[], split(BLOB)[:-1], [Chunk(data=BLOB)]])
def test_a_broken_download_is_refused(chunks):
    with pytest.raises(StreamError):
        fetch(chunks)


def test_a_download_holds_the_state_once():
    blob = bytes(16 * CHUNK_BYTES)
    sha256 = hashlib.sha256(blob).digest()

    def chunks():
        yield header_of(blob)
        for _ in range(16):
            yield Chunk(data=bytes(CHUNK_BYTES))

    tracemalloc.start()
    try:
        fetched, _ = fetch(chunks(), sha256=sha256)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(fetched) == len(blob)
    # Growing may take an eighth more.
    assert peak < 1.5 * len(blob)


def test_an_update_goes_up_with_its_header():
    header = UpdateHeader(run_id="r", round=2, client=3, worker="ada", key="k", examples=5, step_ms=[1.0])
    received = bytearray()
    assembler = Assembler(received.extend, size_limit=len(BLOB))
    for chunk in send(BLOB, header):
        assembler.feed(chunk)
    assert assembler.finish().update == header
    assert received == BLOB


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES, len(BLOB) - 1, len(BLOB)])
def test_an_update_goes_up_from_the_byte_that_is_wanted(offset):
    header, *rest = send(BLOB, UpdateHeader(run_id="r"), offset=str(offset))
    assert header.header.size == len(BLOB)
    assert b"".join(chunk.data for chunk in rest) == BLOB[offset:]


@pytest.mark.parametrize(
    ("metadata", "offset"),
    [((), None), (None, None), ((("other", "1"),), None), (((ADMITTED, "0"),), 0), (((ADMITTED, "17"),), 17)],
)
def test_the_coordinator_says_from_where_it_wants_the_rest(metadata, offset):
    assert wanted_from(metadata) == offset


def test_transfers_are_paced_by_what_goes_over_the_wire(clock, monkeypatch):
    async def at_once(call, *arguments):
        return call(*arguments)

    # Handing the hashing to a thread would wait in real time.
    monkeypatch.setattr(transfer.asyncio, "to_thread", at_once)
    header = UpdateHeader(run_id="r")
    for chunks, run in (
        (split(BLOB), lambda: fetch(split(BLOB), link=Link(8.0))),
        (split(BLOB, header), lambda: send(BLOB, header, Link(8.0))),
    ):
        before = clock.now
        run()
        assert clock.now - before == pytest.approx(sum(chunk.ByteSize() for chunk in chunks) * 8 / 8e6)


class SlowLink(Link):
    """Takes half a second for whatever it carries."""

    def __init__(self):
        super().__init__(None)

    async def carry(self, size):
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("kind", ["download", "upload"])
def test_an_emulated_link_is_not_taken_for_one_that_stalls(kind):
    coordinator = FakeCoordinator(split(BLOB))
    if kind == "download":
        attempt = Download(coordinator, DownloadRequest(sha256=DIGEST), SlowLink()).attempt
    else:
        attempt = Upload(coordinator, BLOB, UpdateHeader(), SlowLink()).attempt

    async def scenario():
        await attempt(0.2)

    asyncio.run(scenario())
    # Once, when it was over.
    assert coordinator.call.cancels == 1


def test_an_update_that_is_not_acknowledged_at_once_is_waited_for(monkeypatch):
    # Its check and the disk take their time, and no byte moves.
    monkeypatch.setattr(transfer, "ANSWER_S", 5.0)
    coordinator = FakeCoordinator()

    async def scenario():
        sending = asyncio.ensure_future(Upload(coordinator, BLOB, UpdateHeader(), Link(None)).attempt(0.1))
        while not hasattr(coordinator, "call") or not coordinator.call._done.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.4)
        assert coordinator.call.cancels == 0
        await sending

    monkeypatch.setattr(FakeUpload, "_answer", slow_answer)
    asyncio.run(scenario())


async def slow_answer(call):
    await call._done.wait()
    await asyncio.sleep(0.5)
    return UploadReply()
