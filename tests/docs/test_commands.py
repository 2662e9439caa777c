"""Every command in a document is one that exists, with options that exist, and a test runs it or it says what it needs.

A fenced block's title is the mark: `title="on each board"` needs a board, `title="with Docker"` an engine, for which
`make test-containers` has tests. What has no mark is run by test_commands_run.py, or by what RUN_BY names.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from documents import DOCUMENTS, ROOT, Block, scripts, shell_blocks, spans, words

from benchmarks.arguments import experiment_from
from federa.config import read_tree

RUN_BY = {
    "make bench": ".ci/run",  # in a fresh clone a newcomer's first command
    "make base-model": "tests/federa/models/test_download.py",
    "make test": ".ci/run",
    "make test-all": ".ci/run",
    "make lint": ".ci/run",
    "make docs": "tests/docs/test_site.py",
    "make test-containers": ".ci/run",
    "make test-floor": "constraints-floor.txt",
    "make reference": "tests/docs/test_reference.py",
    "make soak": "tests/system/test_kills.py",
    "make fuzz": "tests/fuzz.py",
}
"""What runs a command that no test of these documents runs: CI, or tests of their own that the command starts."""

PLAIN = {"cd", "mkdir", "git", "curl"}
"""Commands of the system that need no test."""

BLOCKS = shell_blocks()


class _Parsed(Exception):
    """A command line was taken: its parser, and the options."""


def main_of(command: list[str]) -> tuple[Callable[..., Any], list[str]] | None:
    """The function behind one of our commands, and its arguments; None for another's command."""
    ours = scripts()
    if command[0] in ours:
        return importlib.import_module(ours[command[0]]).main, command[1:]
    if command[0].startswith("python") and command[1:2] == ["-m"] and command[2].startswith("benchmarks."):
        return importlib.import_module(command[2]).main, command[3:]
    return None


def parsed(
    monkeypatch: pytest.MonkeyPatch, main: Callable[..., Any], arguments: list[str]
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """What the command makes of its arguments, before it does anything. Fails the test where it refuses them."""
    take = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, given: Any = None, namespace: Any = None) -> None:
        raise _Parsed(self, take(self, given, namespace))

    def refuse(self: argparse.ArgumentParser, message: str) -> None:
        raise AssertionError(f"{self.prog} {' '.join(arguments)}: {message}")

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(argparse.ArgumentParser, "error", refuse)
        try:
            main(arguments)
        except _Parsed as found:
            parser, options = found.args
            return parser, options
    raise AssertionError(f"{main} parses no arguments")


def docker_arguments(command: list[str]) -> tuple[str, list[str]] | None:
    """The service of a `docker compose run` and its arguments; None where the entry point is another."""
    rest = command[3:]
    while rest and rest[0].startswith("-"):
        if rest[0] == "--entrypoint":
            return None
        rest = rest[1:]
    return rest[0], rest[1:]


def test_the_documents_hold_commands():
    assert len(BLOCKS) > 20 and len({block.path for block in BLOCKS}) > 5
    # An indented block would be seen by no test here.
    for path in DOCUMENTS:
        assert not re.search(r"^ {4}(\.venv/bin/|federa-|make |docker |python)", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_command_is_marked_or_a_test_runs_it(block):
    for command in block.commands:
        if block.needs_board or block.needs_docker or block.needs_data:
            continue
        line = words(command)
        if line[0] == "make":
            # Settings such as ARGS="-k wire" choose within what is run.
            known = " ".join(line[:2])
            assert known in RUN_BY, f"{block.place}: no test runs {command!r}, and it is not marked"
            assert (ROOT / RUN_BY[known]).exists()
        elif line[1:2] == ["-m"]:
            tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
            assert re.search(rf"\b{re.escape(line[2])}\b", tests), f"{block.place}: no test runs {line[2]}"
        elif main_of(line) is None:
            assert line[0] in PLAIN, f"{block.place}: no test runs {command!r}, and it is not marked"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_our_commands_take_the_options_that_documents_give_them(block, monkeypatch):
    for command in block.commands:
        for part in re.split(r"\s[|>]\s", command):
            try:
                line = words(part)
            except ValueError:
                continue  # a shell's function or substitution
            found = main_of(line)
            if line[:3] == ["docker", "compose", "run"] and (run := docker_arguments(line)):
                service, arguments = run
                command_of = {"bench": "federa-bench", "certs": "federa-certs", "worker": "federa-worker"}
                found = main_of([command_of[service], *arguments])
            if found is None:
                continue
            _, options = parsed(monkeypatch, *found)
            if found[0].__module__ == "benchmarks.bench":
                with monkeypatch.context() as patch:
                    # A reader's own file is not here.
                    patch.setattr(
                        "benchmarks.experiment_file.read_tree", lambda path: read_tree(path) if path.exists() else {}
                    )
                    experiment_from(options)


def test_the_options_named_in_sentences_exist(monkeypatch):
    named = [(place, span) for place, span in spans() if span.removeprefix(".venv/bin/").split()[0] in scripts()]
    assert named
    for place, span in named:
        line = span.removeprefix(".venv/bin/").split()
        given = {word.partition("=")[0] for word in line if word.startswith("--")}
        main, _ = main_of(line[:1])
        required = {"federa-coordinator": ["--serve", "--out", "x"], "federa-certs": ["list"]}.get(line[0], [])
        parser, _ = parsed(monkeypatch, main, required)
        parsers = [parser]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
        known = {option for one in parsers for option in one._option_string_actions}
        assert given <= known, f"{place}: {line[0]} has no {', '.join(given - known)}"


def test_every_target_of_make_that_is_named_exists():
    # .PHONY lists those that a reader may call.
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    named = {(block.place, command) for block in BLOCKS for command in block.commands if command.startswith("make ")}
    named |= {(place, span) for place, span in spans() if span.startswith("make ")}
    assert named
    for place, command in named:
        for word in words(command)[1:]:
            assert "=" in word or word in targets, f"{place}: make has no {word}"
    rendered = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert {f"make {target}" for target in targets - {"help"}} <= set(re.findall(r"make [\w-]+", rendered))


def test_the_services_that_docker_commands_name_exist():
    services: dict[bool, set[str]] = {}
    for board, file in ((False, "compose.yaml"), (True, "compose.jetson.yaml")):
        services[board] = set(yaml.safe_load((ROOT / "docker" / file).read_text())["services"])
    for block in BLOCKS:
        for command in block.commands:
            line = command.split(" | ")[0].split()
            if line[:2] != ["docker", "compose"]:
                continue
            on_board = block.title.startswith("on each board") or block.title.startswith("on a board")
            verb, rest = line[2], [word for word in line[3:] if not word.startswith("-")]
            if verb == "run":
                rest = rest[1:2] if "--entrypoint" in line else rest[:1]
            assert set(rest) <= services[on_board], f"{block.place}: {command}"


def test_marks_are_few_and_say_what_is_needed():
    for block in BLOCKS:
        assert not block.title or re.search(r"board|Docker|data set|^terminal \d$", block.title), block.place


def test_unknown_blocks_are_seen():
    block = Block(ROOT / "README.md", 1, "bash", "", "frobnicate --all  # never\n")
    assert block.commands == ["frobnicate --all"]
    with pytest.raises(AssertionError, match="no test runs 'frobnicate --all'"):
        test_a_command_is_marked_or_a_test_runs_it(block)
