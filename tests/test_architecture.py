"""The layout of the repository, as CONTRIBUTING.md states it: short files, small classes, no private name of another
module, and tests laid out as the code is. Which room may import which is import-linter's (.importlinter)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("federa", "protos", "coordinator", "edge", "benchmarks")
MAX_LINES = 300
MAX_ATTRIBUTES = 15
REASON = re.compile(rf"More than {MAX_ATTRIBUTES} attributes: \S.{{20,}}")
"""In a comment or docstring of the class, on one line."""
OTHER_TESTS = {"support", "doubles", "system", "docs", "docker", "examples"}
"""Folders of tests/ that are no package's: what tests share, whole systems, documents, images, examples."""


def sources(root: Path) -> Iterator[Path]:
    """The files of the product that people write, relative to `root`."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if "_pb2" not in path.name:
                yield path.relative_to(root)


def long_files(root: Path) -> list[str]:
    counts = {path: len((root / path).read_text().splitlines()) for path in sources(root)}
    return [f"{path}: {count} lines" for path, count in counts.items() if count > MAX_LINES]


def attributes(node: ast.ClassDef) -> set[str]:
    """What an object of the class holds: its fields, and each self.x that is assigned."""
    names = set()
    for line in node.body:
        match line:
            case ast.AnnAssign(target=ast.Name(id=name)) if "ClassVar" not in ast.unparse(line.annotation):
                names.add(name)
    for inner in ast.walk(node):
        match inner:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                names.add(name)
    return names


def large_classes(root: Path) -> list[str]:
    found = []
    for path in sources(root):
        text = (root / path).read_text()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ClassDef) or len(attributes(node)) <= MAX_ATTRIBUTES:
                continue
            if not REASON.search("\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])):
                found.append(f"{path}: {node.name} has {len(attributes(node))} attributes and no reason")
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def defined_in(tree: ast.Module) -> set[str]:
    """Every name that a file gives to something: functions, classes, variables, attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def private_names_of_others(root: Path) -> list[str]:
    """Imports of a private name, and private attributes of anything that the file itself does not define."""
    found = []
    for path in sources(root):
        tree = ast.parse((root / path).read_text())
        own = defined_in(tree)
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom):
                parts = (node.module or "").split(".")
                names = [*parts, *(alias.name for alias in node.names)] if parts[0] in PACKAGES else []
            elif isinstance(node, ast.Attribute) and node.attr not in own:
                names = [node.attr]
            found += [f"{path}:{node.lineno}: {name}" for name in names if is_private(name)]
    return found


def rooms(root: Path, folder: Path) -> set[str]:
    """The folders with Python files under `folder`, relative to it."""
    paths = (path.parent.relative_to(root / folder) for path in (root / folder).rglob("*.py"))
    return {str(path) for path in paths if str(path) != "." and "__pycache__" not in path.parts}


def rooms_that_only_tests_have(root: Path) -> list[str]:
    code = {str(path.parent) for path in sources(root)}
    here = {room for room in rooms(root, Path("tests")) if room.split("/")[0] not in OTHER_TESTS}
    return sorted(here - code)


CHECKS = [long_files, large_classes, private_names_of_others, rooms_that_only_tests_have]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_repository_is_laid_out_as_stated(check):
    assert check(ROOT) == []


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MANY = "".join(f"        self.a{number} = 0\n" for number in range(MAX_ATTRIBUTES + 1))
LARGE = f"class A:\n    def __init__(self):\n{MANY}"
FIELDS = "class A:\n" + "".join(f"    a{number}: int\n" for number in range(MAX_ATTRIBUTES + 1))
REASON_GIVEN = f"class A:\n    # More than {MAX_ATTRIBUTES} attributes: they are the columns of one table."


@pytest.mark.parametrize(
    ("check", "broken", "sound"),
    [
        (long_files, "x = 1\n" * (MAX_LINES + 1), "x = 1\n" * MAX_LINES),
        (large_classes, LARGE, LARGE.replace("class A:", REASON_GIVEN)),
        (large_classes, LARGE.replace("class A:", REASON_GIVEN[:44]), LARGE.replace("a15", "a14")),
        (large_classes, FIELDS, FIELDS.replace("a15: int", "a15: ClassVar[int]")),
        (private_names_of_others, "from federa.errors import _x\n", "from federa.errors import x\n"),
        (private_names_of_others, "from federa._errors import x\n", "from torch._x import _y\n"),
        (private_names_of_others, "def f(x):\n    return x._y\n", "def f(x):\n    x._y = 1\n    return x._y\n"),
    ],
)
def test_a_breach_is_found(tmp_path, check, broken, sound):
    assert len(check(tree(tmp_path / "broken", federa__tasks__a=broken))) == 1
    assert check(tree(tmp_path / "sound", federa__tasks__a=sound)) == []


def test_a_test_of_a_room_that_is_gone_is_found(tmp_path):
    root = tree(tmp_path, federa__tasks__a="", tests__federa__tasks__test_a="", tests__system__test_b="")
    assert rooms_that_only_tests_have(root) == []
    tree(root, tests__federa__gone__test_a="")
    assert rooms_that_only_tests_have(root) == ["federa/gone"]
