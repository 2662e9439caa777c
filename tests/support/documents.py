"""The documents that people read, and the commands that stand in them."""

from __future__ import annotations

import configparser
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/results/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
SHELL = {"bash", "sh", "shell", "console"}
_FENCE = re.compile(r"^```(?P<language>[\w.+-]*)(?P<options>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]*)"')
_COMMENT = re.compile(r"(^|\s)#(\s.*)?$")


@dataclass(frozen=True)
class Block:
    """A fenced block. Its title says to the reader where its commands are for, and to the tests what they need."""

    path: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        """File and line, for messages and the names of tests."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def needs_board(self) -> bool:
        return "board" in self.title

    @property
    def needs_docker(self) -> bool:
        return "Docker" in self.title

    @property
    def needs_data(self) -> bool:
        return "data set" in self.title

    @property
    def commands(self) -> list[str]:
        """One a line, continued lines joined, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [" ".join(kept.split()) for line in lines if (kept := _COMMENT.sub("", line).strip())]


def blocks(path: Path) -> Iterator[Block]:
    """Every fenced block of a document."""
    text = path.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match["options"])
        line = text.count("\n", 0, match.start()) + 1
        yield Block(path, line, match["language"], title[1] if title else "", match["text"])


def shell_blocks() -> list[Block]:
    """Those of all documents that hold commands."""
    return [block for path in DOCUMENTS for block in blocks(path) if block.language in SHELL]


def scripts() -> dict[str, str]:
    """federa's commands, and the module of which each runs `main`."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    entries = dict(re.split(r"\s*=\s*", line) for line in lines if line)
    found = {name: entry.partition(":") for name, entry in entries.items()}
    return {
        name: getattr(importlib.import_module(module), function).args[0]
        for name, (module, _, function) in found.items()
    }


def words(command: str) -> list[str]:
    """The command's words, its environment's folder left out: `.venv/bin/federa-bench` is `federa-bench`."""
    split = shlex.split(command)
    split[0] = split[0].removeprefix(".venv/bin/")
    return split


def spans() -> Iterator[tuple[str, str]]:
    """Place and text of every piece of code within a sentence or a table."""
    for path in DOCUMENTS:
        text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), path.read_text(encoding="utf-8"))
        for match in re.finditer(r"`([^`\n]+)`", text):
            yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}", match[1]
