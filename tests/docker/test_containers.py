"""The images and compose files with a real Docker engine: `make test-containers`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import urllib.request
from collections.abc import Iterator

import pytest
from docker_engine import ROOT, TAG, NoEngine, compose, engine, images, run
from fault_injection import free_port
from processes import until
from result_schema import RUN_KEYS
from sysfs_trees import FAKE_ORIN_NANO, fake_file, fake_hwmon

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

DOCKER = ROOT / "docker"


class Cluster:
    """compose.yaml, up or down, on ports of its own."""

    def __init__(self, env: dict[str, str]) -> None:
        self.http, self.grpc = free_port(), free_port()
        self.env = {**env, "FEDERA_HTTP_PORT": str(self.http), "FEDERA_GRPC_PORT": str(self.grpc)}

    def compose(self, *arguments: str, check: bool = True, limit_s: float = 600) -> str:
        return run(*compose(), *arguments, env=self.env, cwd=DOCKER, check=check, limit_s=limit_s)

    def docker(self, *arguments: str, check: bool = True) -> str:
        return run("docker", *arguments, env=self.env, check=check).strip()

    def container(self, service: str) -> str:
        """Its id, also of one that has ended."""
        label = f"label=com.docker.compose.service={service}"
        project = f"label=com.docker.compose.project={self.env['COMPOSE_PROJECT_NAME']}"
        oneoff = "label=com.docker.compose.oneoff=False"
        return self.docker("ps", "-aq", "--filter", label, "--filter", project, "--filter", oneoff).splitlines()[0]

    def inspect(self, service: str, what: str) -> str:
        return self.docker("inspect", "--format", what, self.container(service))

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            return str(answer.read().decode())

    def round(self) -> int:
        """That the metrics say is under way."""
        try:
            lines = self.get("/metrics").splitlines()
        except OSError:
            return 0
        return next((int(float(line.split()[1])) for line in lines if line.startswith("federa_round ")), 0)

    def bench(self, *arguments: str, exit_code: int) -> str:
        """`compose run bench` to its end."""
        name = f"{self.env['COMPOSE_PROJECT_NAME']}-once"
        self.compose("run", "-d", "--name", name, "bench", *arguments)
        try:
            assert self.docker("wait", name) == str(exit_code), self.docker("logs", name)
            return self.docker("logs", name)
        finally:
            self.docker("rm", "-f", name)

    def result_file(self, path: str) -> bytes:
        """A file of the operator's results."""
        volume = f"{self.env['COMPOSE_PROJECT_NAME']}_results"
        command = ("run", "--rm", "-v", f"{volume}:/results", "--entrypoint", "base64", f"federa-coordinator:{TAG}")
        return base64.b64decode(self.docker(*command, f"/results/{path}"))

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("engine")
    try:
        with engine(folder) as env, images(env, folder) as named:
            yield {**env, **named}
    except NoEngine as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster(built: dict[str, str]) -> Iterator[Cluster]:
    """Up, with its first run at its end."""
    cluster = Cluster(built)
    cluster.down()
    try:
        cluster.compose("up", "-d")
        assert cluster.docker("wait", cluster.container("bench")) == "0", cluster.compose("logs")
        yield cluster
    finally:
        cluster.down()


# ---- the images


def test_an_image_runs_as_nobody_and_says_what_it_is(built):
    for image in (f"federa-coordinator:{TAG}", f"federa-worker:{TAG}"):
        config = json.loads(run("docker", "inspect", "--format", "{{json .Config}}", image, env=built))
        assert config["User"] == "10001:10001"
        assert config["Healthcheck"]["Test"][:4] == ["CMD", "python", "-m", "protos.health"]
        labels = {
            name: value for name, value in config["Labels"].items() if name.startswith("org.opencontainers.image.")
        }
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert labels["org.opencontainers.image.version"]


def test_a_torch_for_another_cuda_ends_the_build_with_one_line(built):
    command = ["docker", "run", "--rm", "--entrypoint", "python", "-v", f"{DOCKER}/image:/image:ro"]
    printed = run(*command, f"federa-worker:{TAG}", "/image/check_torch.py", "12.6", env=built, check=False)
    assert "CUDA none" in printed and "TORCH_CUDA: this torch is built for CUDA none, not 12.6" in printed
    run(*command, f"federa-worker:{TAG}", "/image/check_torch.py", "none", env=built)


# ---- compose.yaml


def test_up_reaches_the_target_and_report_and_metrics_answer_from_outside(cluster):
    result = json.loads(cluster.result_file("first/result.json"))
    (run_,) = result["runs"]
    assert run_.keys() >= RUN_KEYS
    assert run_["reached"] and run_["target"] == 0.9
    assert sorted(device["name"] for device in run_["devices"]) == ["worker-0", "worker-1"]
    assert "<html" in cluster.get("/").lower()
    assert json.loads(cluster.get("/result.json"))["runs"][0]["reached"]
    assert "federa_devices_connected 2" in cluster.get("/metrics")
    assert cluster.result_file("first/report.html").startswith(b"<!")


def test_the_containers_are_healthy_by_grpcs_health_protocol(cluster):
    for service in ("coordinator", "worker-0", "worker-1"):
        until(lambda service=service: cluster.inspect(service, "{{.State.Health.Status}}") == "healthy", service)


def test_the_port_of_the_coordinator_speaks_tls_of_1_2_or_above_and_demands_a_certificate(cluster):
    def answer(most: ssl.TLSVersion) -> bytes:
        """The first bytes of the server's HTTP/2, after a handshake without a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, most
        with socket.create_connection(("127.0.0.1", cluster.grpc), 10) as raw, context.wrap_socket(raw) as tls:
            with contextlib.suppress(ConnectionError):
                return tls.recv(100)
            return b""

    # In TLS 1.3 a client's handshake is over before the server looks at the certificate.
    assert answer(ssl.TLSVersion.TLSv1_3) == b""
    with pytest.raises(ssl.SSLError):
        answer(ssl.TLSVersion.TLSv1_1)
    with socket.create_connection(("127.0.0.1", cluster.grpc), 10) as plain:
        plain.settimeout(15)
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        with contextlib.suppress(ConnectionError):
            assert plain.recv(100)[3:4] != b"\x04"  # no SETTINGS, as a plaintext server's answer would begin with


def test_a_port_scan_from_the_containers_network_finds_what_the_readme_says(cluster):
    def open_ports(address: str) -> set[int]:
        found = set()
        for port in range(1, 65536):
            with socket.socket() as probe:
                probe.settimeout(3)
                if probe.connect_ex((address, port)) == 0:
                    found.add(port)
        return found

    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    assert open_ports(cluster.inspect("coordinator", address)) == {8080, 50051}
    assert open_ports(cluster.inspect("worker-0", address)) == set()
    published = cluster.inspect("coordinator", "{{json .NetworkSettings.Ports}}")
    assert {entry["HostIp"] for entries in json.loads(published).values() for entry in entries} == {"127.0.0.1"}


def test_a_run_that_is_killed_taken_down_and_brought_up_ends_with_the_state_of_an_undisturbed_one(cluster):
    experiment = ("--method", "federa", "--target-acc", "1", "--rounds", "5", "--seed", "3")
    experiment += ("--set", "data.max_length=16")  # a round of seconds
    cluster.bench(*experiment, "--out", "/results/undisturbed", exit_code=3)

    cluster.compose("run", "-d", "--name", "federa-test-disturbed", "bench", *experiment, "--out", "/results/disturbed")
    try:
        until(lambda: 2 <= cluster.round() < 5, "the second round")  # until it begins, the one before is shown
        cluster.docker("kill", cluster.container("worker-1"))
        cluster.compose("up", "-d", "worker-1")
        until(lambda: cluster.round() >= 3, "the third round")
        # Not Docker's doing, as an out-of-memory kill is not: the restart policy brings it back.
        os.kill(int(cluster.inspect("coordinator", "{{.State.Pid}}")), signal.SIGKILL)
        until(lambda: cluster.round() >= 3, "a coordinator that is back")
        cluster.docker("kill", cluster.container("coordinator"))
    finally:
        cluster.docker("rm", "-f", "federa-test-disturbed")
    cluster.compose("down", "--timeout", "10")
    cluster.compose("up", "-d", "coordinator", "worker-0", "worker-1")
    until(lambda: cluster.round() >= 4, "the run that goes on without its operator")
    cluster.bench(*experiment, "--out", "/results/disturbed", exit_code=3)

    assert json.loads(cluster.result_file("disturbed/result.json"))["runs"][0]["rounds"] == 5
    state = "final/state.safetensors"
    assert cluster.result_file(f"disturbed/{state}") == cluster.result_file(f"undisturbed/{state}")


# ---- compose.jetson.yaml


def test_the_guides_copy_of_a_certificate_is_readable_by_the_images_user_alone(cluster, tmp_path):
    guide = (ROOT / "docs/jetson-cluster.md").read_text()
    (command,) = re.findall(r"^docker compose run --rm -T --entrypoint tar certs .*$", guide, re.MULTILINE)
    assert command in (ROOT / "README.md").read_text()
    cluster.compose("run", "--rm", "certs", "issue", "orin-1")
    # This machine is the board too.
    for written, here in (
        ("ssh orin-1 ", ""), ("/etc/federa/certs:", f"{tmp_path}/certs:"),
        (" federa-worker ", f" federa-worker:{TAG} "),
        ("docker compose", " ".join(compose())),
    ):  # fmt: skip
        assert written in command
        command = command.replace(written, here)
    run("bash", "-euo", "pipefail", "-c", command, env=cluster.env, cwd=DOCKER)
    certs = tmp_path / "certs"
    assert {"ca.crt", "tls.crt", "tls.key"} <= {path.name for path in certs.iterdir()}
    assert {path.stat().st_uid for path in (certs, *certs.iterdir())} == {10001}
    assert (certs / "tls.key").stat().st_mode & 0o077 == 0


def test_a_container_reads_board_and_power_of_a_fake_orin_mounted_as_the_jetson_file_does(built, cluster, tmp_path):
    for path in ("usr/bin/tegrastats", "etc/nv_tegra_release", "etc/nvpmodel.conf", "var/lib/nvpmodel/status"):
        fake_file(tmp_path, path, "")
    fake_file(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic")
    fake_file(tmp_path, "etc/nvpmodel.conf", "< POWER_MODEL ID=2 NAME=FAKE_MODE >")
    fake_file(tmp_path, "var/lib/nvpmodel/status", "pmode:0002")
    fake_file(tmp_path, "sys/firmware/devicetree/base/model", "").write_bytes(
        b"NVIDIA Jetson Orin Nano (a fake tree)\0"
    )
    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    for folder in ("sys/fs/cgroup", "sys/devices/virtual/powercap"):
        (tmp_path / folder).mkdir(parents=True)  # where Docker mounts its own
    (tmp_path / "data").mkdir()
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755)
    volume = f"{built['COMPOSE_PROJECT_NAME']}_worker-0-certs"
    env = {
        **built,
        "COMPOSE_PROJECT_NAME": f"{built['COMPOSE_PROJECT_NAME']}-jetson",
        "FEDERA_COORDINATOR": "coordinator:50051",
        "FEDERA_RUNTIME": "runc",
        "FEDERA_ROOT": str(tmp_path),
        "FEDERA_SYS": f"{tmp_path}/sys",
        "FEDERA_DATA": f"{tmp_path}/data",
        "FEDERA_CERTS": run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume, env=built).strip(),
    }
    command = (*compose(), "-f", "compose.jetson.yaml")
    try:
        printed = run(*command, "run", "--rm", "worker", "--check", env=env, cwd=DOCKER, check=False)
    finally:
        run(*command, "down", "--volumes", env=env, cwd=DOCKER, check=False)
    rows = {line.split()[0].lower(): line for line in printed.splitlines() if line.split()}
    assert "Jetson Orin Nano (a fake tree)" in printed, printed
    assert "36.4.3" in printed and "FAKE_MODE" in printed, printed
    assert "sysfs" in printed and "5.0" in printed and "module" in printed, (printed, rows)
