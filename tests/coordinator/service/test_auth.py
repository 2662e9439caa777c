"""Who may call what over mutual TLS: real connections, each with a certificate that is wrong in its own way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from datetime import timedelta

import grpc
import pytest
from certificates import CertificateFixture, unchecked
from live_coordinator import HandWorker, hello, refused, serving

from coordinator.operator.client import OperatorClient
from federa.config import parse_experiment
from federa.errors import BadInput
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL, dial
from protos.federation_pb2_grpc import OperatorServiceStub, WorkerServiceStub
from protos.handshake import find_obstacle

DENIED = grpc.StatusCode.PERMISSION_DENIED
AWAY = grpc.StatusCode.UNAVAILABLE
CALL_S = 5.0


@pytest.fixture
def pki(tmp_path):
    return CertificateFixture(tmp_path / "certs")


@pytest.fixture
def secured(pki, tmp_path):
    """Runs a scenario against a coordinator that demands certificates; calls show the device ada's."""

    def run(scenario, shown=None, **more):
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        shown = shown or pki.of("ada")
        serving(folder, scenario, credentials=pki.coordinator, shown=shown, **more)

    return run


def test_a_copied_certificate_is_a_copied_key(pki, secured):
    async def scenario(live):
        first = await _control(live, _ada(pki))
        assert (await first.read()).WhichOneof("message") == "welcome"
        copy = await _control(live, hello(name="ada", key=pki.of("ada").worker_key, process="0" * 32))
        ping = await first.read()
        await first.write(pb.WorkerMessage(ping=ping.ping))
        status, words = await _ends(copy)
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert "the name 'ada' and its key are in use twice" in words and "federa-certs issue" in words
        await first.write(pb.WorkerMessage(heartbeat=pb.Heartbeat(sequence=4)))
        assert (await first.read()).heartbeat.sequence == 4

    secured(scenario)


def _experiment(**changes):
    federation = {"devices": 1, "clients": 1, "clients_per_round": 1, "rounds": 1}
    return parse_experiment({"federation": federation, "target": {"value": 1.0}, **changes})


def _ada(pki, name="ada"):
    return hello(name=name, key=pki.of(name).worker_key)


async def _control(live, first):
    """A control stream with this first message."""
    call = live.federation.Control()
    await call.initial_metadata()
    await call.write(first)
    return call


async def _ends(call):
    """How a call ends: the status and the words."""
    return await asyncio.wait_for(call.code(), CALL_S), await call.details()


def test_a_device_with_its_certificate_joins(pki, secured):
    async def scenario(live):
        call = await _control(live, _ada(pki))
        assert (await call.read()).WhichOneof("message") == "welcome"
        assert live.coordinator.sessions.names == ["ada"]

    secured(scenario)


def test_another_devices_name_or_key_is_refused(pki, secured, caplog):
    pki.device("bob")
    serial = f"(serial {pki.of('ada').serial:x})"

    async def scenario(live):
        for first, words in [
            (_ada(pki, "bob"), "does not speak for a worker 'bob'"),
            (hello(name="ada", key="0" * 32), "goes with another key"),
        ]:
            status, details = await _ends(await _control(live, first))
            assert status is DENIED
            assert words in details and "certificate of device 'ada'" in details and serial in details
            assert details in caplog.text and "127.0.0.1:" in caplog.text
        request = pb.DownloadRequest(run_id="x", worker="bob", key=pki.of("bob").worker_key)
        async with refused(DENIED, "does not speak for"):
            await live.federation.Download(request).read()
        call = live.federation.Upload()
        update = pb.UpdateHeader(run_id="x", worker="bob", key=pki.of("bob").worker_key)
        await call.write(pb.Chunk(header=pb.StreamHeader(update=update)))
        async with refused(DENIED, "does not speak for"):
            await call

    with caplog.at_level(logging.WARNING):
        secured(scenario)


def test_a_device_may_not_operate_and_an_operator_may_not_train(pki, secured):
    async def scenario(live):
        async with refused(DENIED, "certificate of device 'ada'", "may not call OperatorService/Submit", "operator"):
            await live.submit(_experiment())
        for request, call in [
            (pb.WatchRequest(), live.operation.Watch), (pb.FetchRequest(), live.operation.Fetch),
        ]:  # fmt: skip
            async with refused(DENIED, "that is for: operator"):
                await call(request).read()
        async with refused(DENIED, "that is for: operator"):
            await live.operation.Cancel(pb.CancelRequest())
        async with dial(live.address, pki.operator) as channel:
            operator, federation = OperatorServiceStub(channel), WorkerServiceStub(channel)
            request = pb.SubmitRequest(experiment_json=_experiment().model_dump_json(), protocol=PROTOCOL)
            assert (await operator.Submit(request)).experiment_id
            async with refused(DENIED, "certificate of operator 'operator'", "may not call WorkerService/Control"):
                await federation.Control().read()
            async with refused(DENIED, "that is for: device"):
                await federation.Download(pb.DownloadRequest()).read()
        async with dial(live.address, pki.coordinator) as channel:
            federation = WorkerServiceStub(channel)
            async with refused(DENIED, "certificate of coordinator 'coordinator'"):
                await federation.Control().read()

    secured(scenario)


def test_everybody_with_a_certificate_is_greeted_whatever_he_speaks(pki, secured):
    async def scenario(live):
        for credentials in (pki.of("ada"), pki.operator):
            async with dial(live.address, credentials) as channel:
                reply = await WorkerServiceStub(channel).Greet(pb.GreetRequest(protocol=PROTOCOL + 1))
            assert reply.protocol == PROTOCOL and reply.versions["federa"]
            assert abs(reply.unix_s - time.time()) < 60

    secured(scenario)


def test_methods_that_nobody_listed_are_for_nobody(pki, secured):
    async def scenario(live):
        async with dial(live.address, pki.operator) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/federa.v1.Other/Thing")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    secured(scenario)


@pytest.mark.parametrize(
    "which", ["nothing", "another authority's", "out of date", "another authority's, with ours as its CA"]
)
def test_without_a_certificate_that_counts_no_call_gets_through(pki, secured, tmp_path, which):
    other = CertificateFixture(tmp_path / "other")
    pki.device("late", valid=timedelta(seconds=-1))
    shown = {
        "nothing": None,
        "another authority's": other.of("ada"),
        "out of date": pki.of("late"),
        "another authority's, with ours as its CA": unchecked(other.folder / "ada", pki.folder),
    }[which]

    async def scenario(live):
        async with dial(live.address, shown) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await WorkerServiceStub(channel).Greet(pb.GreetRequest(), timeout=CALL_S)
            assert caught.value.code() is AWAY

    secured(scenario)


def test_ones_own_authority_without_a_certificate_is_not_enough(pki, secured):
    async def scenario(live):
        credentials = grpc.ssl_channel_credentials(pki.of("ada").ca_pem)
        async with grpc.aio.secure_channel(live.address, credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await WorkerServiceStub(channel).Greet(pb.GreetRequest(), timeout=CALL_S)
            assert caught.value.code() is AWAY

    secured(scenario)


def test_what_was_revoked_before_is_refused_on_every_call(pki, secured):
    pki.revoke("ada")

    async def scenario(live):
        async with refused(DENIED, "certificate of device 'ada'", "is revoked"):
            await live.federation.Greet(pb.GreetRequest())

    secured(scenario)


def test_a_revocation_cuts_what_is_open_and_spares_the_others(pki, secured, caplog):
    pki.device("bob")

    async def scenario(live):
        ada = await _control(live, _ada(pki))
        assert (await ada.read()).WhichOneof("message") == "welcome"
        async with dial(live.address, pki.of("bob")) as channel:
            bob = WorkerServiceStub(channel).Control()
            await bob.initial_metadata()
            await bob.write(_ada(pki, "bob"))
            assert (await bob.read()).WhichOneof("message") == "welcome"
            pki.revoke("ada")
            status, details = await _ends(ada)
            assert status is DENIED and details.endswith("is revoked")
            # Over the connection that is up, too.
            async with refused(DENIED, "is revoked"):
                await live.federation.Greet(pb.GreetRequest())
            while live.coordinator.sessions.names != ["bob"]:
                await asyncio.sleep(0.01)
            await bob.write(pb.WorkerMessage(heartbeat=pb.Heartbeat(sequence=7)))
            assert (await bob.read()).heartbeat.sequence == 7

    with caplog.at_level(logging.INFO):
        secured(scenario)
    assert "is revoked" in caplog.text and "worker ada left" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_a_revocation_ends_uploads_and_watches_too(pki, secured, caplog):
    async def scenario(live):
        async with dial(live.address, pki.operator) as channel:
            operator = OperatorServiceStub(channel)
            request = pb.SubmitRequest(experiment_json=_experiment().model_dump_json(), protocol=PROTOCOL)
            live.experiment_id = (await operator.Submit(request)).experiment_id
            watch = operator.Watch(pb.WatchRequest(experiment_id=live.experiment_id))
            await watch.read()
            ada = HandWorker(live, "ada")
            ada.key = pki.of("ada").worker_key
            await ada.call.write(_ada(pki))
            await ada.receive("welcome")
            await ada.get_ready()
            upload, _ = await ada.begin(0)
            pki.revoke("ada")
            pki.revoke("operator")
            for call in (upload, ada.call):
                assert (await _ends(call))[0] is DENIED
            async with refused(DENIED, "certificate of operator 'operator'", "is revoked"):
                while await watch.read() is not grpc.aio.EOF:
                    pass

    with caplog.at_level(logging.INFO):
        secured(scenario)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("reads", [False, True], ids=["a client that reads nothing", "a slow one"])
def test_a_revocation_ends_downloads_and_fetches_in_the_middle(pki, secured, caplog, reads):
    """The files are larger than the window of any connection."""
    size = 64 << 20

    async def drained(call):
        got = 0
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (chunk := await call.read()) is not grpc.aio.EOF:
                got += len(chunk.data)
                await asyncio.sleep(0.1 if reads else 0)
        return got

    async def scenario(live):
        async with dial(live.address, pki.operator) as channel:
            operator = OperatorServiceStub(channel)
            request = pb.SubmitRequest(experiment_json=_experiment().model_dump_json(), protocol=PROTOCOL)
            live.experiment_id = (await operator.Submit(request)).experiment_id
            ada = HandWorker(live, "ada")
            ada.key = pki.of("ada").worker_key
            await ada.call.write(_ada(pki))
            await ada.receive("welcome")
            await ada.get_ready()
            state = live.run.storage.folder.state(ada.train.state_sha256.hex())
            with state.open("r+b") as file:
                file.truncate(size)
            runner = live.coordinator.current
            (runner.path / "report.html").write_bytes(bytes(size))
            # As at the end of an experiment; this one goes on, for what it serves is a run's that is under way.
            runner.board._progress.files.append("report.html")
            asked = pb.DownloadRequest(
                run_id=ada.train.run_id, sha256=ada.train.state_sha256, worker="ada", key=ada.key
            )
            fetched = pb.FetchRequest(experiment_id=live.experiment_id, path="report.html")
            calls = [live.federation.Download(asked), operator.Fetch(fetched)]
            for call in calls:
                assert (await call.read()).WhichOneof("part")
            pki.revoke("ada")
            pki.revoke("operator")
            reading = [asyncio.ensure_future(drained(call)) for call in calls] if reads else []
            while live.coordinator.auth._open:
                await asyncio.sleep(0.01)
            # What one of them that did not read has of it is what lay in its window.
            for call, got in zip(calls, reading or map(drained, calls), strict=True):
                assert await got < size // 2
                status, details = await _ends(call)
                assert status is DENIED and details.endswith("is revoked")

    with caplog.at_level(logging.INFO):
        secured(scenario)
    assert not [record for record in caplog.records if record.exc_info]


def test_an_expiry_cuts_what_is_open(pki, secured):
    shown = pki.device("brief", valid=timedelta(seconds=2))

    async def scenario(live):
        call = await _control(live, _ada(pki, "brief"))
        assert (await call.read()).WhichOneof("message") == "welcome"
        status, details = await _ends(call)
        assert status is DENIED and "expired at" in details

    secured(scenario, shown)


def test_a_device_cannot_pose_as_the_coordinator(pki, tmp_path):
    posing = pki.device("mallory", hosts=["localhost", "127.0.0.1"])

    async def run():
        server = grpc.aio.server()
        port = server.add_secure_port("127.0.0.1:0", posing.server())
        await server.start()
        async with dial(f"127.0.0.1:{port}", pki.of("ada")) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await WorkerServiceStub(channel).Greet(pb.GreetRequest(), timeout=CALL_S)
            assert caught.value.code() is AWAY and "VERIFY_FAILED" in caught.value.details()
        found = await asyncio.to_thread(find_obstacle, f"127.0.0.1:{port}", pki.of("ada"))
        assert found is not None and found.lasting
        await server.stop(None)

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:.*TLSVersion.*:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_tls_below_1_2_is_refused(pki, secured, version):
    ada = pki.of("ada")

    def connect(address):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ada.folder / "ca.crt")
        context.load_cert_chain(ada.folder / "tls.crt", ada.folder / "tls.key")
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or this side would refuse by itself
        context.set_alpn_protocols(["h2"])
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        host, port = address.split(":")
        plain = socket.create_connection((host, int(port)), CALL_S)
        with plain, context.wrap_socket(plain, server_hostname=host) as talking:
            return bool(talking.recv(1))

    async def scenario(live):
        if version in ("TLSv1_2", "TLSv1_3"):
            assert await asyncio.to_thread(connect, live.address)
        else:
            with pytest.raises(OSError):
                await asyncio.to_thread(connect, live.address)

    secured(scenario)


# ---------------------------------------------------------------- what a client is told


def test_obstacles_are_told_in_a_line_that_says_what_to_do(pki, secured, tmp_path):
    other = CertificateFixture(tmp_path / "other")
    late = pki.device("late", valid=timedelta(seconds=-1))
    foreign = tmp_path / "mixed"
    foreign.mkdir()
    for name, source in [("ca.crt", pki), ("tls.crt", other), ("tls.key", other)]:
        (foreign / name).write_bytes((source.folder / "ada" / name).read_bytes())

    async def scenario(live):
        def obstacle_for(credentials, address=live.address):
            return asyncio.to_thread(find_obstacle, address, credentials)

        assert await obstacle_for(pki.of("ada")) is None
        for credentials, words in [
            (None, "takes TLS connections only: give --certs DIR"),
            (other.of("ada"), "does not fit the authority in"),
            (late, "expired at"),
            (unchecked(foreign), "is of another authority"),
        ]:
            found = await obstacle_for(credentials)
            assert found is not None and found.lasting and words in str(found), found
            assert live.address in str(found) and "\n" not in str(found)
        port = live.address.split(":")[1]
        found = await obstacle_for(pki.of("ada"), f"127.0.0.2:{port}")
        assert found is None  # nobody listens there

    secured(scenario)


def test_a_coordinators_certificate_for_another_host_is_named(pki, secured):
    pki.authority.issue("coordinator", "coordinator", hosts=["coordinator.example"])

    async def scenario(live):
        found = await asyncio.to_thread(find_obstacle, live.address, pki.of("ada"))
        assert found is not None and found.lasting
        assert "is not for 127.0.0.1: federa-certs issue coordinator --host 127.0.0.1" in str(found)

    secured(scenario)


def test_a_plaintext_coordinator_is_named_and_a_coordinator_that_is_away_is_none(pki, tmp_path):
    async def scenario(live):
        found = await asyncio.to_thread(find_obstacle, live.address, pki.of("ada"))
        assert found is not None and "speaks no TLS" in str(found)
        assert await asyncio.to_thread(find_obstacle, live.address, None) is None
        assert await asyncio.to_thread(find_obstacle, "127.0.0.1:1", pki.of("ada")) is None
        assert await asyncio.to_thread(find_obstacle, "no.such.host.invalid:1", None) is None

    (tmp_path / "out").mkdir()
    serving(tmp_path / "out", scenario)


def test_an_operator_is_told_too(pki, secured, tmp_path):
    other = CertificateFixture(tmp_path / "other")

    async def scenario(live):
        for credentials, words in [
            (pki.of("ada"), "may not call OperatorService/Submit"),
            (None, "takes TLS connections only"),
            (other.operator, "does not fit the authority"),
        ]:
            async with OperatorClient(live.address, credentials) as operator:
                with pytest.raises(BadInput) as caught:
                    await operator.submit(_experiment())
            assert words in str(caught.value)
        async with OperatorClient(live.address, pki.operator) as operator:
            assert await operator.submit(_experiment())

    secured(scenario)
