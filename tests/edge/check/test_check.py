"""federa-worker --check: what it finds on a device and at a coordinator, and what it says to do."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from concurrent import futures
from contextlib import contextmanager
from datetime import timedelta

import grpc
import pytest
import torch
from certificates import CertificateFixture
from fault_injection import free_port
from processes import NOOP, Process, ended, listening
from rich.console import Console
from sysfs_trees import FAKE_ORIN_NANO, fake_compatible, fake_file, fake_hwmon, fake_model

from edge.check.compute import check_compute
from edge.check.network import check_network
from edge.check.result import CheckResult, guarded
from edge.check.run import check_device
from edge.check.table import show
from edge.main import main, parser
from edge.worker.host_workers import HostWorkers
from edge.worker.identity import Identity
from federa.cores import count_cores
from federa.errors import BadInput
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL
from protos.federation_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server

ORIN_NANO = "NVIDIA Jetson Orin Nano Developer Kit"
ROWS = [
    "board", "memory", "CPU", "torch", "device", "fp32", "bf16", "fp16", "power", "data", "certificate", "coordinator",
    "state folder", "cache folder",
]  # fmt: skip


def options(tmp_path, *arguments):
    folders = ("--state", str(tmp_path / "state"), "--cache", str(tmp_path / "cache"))
    return parser().parse_args(["--check", "--device", "cpu", *folders, *map(str, arguments)])


def look(tmp_path, *arguments, root):
    """Findings by what was looked at, of a fake tree."""
    return by_name(check_device(options(tmp_path, *arguments), root))


def by_name(findings):
    return {finding.what: finding for finding in findings}


def network(tmp_path, *arguments):
    return by_name(check_network(options(tmp_path, *arguments)))


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    """The times mean nothing then, and the tests are fast."""
    monkeypatch.setattr("edge.check.compute._SIDE", {"cpu": 32})
    monkeypatch.setattr("edge.check.compute._ENOUGH_S", 0.0)
    monkeypatch.setattr("edge.check.run._POWER_S", 0.1)


@pytest.fixture
def fake_orin(tmp_path):
    root = tmp_path / "root"
    fake_model(root, ORIN_NANO)
    fake_hwmon(root, "1-0040", FAKE_ORIN_NANO)
    fake_file(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64")
    fake_file(root, "var/lib/nvpmodel/status", "pmode:0002")
    fake_file(root, "etc/nvpmodel.conf", "< POWER_MODEL ID=2 NAME=MAXN_SUPER >")
    fake_file(root, "proc/meminfo", "MemTotal: 7800000 kB\nMemFree: 100000 kB\nMemAvailable: 6291456 kB")
    fake_file(root, "proc/sys/kernel/osrelease", "5.15.148-tegra")
    return root


@contextmanager
def stand_in(ahead_s=0.0, protocol=PROTOCOL, **others):
    """A coordinator that answers a greeting and nothing else, with a clock that is wrong by so much."""

    class StandIn(WorkerServiceServicer):
        def Greet(self, request, context):
            known = {**versions(), **others}
            return pb.GreetReply(protocol=protocol, versions=known, unix_s=time.time() + ahead_s)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_WorkerServiceServicer_to_server(StandIn(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None)


# ---- the board


def test_a_jetson_in_order_is_all_ok(tmp_path, fake_orin):
    found = look(tmp_path, root=fake_orin)
    assert found["board"] == CheckResult(what="board", found=ORIN_NANO)
    assert found["JetPack"].found == "L4T 36.4.3 (JetPack 6)"
    assert found["power mode"].found == "MAXN_SUPER (2)"
    assert found["memory"].found == "6144 of 7617 MiB are free"
    assert found["power"].found == (
        "sysfs: 5.00 W of the module (VDD_IN 5000 mW, VDD_CPU_GPU_CV 1000 mW, VDD_SOC 1500 mW)"
    )
    cost = found["cost of power readings"].found
    assert cost.endswith(" of a core at 10 Hz")
    assert " ms a reading, " in cost
    assert {finding.level for finding in found.values()} == {"ok"}
    assert not any(finding.todo for finding in found.values())


def test_a_machine_that_is_no_jetson_is_no_failure(tmp_path):
    found = look(tmp_path, "--power", "none", root=tmp_path / "nothing")
    assert list(found) == ROWS
    assert found["board"].found.endswith(", not a Jetson")
    assert found["power"].found == "not measured, as asked (--power none)"
    assert {name for name, finding in found.items() if finding.level != "ok"} == {"memory"}  # no /proc/meminfo there


def test_a_jetson_in_a_container_that_hides_it_is_told_what_to_mount(tmp_path):
    # The kernel is the host's; board, release and power mode are not mounted.
    root = tmp_path / "root"
    fake_file(root, "proc/sys/kernel/osrelease", "5.15.148-tegra")
    fake_hwmon(root, "1-0040", FAKE_ORIN_NANO)
    found = look(tmp_path, root=root)
    for name in ("board", "JetPack", "power mode"):
        assert found[name].level == "warning"
        assert "docker/compose.jetson.yaml" in found[name].todo
    assert "--board" in found["board"].todo
    assert found["power"].level == "warning"
    assert "no total" in found["power"].found
    assert "--board" in found["power"].todo
    # And --board mends it.
    found = look(tmp_path, "--board", "Orin Nano", root=root)
    assert (found["board"].level, found["power"].level) == ("ok", "ok")


def test_a_makers_board_is_named_by_nvidias_module(tmp_path):
    root = tmp_path / "root"
    fake_model(root, "ACME EdgeBox 220")
    fake_compatible(root, "acme,edgebox-220", "nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234")
    fake_hwmon(root, "1-0040", FAKE_ORIN_NANO)
    found = look(tmp_path, root=root)
    assert found["board"] == CheckResult(what="board", found="ACME EdgeBox 220 (Orin NX)")
    assert found["power"].found.startswith("sysfs: 5.00 W of the module (")


def test_a_label_that_stands_twice_is_told_with_what_to_do(tmp_path, fake_orin):
    for chip in ("3-0040", "3-0041"):
        fake_hwmon(fake_orin, chip, (("VDD_IN", 12000, 1500),))
    assert look(tmp_path, root=fake_orin)["power"].found.startswith("sysfs: 5.00 W of the module (")
    for label in (fake_orin / "sys/bus/i2c/drivers/ina3221/1-0040").rglob("in1_label"):
        label.write_text("VDD_OUT\n")
    found = look(tmp_path, root=fake_orin)["power"]
    assert found.level == "warning"
    assert found.found.startswith(
        "sysfs: no total (VDD_IN stands there twice, and which is the module's is not known): "
    )
    assert "VDD_IN (3-0040 1) 18000 mW" in found.found
    assert "unbind the chip" in found.todo and "--board" not in found.todo


def test_a_known_board_without_its_input_is_not_told_to_name_the_board(tmp_path, fake_orin):
    for label in fake_orin.rglob("in1_label"):
        label.write_text("VDD_OUT\n")
    found = look(tmp_path, root=fake_orin)["power"]
    assert found.found.startswith("sysfs: no total (Orin Nano needs VDD_IN too): ")
    assert found.todo.startswith("the run goes on without joules; try another --power")


def test_a_board_without_a_known_total_is_a_warning(tmp_path):
    root = tmp_path / "root"
    fake_model(root, "NVIDIA Jetson Future")
    found = look(tmp_path, "--power", "none", root=root)
    assert found["board"].level == "warning"
    assert "--board" in found["board"].todo


def test_little_memory_is_a_warning(tmp_path, fake_orin):
    fake_file(fake_orin, "proc/meminfo", "MemTotal: 7800000 kB\nMemFree: 7000000 kB\nMemAvailable: 409600 kB")
    memory = look(tmp_path, "--power", "none", root=fake_orin)["memory"]
    assert (memory.level, memory.found) == ("warning", "400 of 7617 MiB are free")
    assert "end what else runs" in memory.todo


def test_a_source_of_power_that_does_not_work_here_is_a_failure(tmp_path):
    power = look(tmp_path, "--power", "sysfs", root=tmp_path / "nothing")["power"]
    assert power.level == "failed"
    assert "no INA3221" in power.found


def test_no_source_of_power_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    power = look(tmp_path, root=tmp_path / "nothing")["power"]
    if "not measured" not in power.found:
        pytest.skip("this machine has a power sensor of another kind")
    assert power.level == "warning"
    assert "without joules" in power.todo


# ---- torch


def test_the_cores_are_counted_and_the_threads_are_what_a_worker_would_get(tmp_path, monkeypatch):
    assert by_name(check_compute(options(tmp_path), jetson=False))["CPU"].found == "1 thread: as OMP_NUM_THREADS says"
    monkeypatch.delenv("OMP_NUM_THREADS")
    cores, other = count_cores(), HostWorkers("bob")
    cpu = by_name(check_compute(options(tmp_path, "--name", "ada"), jetson=False))["CPU"]
    assert cpu.found.endswith(f": {cores}")
    assert cpu.found.startswith(f"{cores.count} thread")
    other.register()
    try:
        shared = by_name(check_compute(options(tmp_path, "--name", "ada"), jetson=False))["CPU"]
        itself = by_name(check_compute(options(tmp_path, "--name", "bob"), jetson=False))["CPU"]
    finally:
        other.leave()
    assert shared.found.endswith(f": {cores}, shared with 1 other worker on this machine: bob")
    assert itself.found == cpu.found
    many = by_name(check_compute(options(tmp_path, "--threads", str(cores.count + 1)), jetson=False))["CPU"]
    assert many.level == "warning"
    assert "--threads auto" in many.todo
    torch.set_num_threads(1)


def test_each_precision_is_timed_on_the_device(tmp_path):
    found = by_name(check_compute(options(tmp_path), jetson=False))
    assert torch.__version__ in found["torch"].found
    for name in ("fp32", "bf16", "fp16"):
        assert found[name].level == "ok"
        assert "ms a matmul and backward pass of 32 x 32" in found[name].found
        assert float(found[name].found.split()[0]) > 0
    assert sum("--precision auto takes" in finding.found for finding in found.values()) == 1


def test_a_precision_that_fails_is_a_warning_and_fp32_a_failure(tmp_path, monkeypatch):
    real = torch.Tensor.__matmul__

    def fake_broken_matmul(left, right):
        if left.dtype in broken:
            raise RuntimeError("no kernel image is available for execution on the device")
        return real(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", fake_broken_matmul)
    broken = {torch.bfloat16}
    found = by_name(check_compute(options(tmp_path), jetson=True))
    assert [found[name].level for name in ("fp32", "bf16", "fp16")] == ["ok", "warning", "ok"]
    assert "no kernel image" in found["bf16"].found
    assert "auto" in found["bf16"].todo
    broken = {torch.float32}
    assert by_name(check_compute(options(tmp_path), jetson=True))["fp32"].level == "failed"


def test_a_jetson_whose_torch_has_no_gpu_is_told_where_to_find_one(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that works")
    device = by_name(check_compute(options(tmp_path, "--device", "auto"), jetson=True))["device"]
    assert device.level == "failed"
    assert ("jetson-ai-lab" if torch.version.cuda is None else "FEDERA_VIDEO_GID") in device.todo
    assert by_name(check_compute(options(tmp_path, "--device", "auto"), jetson=False))["device"].level == "ok"
    asked = by_name(check_compute(options(tmp_path, "--device", "cuda"), jetson=False))["device"]
    assert asked.level == "failed"


def test_a_jetson_whose_torch_has_cuda_and_finds_no_gpu_is_not_told_to_install_another(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for asked in ("auto", "cuda"):
        device = by_name(check_compute(options(tmp_path, "--device", asked), jetson=True))["device"]
        assert device.level == "failed"
        assert "FEDERA_VIDEO_GID" in device.todo and "jetson-ai-lab" not in device.todo


# ---- data and folders


def test_data_is_counted_and_its_text_not_shown(tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [{"text": f"a secret {i}", "label": "sport" if i % 3 else "tech"} for i in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = look(tmp_path, "--data", file, "--power", "none", root=tmp_path / "nothing")["data"]
    assert data == CheckResult(what="data", found=f"{file}: 30 documents with 2 labels: sport (20), tech (10)")
    # One label alone is a device's right: others have the others.
    file.write_text(json.dumps({"text": "a secret", "label": "tech"}) + "\n")
    assert look(tmp_path, "--data", file, "--power", "none", root=tmp_path / "nothing")["data"].level == "ok"


def test_texts_in_place_of_labels_are_noticed_and_not_shown(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"label": f"a secret {i}", "text": "x"}) + "\n" for i in range(30)))
    data = look(tmp_path, "--data", file, "--power", "none", root=tmp_path / "nothing")["data"]
    assert data.level == "warning"
    assert "label_column" in data.todo
    assert "secret" not in data.found


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_data_that_cannot_be_read_is_a_failure_that_says_where(tmp_path, content):
    file = tmp_path / "mine.jsonl"
    file.write_text(content + "\n")
    data = look(tmp_path, "--data", file, "--power", "none", root=tmp_path / "nothing")["data"]
    assert data.level == "failed"
    assert "line 1" in data.found
    assert data.todo
    assert "secret" not in data.found


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("x.csv", 'text,label\n"a secret,x\nb,y\n"c" d,x\n', "line 2 opens a quote that ends in the midst of line 4"),
        ("x.csv", "text,label\na secret,\nb,x\nc,\nd,\n", "in 3 of 4 rows (lines 2, 4, 5)"),
        ("x.tsv", 'text\tlabel\n"a secret"\tx\nb\ty\n', "line 2 has quotes of which it is not certain"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_failure_that_says_where(tmp_path, name, content, found):
    file = tmp_path / name
    file.write_text(content)
    data = look(tmp_path, "--data", file, "--power", "none", root=tmp_path / "nothing")["data"]
    assert data.level == "failed" and found in data.found and "secret" not in data.found


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("x.csv", "review,stars\na secret,x\nb,y\n", "has no columns 'text' and 'label'"),
        ("x.csv", "a secret of the house,x\nanother secret,y\n", "has no columns 'text' and 'label'"),
        ("x.jsonl", '{"body": "a secret", "label": "x"}\n', "line 1 has no column 'text'"),
    ],
)
def test_columns_of_other_names_are_a_warning_for_the_experiment_may_name_them(tmp_path, name, content, found):
    file = tmp_path / name
    file.write_text(content)
    data = look(tmp_path, "--data", file, "--power", "none", root=tmp_path / "nothing")["data"]
    assert data.level == "warning" and found in data.found and "secret" not in data.found
    assert "data.text_column" in data.todo


def test_an_array_and_a_quoted_table_are_counted(tmp_path):
    for name, content in (
        ("x.json", '[{"text": "a", "label": "x"},\n {"text": "b", "label": "y"}]'),
        ("x.tsv", '"text"\t"label"\n"a"\t"x"\n"b"\t"y"\n'),
        ("x.csv", "text;label\na;x\nb;y\n"),
    ):
        (tmp_path / name).write_text(content)
        data = look(tmp_path, "--data", tmp_path / name, "--power", "none", root=tmp_path / "nothing")["data"]
        assert data.level == "ok" and "2 documents with 2 labels" in data.found


def test_a_file_is_looked_at_as_data_of_the_task_whose_columns_it_has(tmp_path):
    for name, content, found in (
        ("x.TXT", '1\t"A <e1>b</e1> <e2>c</e2>."\nOther\nComment:\n\n', "1 documents with 1 labels: Other (1)"),
        ("x.label", "LOC:city Where ?\nHUM:ind Who ?\n", "2 documents with 2 labels: HUM (1), LOC (1)"),
        ("x.conll", "a\tO\nb\tB-x\n", "1 sentences with 2 words"),
        ("y.conll", "a\tO\nb\tO\nsecret\n", "y.conll line 3 has 1 column"),
    ):
        (tmp_path / name).write_text(content)
        assert found in look(tmp_path, "--data", tmp_path / name, "--power", "none", root=tmp_path)["data"].found


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = look(tmp_path, "--state", blocked / "state", "--power", "none", root=tmp_path / "nothing")
    assert found["state folder"].level == "failed"
    assert "--state" in found["state folder"].todo
    assert found["cache folder"].level == "ok"


def test_nothing_is_left_behind(tmp_path):
    look(tmp_path, "--power", "none", root=tmp_path / "nothing")
    assert os.listdir(tmp_path) == []


# ---- the coordinator


def test_a_real_coordinator_answers_and_what_is_piped_is_plain(tmp_path):
    out = tmp_path / "out"
    coordinator = Process([*NOOP, "coordinator", "--serve", "--out", str(out), "--listen", "127.0.0.1:0"], tmp_path)
    with ended(coordinator):
        address = listening(coordinator)
        command = ["-m", "edge.main", "--check", "--coordinator", address, "--device", "cpu", "--power", "none"]
        checked = Process([*command, "--name", "ada", "--threads", "1"], tmp_path)
        with ended(checked):
            assert checked.wait() == 0, checked.out + checked.err
        assert "\x1b" not in checked.out
        lines = checked.out.splitlines()
        assert all(line.startswith(("ok  ", "warning  ")) for line in lines[:-1])
        assert any(f"coordinator: {address} answers: federa " in line for line in lines)
        assert any("clock: " in line for line in lines)
        assert "failed" not in lines[-1]
        # It did not join.
        assert "ada" not in coordinator.err


def test_nobody_at_the_address_is_a_failure(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    coordinator = network(tmp_path, "--coordinator", address)["coordinator"]
    assert coordinator.level == "failed"
    assert f"nobody answers at {address}" in coordinator.found
    assert "is it running" in coordinator.todo
    assert "Deadline" not in coordinator.found, "it was not waited for"


def test_what_answers_and_is_no_coordinator_is_told_so(tmp_path):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        coordinator = network(tmp_path, "--coordinator", address)["coordinator"]
    finally:
        server.stop(grace=None)
    assert coordinator.level == "failed"
    assert "no coordinator of this federa" in coordinator.found


@pytest.mark.parametrize(("ahead_s", "word"), [(3600.0, "behind"), (-5.0, "ahead of")])
def test_a_clock_that_is_wrong_is_a_warning(tmp_path, ahead_s, word):
    with stand_in(ahead_s) as address:
        found = network(tmp_path, "--coordinator", address)
    assert found["clock"].level == "warning"
    assert f" s {word} the coordinator's" in found["clock"].found
    assert float(found["clock"].found.split()[0]) == pytest.approx(abs(ahead_s), rel=0.05)
    assert "set-ntp" in found["clock"].todo
    assert found["coordinator"].level == "ok"


def test_clocks_that_agree_are_ok(tmp_path):
    with stand_in(0.5) as address:
        assert network(tmp_path, "--coordinator", address)["clock"].level == "ok"


def test_another_protocol_is_a_failure(tmp_path):
    with stand_in(protocol=PROTOCOL + 1, federa="9.9") as address:
        coordinator = network(tmp_path, "--coordinator", address)["coordinator"]
    assert coordinator.level == "failed"
    assert f"federa 9.9, protocol {PROTOCOL + 1}" in coordinator.found
    assert "same federa" in coordinator.todo


def test_other_versions_are_a_warning_and_another_build_is_not(tmp_path):
    with stand_in(transformers="3.0") as address:
        coordinator = network(tmp_path, "--coordinator", address)["coordinator"]
    assert coordinator.level == "warning"
    assert "transformers 3.0 there" in coordinator.found
    with stand_in(torch=f"{versions()['torch'].partition('+')[0]}+cu999") as address:
        assert network(tmp_path, "--coordinator", address)["coordinator"].level == "ok"


# ---- certificates


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return CertificateFixture(tmp_path_factory.mktemp("pki") / "certs")


def test_a_certificate_in_order_says_name_and_days_left(tmp_path, pki):
    pki.device("grace", valid=timedelta(days=100, minutes=5))
    found = network(tmp_path, "--certs", pki.folder / "grace")
    assert found["certificate"].level == "ok"
    assert "device 'grace', serial " in found["certificate"].found
    assert "100 days left" in found["certificate"].found


def test_a_certificate_that_soon_expires_is_a_warning(tmp_path, pki):
    pki.device("kay", valid=timedelta(days=29, minutes=5))
    certificate = network(tmp_path, "--certs", pki.folder / "kay")["certificate"]
    assert certificate.level == "warning"
    assert "29 days left" in certificate.found
    assert "federa-certs issue kay" in certificate.todo


def test_an_expired_certificate_is_a_failure_and_nobody_is_asked(tmp_path, pki):
    pki.device("ida", valid=timedelta(seconds=-60))
    found = network(tmp_path, "--certs", pki.folder / "ida", "--coordinator", "192.0.2.1:50051")
    assert found["certificate"].level == "failed"
    assert "expired" in found["certificate"].found
    assert found["certificate"].todo
    assert found["coordinator"].level == "warning"
    assert "clock" not in found


def test_a_certificate_of_another_role_or_name_is_a_failure(tmp_path, pki):
    operator = network(tmp_path, "--certs", pki.folder / "operator")["certificate"]
    assert (operator.level, "device" in operator.todo) == ("failed", True)
    other = network(tmp_path, "--certs", pki.folder / "ada", "--name", "eve")["certificate"]
    assert (other.level, "--name ada" in other.todo) == ("failed", True)


def test_no_certificate_for_another_machine_is_a_failure_and_nobody_is_asked(tmp_path):
    found = network(tmp_path, "--coordinator", "192.0.2.1:50051")
    assert found["certificate"].level == "failed"
    assert "--certs" in found["certificate"].todo
    assert found["coordinator"].found == "not asked, for want of a certificate"


def test_a_real_coordinator_over_tls(tmp_path, pki):
    arguments = ["--serve", "--out", str(tmp_path / "out"), "--listen", "127.0.0.1:0"]
    coordinator = Process([*NOOP, "coordinator", *arguments, "--certs", str(pki.folder / "coordinator")], tmp_path)
    with ended(coordinator):
        address = listening(coordinator)
        found = network(tmp_path, "--coordinator", address, "--certs", pki.folder / "ada")
        assert found["coordinator"].level == "ok"
        assert found["clock"].level == "ok"
        plain = network(tmp_path, "--coordinator", address)["coordinator"]
        assert plain.level == "failed"
        assert "TLS" in plain.found
        stranger = CertificateFixture(tmp_path / "stranger")
        other = network(tmp_path, "--coordinator", address, "--certs", stranger.folder / "ada")["coordinator"]
        assert other.level == "failed"
        assert other.todo


# ---- the command


def run(capsys, *arguments):
    code = main(["--check", "--device", "cpu", "--power", "none", *map(str, arguments)])
    return code, capsys.readouterr()


def test_exit_codes(capsys, tmp_path):
    code, printed = run(capsys)
    assert code == 0
    assert printed.out.splitlines()[-1].split()[1] == "ok"
    code, printed = run(capsys, "--coordinator", f"127.0.0.1:{free_port()}")
    assert code == 1
    assert ", 1 failed" in printed.out.splitlines()[-1] or printed.out.splitlines()[-1].endswith("1 failed")
    assert run(capsys, "--power-hz", "0")[0] == 2
    assert run(capsys, "--coordinator", "nonsense")[0] == 2
    assert run(capsys, "--name", "\n")[0] == 2
    assert run(capsys, "--data", tmp_path / "none.jsonl")[0] == 2
    assert run(capsys, "--certs", tmp_path, "--insecure")[0] == 2


REFUSED = [
    ("--clients", "4-0", "--clients: must be numbers and ranges such as 0-4 or 1,3,5-7, not '4-0'"),
    ("--clients", "0-4,", "--clients: must be numbers and ranges"),
    ("--clients", "a", "--clients: must be numbers and ranges"),
    ("--clients", "9" * 6000, "--clients: must be numbers and ranges"),
    ("--clients", "1048576", "--clients: client numbers must be below 1048576"),
    ("--board", "Orion", "--board: no board 'Orion' is known; it may be Orin Nano"),
    ("--coordinator", "nowhere", "--coordinator: "),
    ("--coordinator", "127.0.0.1:0", "--coordinator: "),
    ("--proxy", "http://192.0.2.1:3128", "--proxy: give --certs DIR too, or --insecure"),
    ("--name", "a\nb", "--name: must be 1 to 100 printable characters"),
    ("--power-hz", "1e9", "--power-hz: "),
    ("--power", "sysfs,tegrastats", "--power: "),
    ("--power", "replay:", "--power: replay: names no file"),
    ("--power", "replay:/dev/zero", "--power: cannot read replay:/dev/zero: it is a device, and must be a file"),
    ("--power", "replay:/dev", "--power: cannot read replay:/dev: it is a folder, and must be a file"),
    ("--power", "replay:PIPE", "it is a pipe, and must be a file"),
    ("--power", "replay:SOCKET", "it is a socket, and must be a file"),
    ("--power", "replay:HUGE", "it has 1.10 TB, and may have 256.0 MB at most"),
    ("--data", "/dev/zero", "--data: cannot read /dev/zero: it is a device, and must be a file"),
    ("--data", "PIPE", "it is a pipe, and must be a file"),
    ("--data", "/nowhere.csv", "--data: no such file: /nowhere.csv"),
    ("--threads", "0", "--threads: "),
    ("--give-up-after", "nan", "--give-up-after: "),
    ("--health", "0.0.0.0:1", "--health: "),
]


@pytest.mark.parametrize(("option", "value", "message"), REFUSED)
def test_what_a_worker_refuses_its_check_refuses_in_the_same_words(
    capsys, tmp_path, monkeypatch, option, value, message
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("PIPE")
    with socket.socket(socket.AF_UNIX) as unix, open("HUGE", "wb") as huge:
        unix.bind("SOCKET")
        huge.truncate(1 << 40)
    needed = {"--coordinator": "127.0.0.1:1", "--name": "ada", "--power": "none", option: value}
    arguments = [text for pair in needed.items() for text in pair]
    said = []
    for command in (arguments, ["--check", "--device", "cpu", *arguments]):
        assert main(command, lambda options: pytest.fail("it went on")) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert said[0].startswith("federa-worker: ") and message in said[0]
    assert said[0].count("\n") == 1 and len(said[0]) < 500


def test_it_takes_no_lock_on_the_name(capsys, tmp_path):
    with Identity(tmp_path, "ada"):
        assert run(capsys, "--state", tmp_path, "--name", "ada")[0] == 0


def test_without_check_a_coordinator_is_still_required(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--name", "ada"])
    assert caught.value.code == 2
    assert "--coordinator" in capsys.readouterr().err


FINDINGS = [
    CheckResult(what="board", found="[bold]not a markup[/bold]"),
    CheckResult(what="clock", level="warning", found="late " * 60, todo="set it"),
    CheckResult(what="coordinator", level="failed", found="away", todo="start it"),
]


def test_piped_it_is_a_line_each_however_long():
    console = Console(file=io.StringIO(), width=80)
    assert not show(FINDINGS, console)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "ok        board: [bold]not a markup[/bold]"
    assert lines[1] == f"warning   clock: {'late ' * 60} -> set it"
    assert lines[3] == "1 ok, 1 warning, 1 failed"


def test_on_a_terminal_it_is_a_table():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert show(FINDINGS[:2], console)
    written = console.file.getvalue()
    assert "\x1b[" in written
    assert "[bold]not a markup[/bold]" in written
    assert "what to do" in written


def test_a_look_that_breaks_does_not_end_the_others():
    def refuse():
        raise BadInput("--power: nonsense")
        yield

    def crash():
        yield CheckResult(what="one", found="fine")
        raise KeyError("two")

    (refused,) = guarded("power", refuse)
    assert (refused.level, refused.found) == ("failed", "--power: nonsense")
    one, two = guarded("thing", crash)
    assert one.level == "ok"
    assert (two.what, two.level, two.found) == ("thing", "failed", "KeyError: 'two'")
