"""The Dockerfile and the compose files, without an engine: rules, schemas, and that what is said of them is so."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE_FILES = ("compose.yaml", "compose.jetson.yaml")


def text(name: str) -> str:
    return (DOCKER / name).read_text()


def command(*words: str, cwd: Path = DOCKER, **env: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home())}
    return subprocess.run(words, cwd=cwd, env={**base, **env}, capture_output=True, text=True, timeout=120)


def composes() -> list[tuple[str, ...]]:
    """Every Compose of this machine: v2 as Docker's plugin, and docker-compose 1.29."""
    found = []
    if shutil.which("docker") and command("docker", "compose", "version").returncode == 0:
        found.append(("docker", "compose"))
    if shutil.which("docker-compose"):
        found.append(("docker-compose",))
    return found


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed")
    done = command(str(hadolint), "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    # A rule that is left out says why above it.
    lines = text("Dockerfile").splitlines()
    for number, line in enumerate(lines):
        assert "hadolint ignore" not in line or lines[number - 1].startswith("# "), line


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_every_compose_takes_the_file(file):
    if not composes():
        pytest.skip("no Compose is installed")
    for compose in composes():
        done = command(*compose, "-f", file, "config", FEDERA_COORDINATOR="nuc.lan:50051")
        assert done.returncode == 0, (compose, done.stderr)
        assert "nuc.lan:50051" in done.stdout or file == "compose.yaml"


def test_the_jetson_file_names_what_is_not_set():
    if not composes():
        pytest.skip("no Compose is installed")
    for compose in composes():
        done = command(*compose, "-f", "compose.jetson.yaml", "config")
        assert done.returncode != 0 and "HOST:PORT of the coordinator" in done.stderr, compose


def test_the_jetson_file_renders_to_one_confined_worker_with_the_boards_files():
    if not composes():
        pytest.skip("no Compose is installed")
    for compose in composes():
        done = command(
            *compose, "-f", "compose.jetson.yaml", "config",
            FEDERA_COORDINATOR="nuc.lan:50051", FEDERA_DATA_FILE="mine.jsonl", FEDERA_BOARD="Jetson AGX Orin",
        )  # fmt: skip
        services = yaml.safe_load(done.stdout)["services"]
        assert list(services) == ["worker"], compose
        worker = services["worker"]
        assert worker["runtime"] == "nvidia"
        assert worker["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
        assert worker["read_only"] and worker["cap_drop"] == ["ALL"] and "privileged" not in worker
        assert {"--coordinator=nuc.lan:50051", "--data=mine.jsonl", "--board=Jetson AGX Orin"} <= {
            *worker["entrypoint"]
        }
        assert not [word for word in worker["entrypoint"] if "insecure" in word]
        mounts = {}
        for entry in worker["volumes"]:
            if isinstance(entry, str):
                source, target, *mode = entry.split(":")
                mounts[target] = (source, mode == ["ro"])
            else:
                mounts[entry["target"]] = (entry["source"], entry.get("read_only", False))
        assert mounts["/certs"] == ("/etc/federa/certs", True) and worker["restart"] == "unless-stopped"
        for path in ("/usr/bin/tegrastats", "/etc/nv_tegra_release", "/etc/nvpmodel.conf", "/var/lib/nvpmodel", "/sys"):
            assert mounts[path] == (path, True), path
        # Docker masks /sys/firmware: the worker looks for it here.
        assert mounts["/run/host/sys/firmware"] == ("/sys/firmware", True)


def test_the_stack_is_one_for_docker_stack():
    if not shutil.which("docker") or command("docker", "stack", "config", "--help").returncode != 0:
        pytest.skip("no docker stack config")
    done = command("docker", "stack", "config", "-c", "stack.yaml")
    if "unknown" in done.stderr:
        pytest.skip("this docker has no stack config")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    deploy = {name: service["deploy"] for name, service in services.items()}
    assert deploy["worker"]["mode"] == "global"
    assert deploy["worker"]["placement"]["constraints"] == ["node.labels.jetson == true"]
    assert {entry["restart_policy"]["condition"] for entry in deploy.values()} == {"on-failure"}
    targets = {secret.get("target") for secret in services["coordinator"]["secrets"]}
    assert {"/certs/ca.crt", "/certs/tls.crt", "/certs/tls.key", "/certs/crl.pem"} <= targets
    # A service's secrets go to every node it runs on: a device's key stays on the device.
    assert "secrets" not in services["worker"]
    # Swarm ends what is not healthy, and takes the exit code 0 for an end: a worker is to wait for its coordinator.
    assert services["worker"]["healthcheck"] == {"disable": True}
    assert services["worker"]["stop_signal"] == "SIGINT"
    # Neither a virtual address nor a port of every node, which need ip_vs in the kernel of each.
    assert deploy["coordinator"]["endpoint_mode"] == "dnsrr"
    assert [port["mode"] for port in services["coordinator"]["ports"]] == ["host"]
    secrets = services["coordinator"]["secrets"]
    assert {(secret["uid"], secret["mode"]) for secret in secrets} == {("10001", 0o400)}
    command_line = services["coordinator"]["command"]
    assert "--http-token" in command_line and not {"--http-open", "--insecure"} & {*command_line}
    for service in services.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert all(mount["read_only"] for mount in services["worker"]["volumes"] if mount["type"] == "bind")
    # Swarm's schema knows none of these.
    assert not {"runtime", "privileged", "shm_size", "group_add"} & services["worker"].keys()


def test_every_variable_of_the_compose_files_is_explained():
    explained = set(re.findall(r"^#?([A-Z_]+)=", text(".env"), re.MULTILINE))
    used = {name for file in COMPOSE_FILES for name in re.findall(r"\$\{([A-Z_]+)", text(file))}
    for_tests = {"FEDERA_SYS", "FEDERA_ROOT", "FEDERA_RUNTIME", "BUILD_NETWORK"}
    assert used - for_tests <= explained
    assert explained - used == {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE"}  # Compose's own


def test_the_guide_sets_what_the_jetson_file_demands_before_its_first_command():
    guide = (DOCKER.parent / "docs/jetson-cluster.md").read_text()
    demanded = re.findall(r"\$\{([A-Z_]+):\?", text("compose.jetson.yaml"))
    assert demanded == ["FEDERA_COORDINATOR"]
    for name in demanded:
        assert guide.index(f"\n{name}=") < guide.index("docker compose build\n")
    assert guide.index("\nCOMPOSE_FILE=compose.jetson.yaml\n") < guide.index("docker compose build\n")


def test_plain_compose_up_on_a_board_is_the_worker_once_env_says_that_it_is_a_board(tmp_path):
    if not composes():
        pytest.skip("no Compose is installed")
    for name in COMPOSE_FILES:
        shutil.copy(DOCKER / name, tmp_path)
    # What the guide tells: take the # off these lines.
    settings = re.sub(r"^#(COMPOSE_FILE|FEDERA_COORDINATOR)=", r"\1=", text(".env"), flags=re.MULTILINE)
    (tmp_path / ".env").write_text(settings)
    for compose in composes():
        done = command(*compose, "config", "--services", cwd=tmp_path)
        assert done.stdout.split() == ["worker"], (compose, done.stderr)


def test_both_images_confine_their_processes():
    services = yaml.safe_load(text("compose.yaml"))["services"]
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # Nobody else's machine is asked in, before .env says so.
        ports = [port.replace("${FEDERA_GRPC_BIND:-127.0.0.1}", "127.0.0.1") for port in service.get("ports", [])]
        assert all(port.startswith("127.0.0.1:") for port in ports), name
        assert not [word for word in (*service["command"], *service.get("entrypoint", [])) if "insecure" in word], name
    assert services["certs"]["network_mode"] == "none"
    # As nobody, whatever the file that starts it says.
    assert re.findall(r"^USER (\S+)", text("Dockerfile"), re.MULTILINE) == ["10001:10001"]
    # The authority's key is nobody else's.
    assert [name for name, service in services.items() if any("authority:" in v for v in service["volumes"])] == [
        "certs"
    ]


def test_the_images_packages_are_those_of_setup_cfg():
    done = command(sys.executable, "image/requirements.py", "../setup.cfg", "demo,data,nvml")
    config = configparser.ConfigParser()
    config.read(DOCKER.parent / "setup.cfg")
    wanted = ["setuptools"]
    for block in (
        config["options"]["install_requires"],
        *(config["options.extras_require"][e] for e in ("demo", "data", "nvml")),
    ):
        wanted += [line for line in block.splitlines() if line]
    assert done.stdout.splitlines() == wanted
    assert not [line for line in wanted if line.startswith("torch")]  # the base's, or the index's


def test_the_image_is_built_of_the_package_alone():
    kept = re.findall(r"^!(\S+)", (DOCKER.parent / ".dockerignore").read_text(), re.MULTILINE)
    config = configparser.ConfigParser()
    config.read(DOCKER.parent / "setup.cfg")
    packages = {line.split(".")[0] for line in config["options.packages.find"]["include"].splitlines() if line}
    assert packages <= set(kept)
    assert not {"tests", "runs", ".git", "certs"} & set(kept)
    assert json.dumps(text("Dockerfile")).count("ARG BASE=") == 1
