"""What the tables of troubleshooting quote is what the programs say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from documents import ROOT

GAP = "\0"
"""Stands in a message for what is only known when it is printed."""
FOREIGN = {
    # Messages of Docker, CUDA, gRPC and the kernel: nothing here can print them.
    "Handshake failed", "Unknown runtime specified nvidia", "error 801", "no CUDA-capable device", "docker compose up",
    "docker ps -a",
}  # fmt: skip


def messages() -> list[str]:
    """Every text constant of the product, with a gap for each value in it; and the Makefile's and the image's words."""
    found = [re.sub(r"\$\([^()]*\)", GAP, (ROOT / "Makefile").read_text())]
    for folder in ("federa", "protos", "coordinator", "edge", "benchmarks", "docker/image"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
                    found.append("".join(map(str, parts)))
    return found


def quotes() -> Iterator[tuple[str, str]]:
    """File and text of what stands as code in the first column of a table of problems."""
    for name in ("troubleshooting.md", "jetson-cluster.md"):
        for row in re.findall(r"^\| (?!what you see|---)([^|]*) \|", (ROOT / "docs" / name).read_text(), re.MULTILINE):
            for quote in re.findall(r"`([^`]+)`", row):
                if " " in quote and quote not in FOREIGN:  # a single word is a name, no message
                    yield name, quote


def literal_words(quote: list[str], message: list[str]) -> int:
    """How many words of the quote stand in the message, if all of it does, in order: its dots are any words of the
    message, the message's gaps any words of the quote. 0 where it does not."""
    best: list[dict[int, int]] = [{} for _ in range(len(quote) + 1)]
    best[0] = dict.fromkeys(range(len(message) + 1), 0)  # it may begin anywhere
    for q, word in enumerate(quote):
        for m, found in sorted(best[q].items()):
            reached: dict[int, int] = {}
            if word == "...":
                reached = dict.fromkeys(range(m, len(message) + 1), found)
            elif m < len(message):
                if message[m] == word:
                    reached[m + 1] = found + 1
                elif GAP in message[m]:
                    reached = {m: found, m + 1: found}  # the gap may take the next word too
            for place, count in reached.items():
                best[q + 1][place] = max(count, best[q + 1].get(place, 0))
    return max(best[-1].values(), default=0)


def words_of(text: str) -> list[str]:
    """Its words, without the punctuation between them; a gap and what stands against it is one, and so are dots."""
    return re.findall(r"""\.\.\.|[^\s:;,."]*\0[^\s:;,."]*|[^\s:;,"]+""", text)


MESSAGES = [words_of(message) for message in messages()]


def is_message(quote: str) -> bool:
    words = words_of(quote)
    plain = len(words) - words.count("...")
    return any(literal_words(words, message) >= max(2, 0.5 * plain) for message in MESSAGES)


@pytest.mark.parametrize(("page", "quote"), list(quotes()))
def test_a_quoted_message_is_one_of_ours(page, quote):
    assert is_message(quote), f"{page}: nothing says {quote!r}"


def test_what_nothing_says_is_found_out():
    for quote in ("--out: the folder was eaten by gremlins", "the worker has no clients today"):
        assert not is_message(quote)
