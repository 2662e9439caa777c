"""The stubs in the repository are what protoc makes of federation.proto."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import protos

COMPILER = Path(sys.prefix) / "protoc"
STUBS = ("federation_pb2.py", "federation_pb2.pyi", "federation_pb2_grpc.py")


@pytest.mark.skipif(not COMPILER.is_dir(), reason="the set-up left grpcio-tools out: no wheel for this Python")
def test_generating_the_stubs_anew_changes_nothing(tmp_path):
    command = [sys.executable, "-m", "protos.generate", str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(COMPILER)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "protos").iterdir()) == sorted(STUBS)
    for name in STUBS:
        committed = Path(protos.__file__).with_name(name)
        assert (tmp_path / "protos" / name).read_bytes() == committed.read_bytes(), f"{name}: run `make protos`"
