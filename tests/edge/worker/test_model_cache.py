"""A base model from the coordinator: over real gRPC, streams that break, processes that are killed, disks that are
full, and lists that no honest coordinator makes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import time

import grpc
import pytest
from bare_worker import BareRuntime
from fake_coordinator import KEY, FakeCoordinator, prepare_order, work
from processes import ROOT, Process, ended

import federa.backoff
from edge.worker.model_cache import ModelCache, default_cache_folder
from edge.worker.worker import Worker
from federa.models.files import ModelFile, files_digest
from protos import federation_pb2 as pb
from protos.streams import CHUNK_BYTES, header_chunk

FILES = {
    "config.json": b"{}",
    "empty.txt": b"",
    "model.safetensors": bytes(range(256)) * 14_000,  # three and a half chunks
    "vocab.txt": b"the\na\n" * 1000,
}
WEIGHTS = FILES["model.safetensors"]
SIZE = sum(map(len, FILES.values()))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting between attempts."""
    monkeypatch.setattr(federa.backoff.Backoff, "next_s", lambda self: 0.01)


def sha(blob):
    return hashlib.sha256(blob).digest()


def listed(files=FILES):
    return [pb.ModelFile(name=name, size=len(blob), sha256=sha(blob)) for name, blob in files.items()]


def order(model=None, **options):
    prepare = prepare_order(**options)
    prepare.model.extend(listed() if model is None else model)
    return prepare


def shelve(fake, files=FILES):
    fake.states.update({sha(blob): blob for blob in files.values()})


def where(cache, files=FILES, suffix=""):
    digest = files_digest(ModelFile(name=file.name, size=file.size, sha256=file.sha256) for file in listed(files))
    return cache / "models" / (digest + suffix)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def asked(fake):
    """Digest and offset of every download of a file with something in it."""
    return [(download.sha256, download.offset) for download in fake.downloads]


def fetching(cache, *, prepare=shelve, wants="prepared", model=None):
    """One worker without the model, until it says that it is prepared, or what its failure is. Returns the coordinator
    and what was answered."""
    answers = []

    async def script(receive, send, number, fake):
        send(prepare=order(model))
        answers.append(await receive("prepared", "client_error"))

    runtime = BareRuntime()
    fake = work(script, runtime=runtime, prepare=prepare, cache=ModelCache(cache))
    fake.runtime = runtime
    assert isinstance(answers[0], getattr(pb, "".join(word.capitalize() for word in wants.split("_")))), answers
    return fake, answers[0]


class Held(FakeCoordinator):
    """Its downloads of the weights stand still after `most` chunks, the header's too, while that is a number."""

    def __init__(self, script=None, most=None):
        super().__init__(script)
        self.most = most

    async def Download(self, request, context):
        count = 0
        async for chunk in super().Download(request, context):
            yield chunk
            count += 1
            if count == self.most and request.sha256 == sha(WEIGHTS):
                await asyncio.Event().wait()


class serving:
    """A context: this coordinator on a port of this machine."""

    def __init__(self, fake):
        self.fake = fake

    async def __aenter__(self):
        self.server, address = await self.fake.start()
        return address

    async def __aexit__(self, *why):
        await self.server.stop(grace=0)


class working:
    """A context: a worker in this process that has no model."""

    def __init__(self, address, cache):
        self.worker = Worker(
            runtime=BareRuntime(), address=address, name="ada", key=KEY, give_up_after_s=30.0, cache=ModelCache(cache)
        )

    async def __aenter__(self):
        self.task = asyncio.ensure_future(self.worker.run())

    async def __aexit__(self, *why):
        self.task.cancel()
        await asyncio.wait({self.task})


async def answer_of(fake, kind):
    """What the next worker that comes says of its preparation."""
    answer = asyncio.get_running_loop().create_future()

    async def script(receive, send, number):
        send(prepare=order())
        answer.set_result(await receive(kind))
        await asyncio.Event().wait()

    fake.script = script
    return await asyncio.wait_for(answer, 20)


async def until(true, *processes):
    """Wait until `true()` is, while these processes live."""
    end = time.monotonic() + 20
    while not true():
        assert all(process.popen.poll() is None for process in processes), [process.err for process in processes]
        assert time.monotonic() < end, [process.err for process in processes]
        await asyncio.sleep(0.02)


def size_of(cache):
    """Bytes of the weights' partial file."""
    path = where(cache, suffix=".part") / "model.safetensors"
    return path.stat().st_size if path.exists() else 0


def test_a_worker_without_the_model_fetches_it_and_the_next_one_has_it(tmp_path):
    fake, _ = fetching(tmp_path)
    folder = where(tmp_path)
    assert content(folder) == FILES and fake.runtime.models == [folder]
    assert fake.bytes_down == SIZE
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [folder.name, f"{folder.name}.lock"]
    again, _ = fetching(tmp_path)
    assert again.downloads == [] and again.runtime.models == [folder]


def test_while_it_fetches_the_display_and_the_time_line_say_download(tmp_path):
    heard = []

    async def script(receive, send, number, fake):
        send(prepare=order())
        await receive("prepared")
        send(release=pb.Release(run_id="r1"))
        await receive("released")

    def watch(fake):
        shelve(fake)
        fake.tap = heard.append

    work(script, runtime=BareRuntime(), prepare=watch, cache=ModelCache(tmp_path))
    activities = [message.activity for message in heard if message.HasField("activity")]
    assert any((activity.round, activity.phase) == (0, "download") for activity in activities)
    phase_energies = [energy for message in heard for energy in message.telemetry.phases]
    assert sum(energy.seconds for energy in phase_energies if energy.phase == "download" and energy.round == 0) > 0


def test_a_model_that_is_here_is_not_fetched_nor_looked_for_at_the_coordinator(tmp_path):
    async def script(receive, send, number, fake):
        send(prepare=order())
        await receive("prepared")

    fake = work(script, cache=ModelCache(tmp_path))
    assert fake.downloads == [] and not (tmp_path / "models").exists()


def test_streams_that_break_are_gone_on_with_from_the_byte(tmp_path):
    def breaking(fake):
        shelve(fake)
        fake.break_downloads = [None, 1, 0, 2]  # the first is the config's

    fake, _ = fetching(tmp_path, prepare=breaking)
    offsets = [offset for digest, offset in asked(fake) if digest == sha(WEIGHTS)]
    assert offsets == [0, CHUNK_BYTES, CHUNK_BYTES, 3 * CHUNK_BYTES]
    assert fake.bytes_down == SIZE and content(where(tmp_path)) == FILES


def test_a_partial_file_that_is_not_the_beginning_is_thrown_away(tmp_path):
    partial = where(tmp_path, suffix=".part")
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"x" * 1000)
    (partial / "vocab.txt").write_bytes(FILES["vocab.txt"] + b"more")
    (partial / "config.json").write_bytes(FILES["config.json"])
    fake, _ = fetching(tmp_path)
    assert [offset for digest, offset in asked(fake) if digest == sha(WEIGHTS)] == [1000, 0]
    assert sha(FILES["config.json"]) not in {digest for digest, _ in asked(fake)}
    assert content(where(tmp_path)) == FILES


def test_a_cached_file_that_a_disk_spoiled_is_fetched_again_and_no_other(tmp_path):
    fetching(tmp_path)
    with (where(tmp_path) / "vocab.txt").open("r+b") as file:
        file.write(b"X")
    fake, _ = fetching(tmp_path)
    assert {digest for digest, _ in asked(fake)} == {sha(FILES["vocab.txt"])}
    assert content(where(tmp_path)) == FILES
    (where(tmp_path) / "config.json").unlink()
    fake, _ = fetching(tmp_path)
    assert {digest for digest, _ in asked(fake)} == {sha(FILES["config.json"])}


def test_bytes_that_are_not_the_ones_listed_are_refused_and_not_kept(tmp_path):
    def lying(fake):
        shelve(fake)
        fake.states[sha(FILES["vocab.txt"])] = FILES["vocab.txt"][::-1]

    _, client_error = fetching(tmp_path, prepare=lying, wants="client_error")
    assert client_error.message.startswith("model: vocab.txt, as the coordinator sends it: ")
    assert "SHA-256" in client_error.message and client_error.round == 0
    assert not where(tmp_path).exists()
    assert set(content(where(tmp_path, suffix=".part"))) == FILES.keys() - {"vocab.txt"}


def test_another_file_than_the_one_asked_for_is_refused_at_its_header(tmp_path):
    class Lying(FakeCoordinator):
        async def Download(self, request, context):
            self.downloads.append(request)
            yield header_chunk(1 << 20, request.sha256)

    async def scenario():
        fake = Lying()
        async with serving(fake) as address, working(address, tmp_path):
            answer = await answer_of(fake, "client_error")
        assert "another header" in answer.message

    asyncio.run(scenario())


def test_a_file_that_the_coordinator_does_not_have_is_told(tmp_path):
    def refusing(fake):
        fake.refuse_downloads = [grpc.StatusCode.NOT_FOUND]

    _, client_error = fetching(tmp_path, prepare=refusing, wants="client_error")
    assert client_error.message == "NOT_FOUND: not now"


@pytest.mark.parametrize("name", ["../x.json", "/x.json", "a/x.json", "..", "", "x.py", "x.bin", ".x.json", "x.json\0"])
def test_a_list_with_a_name_that_is_no_plain_file_is_refused_before_anything_is_written(tmp_path, name):
    hostile = [*listed(), pb.ModelFile(name=name, size=1, sha256=sha(b"x"))]
    fake, client_error = fetching(tmp_path / "cache", model=hostile, wants="client_error")
    assert client_error.bad_input and "cannot be called" in client_error.message and "\n" not in client_error.message
    assert fake.downloads == [] and list(tmp_path.iterdir()) == []


def test_a_run_that_is_over_ends_the_fetching_and_the_partial_stays(tmp_path):
    async def scenario():
        gone = asyncio.Event()

        async def script(receive, send, number):
            send(prepare=order())
            await until(lambda: size_of(tmp_path) >= CHUNK_BYTES)
            send(release=pb.Release(run_id="r1"))
            await receive("released")
            fake.most = None
            send(prepare=order(run_id="r2"))
            await receive("prepared")
            gone.set()
            await asyncio.Event().wait()

        fake = Held(script, most=2)
        shelve(fake)
        async with serving(fake) as address, working(address, tmp_path):
            await asyncio.wait_for(gone.wait(), 20)
        assert [offset for digest, offset in asked(fake) if digest == sha(WEIGHTS)] == [0, CHUNK_BYTES]

    asyncio.run(scenario())


# ---- real processes


def bare(address, folder, name="ada", **env):
    arguments = [
        "tests/support/bare_worker.py", "--coordinator", address, "--name", name, "--power", "none",
        "--state", str(folder / "keys"), "--cache", str(folder / "cache"),
    ]  # fmt: skip
    return Process(arguments, folder, env={"PYTHONPATH": str(ROOT), **env})


def test_a_worker_that_is_killed_in_the_middle_goes_on_from_the_byte(tmp_path):
    async def scenario():
        prepared = asyncio.Event()

        async def script(receive, send, number):
            send(prepare=order())
            await receive("prepared")
            prepared.set()
            await asyncio.Event().wait()

        fake = Held(script, most=3)
        shelve(fake)
        async with serving(fake) as address:
            killed = bare(address, tmp_path)
            with ended(killed):
                await until(lambda: size_of(tmp_path / "cache") >= 2 * CHUNK_BYTES, killed)
                killed.popen.kill()
                await asyncio.to_thread(killed.popen.wait)
            assert size_of(tmp_path / "cache") == 2 * CHUNK_BYTES
            fake.most = None
            restarted = bare(address, tmp_path)
            with ended(restarted):
                await asyncio.wait_for(prepared.wait(), 20)
        assert [offset for digest, offset in asked(fake) if digest == sha(WEIGHTS)] == [0, 2 * CHUNK_BYTES]
        assert sum(digest == sha(FILES["config.json"]) for digest, _ in asked(fake)) == 1
        assert content(where(tmp_path / "cache")) == FILES

    asyncio.run(scenario())


def test_two_workers_share_a_cache_and_one_of_them_fetches(tmp_path):
    async def scenario():
        prepared = set()
        both = asyncio.Event()

        async def script(receive, send, number):
            send(prepare=order())
            await receive("prepared")
            prepared.add(number)
            if len(prepared) == 2:
                both.set()
            await asyncio.Event().wait()

        fake = Held(script, most=2)
        shelve(fake)
        async with serving(fake) as address:
            workers = [bare(address, tmp_path, name) for name in ("ada", "bob")]
            with ended(*workers):
                await until(lambda: any("waiting for it" in worker.err for worker in workers), *workers)
                # Killed before its first chunk is on the disk, it would leave nothing to go on from.
                await until(lambda: size_of(tmp_path / "cache") == CHUNK_BYTES, *workers)
                fake.most = None
                # The one that fetches has a stream that stands still: it dies, and the other one goes on.
                fetcher = next(worker for worker in workers if "waiting for it" not in worker.err)
                fetcher.popen.kill()
                await asyncio.to_thread(fetcher.popen.wait)
                workers.append(bare(address, tmp_path, "cyn"))
                with ended(workers[-1]):
                    await asyncio.wait_for(both.wait(), 20)
        assert [offset for digest, offset in asked(fake) if digest == sha(WEIGHTS)] == [0, CHUNK_BYTES]
        assert content(where(tmp_path / "cache")) == FILES

    asyncio.run(scenario())


def test_a_disk_that_gets_full_is_one_line_and_the_partial_stays(tmp_path):
    most = 2 * CHUNK_BYTES + 1000

    async def scenario():
        fake = FakeCoordinator()
        shelve(fake)
        async with serving(fake) as address:
            full = bare(address, tmp_path, FEDERA_TEST_MAX_BYTES=str(most))
            with ended(full):
                answer = await answer_of(fake, "client_error")
            assert answer.bad_input and answer.message.startswith("--cache: cannot write the base model to ")
            assert "File too large" in answer.message and "make room" in answer.message
            assert "Traceback" not in full.err
            assert size_of(tmp_path / "cache") == most
            with ended(bare(address, tmp_path)):
                await answer_of(fake, "prepared")
        assert [offset for digest, offset in asked(fake) if digest == sha(WEIGHTS)] == [0, most]
        assert content(where(tmp_path / "cache")) == FILES

    asyncio.run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        fake, client_error = fetching(small, wants="client_error")
        assert "3.6 MB more" in client_error.message and "MB are free: make room" in client_error.message
        assert client_error.bad_input and fake.downloads == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    _, client_error = fetching(tmp_path / "file", wants="client_error")
    assert (
        client_error.bad_input
        and "--cache: cannot write" in client_error.message
        and "Not a directory" in client_error.message
    )


def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "federa"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "federa"
