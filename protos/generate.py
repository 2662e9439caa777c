"""Generate the stubs from federation.proto: `make protos`.

It is done with the oldest grpcio-tools that is supported (1.62), because stubs of a newer one refuse an older runtime,
while these run under all later ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> list[Path]:
    """Write the stubs below `out`/protos and return their paths. Raises RuntimeError when protoc fails."""
    from importlib import resources

    from grpc_tools import protoc

    include = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={ROOT}",
        f"--proto_path={include}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        "protos/federation.proto",
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed, its messages are above")
    return [out / "protos" / name for name in ("federation_pb2.py", "federation_pb2.pyi", "federation_pb2_grpc.py")]


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT):
        print(path)
