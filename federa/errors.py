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


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
