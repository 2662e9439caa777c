"""A real Docker engine for tests: one that answers already or one of our own, and images from a base made here."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "federa-test/python"
TAG = "test"
START_S = 60.0
_CA = Path("/etc/ssl/certs/ca-certificates.crt")


class NoEngine(Exception):
    """There is none, and none can be started."""


def run(
    *command: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, limit_s: float = 900, check: bool = True
) -> str:
    """What a command prints on both streams. Raises AssertionError with that when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=limit_s
    )
    printed = done.stdout + done.stderr
    assert not check or done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{printed[-4000:]}"
    return printed


@contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which `docker` finds an engine. One of our own has its data and its socket in `folder`, and is
    ended by its pid. Raises NoEngine."""
    if shutil.which("docker") is None:
        raise NoEngine("docker is not installed")
    if subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
        yield {}
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoEngine("no Docker engine answers, and only root can start one where dockerd is installed")
    socket = f"unix://{folder}/docker.sock"
    env = {"DOCKER_HOST": socket}
    with (folder / "dockerd.log").open("wb") as log:
        dockerd = subprocess.Popen(
            ["dockerd", "--data-root", f"{folder}/root", "--exec-root", f"{folder}/exec", "--host", socket,
             "--pidfile", f"{folder}/pid"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        began = time.monotonic()
        while subprocess.run(["docker", "info"], env={**os.environ, **env}, capture_output=True).returncode:
            if dockerd.poll() is not None or time.monotonic() - began > START_S:
                last = (folder / "dockerd.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise NoEngine(f"dockerd does not start here: {' | '.join(last)}")
            time.sleep(0.3)
        yield env
    finally:
        dockerd.terminate()
        try:
            dockerd.wait(30)
        except subprocess.TimeoutExpired:
            dockerd.kill()
            dockerd.wait()
        shutil.rmtree(folder / "root", ignore_errors=True)


def compose() -> tuple[str, ...]:
    """The Compose that is there: v2, or docker-compose 1.29. Raises NoEngine."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return "docker", "compose"
    if shutil.which("docker-compose") is None:
        raise NoEngine("neither docker compose nor docker-compose is installed")
    return ("docker-compose",)


@contextmanager
def images(env: Mapping[str, str], folder: Path) -> Iterator[dict[str, str]]:
    """Both images, built by Compose under the tag `test`; yields the environment with which Compose finds them.

    From a base made here with debootstrap where that can be, with torch from an index on loopback that has what pip
    brought; else from the base and the index that docker/.env names."""
    built = {"COMPOSE_PROJECT_NAME": "federa-test", "FEDERA_TAG": TAG}
    with ExitStack() as stack:
        if os.geteuid() == 0 and shutil.which("debootstrap"):
            _make_base(env, folder / "base")
            wheels = folder / "wheels"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels), "-c", "constraints.txt"]
            run(*pip, "--only-binary=:all:", "--python-version=3.11", "torch")
            port = stack.enter_context(_index(wheels))
            built |= {"BASE": BASE, "TORCH_INDEX": f"http://127.0.0.1:{port}/simple/", "BUILD_NETWORK": "host"}
        run(*compose(), "build", "coordinator", "worker-0", env={**env, **built}, cwd=ROOT / "docker", limit_s=1500)
    yield built


def _make_base(env: Mapping[str, str], folder: Path) -> None:
    """Debian 12 with Python 3.11, and with the authorities that this machine trusts."""
    if BASE in run("docker", "images", "--format", "{{.Repository}}", env=env).split():
        return
    run("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm", str(folder))
    shutil.copyfile(_CA, folder / _CA.relative_to("/"))
    archive = folder.with_suffix(".tar")
    run("tar", "-C", str(folder), "-cf", str(archive), ".")
    run("docker", "import", "--change", f"ENV PIP_CERT={_CA}", str(archive), BASE, env=env)
    archive.unlink()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _index(wheels: Path) -> Iterator[int]:
    """A package index (PEP 503) of a folder of wheels, on a port of loopback."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            project = re.fullmatch("/simple/([a-z0-9-]+)/", self.path)
            if project is None:
                return super().do_GET()
            names = [file.name for file in wheels.iterdir() if _project(file.name) == project[1]]
            page = "".join(f'<a href="/{name}">{name}</a>' for name in names).encode()
            self.send_response(200 if names else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(wheels)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def _project(wheel: str) -> str:
    return re.sub("[-_.]+", "-", wheel.split("-")[0]).lower()
