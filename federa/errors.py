"""Errors that a user meets, and the exit code each one ends a program with."""

from __future__ import annotations

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_BAD_INPUT = 2
EXIT_TARGET_MISSED = 3
EXIT_INTERRUPTED = 130


class FederaError(Exception):
    """Something ended the run. The message is one line that names the thing; `exit_code` says how to end."""

    exit_code = EXIT_ERROR


class BadInput(FederaError):
    """An argument, a file or a message that cannot be used. The message names it and says what it may be."""

    exit_code = EXIT_BAD_INPUT


MAX_SHOWN = 200
"""The most characters that a message shows of what came from a file or from a peer."""


def shown(text: object, most: int = MAX_SHOWN) -> str:
    """Foreign text as a message may show it: on one line, at most `most` characters, of what is longer the beginning.
    What does not print (control characters, line ends, escape sequences, marks of direction) is escaped: a file must
    not steer the terminal that its name or its first line is shown on."""
    whole = str(text)
    # A character becomes ten at most: what is far beyond the end need not be looked at.
    safe = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in whole[: most + 1]
    )
    return safe if len(safe) <= most else f"{safe[: most - 1]}…"


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name where it has none, as a message may show it."""
    text = str(error).strip()
    return shown(text.splitlines()[0]) if text else type(error).__name__


def described(error: BaseException) -> str:
    """An error that is none of ours, as a message may show it: its type's name, and the first line of its text."""
    words, name = one_line(error), type(error).__name__
    return words if words == name else f"{name}: {words}"
