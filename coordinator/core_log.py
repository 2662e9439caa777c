"""What gRPC's core says of TLS connections that it refused, in words of ours. It writes that to the process's standard
error, past Python, and tells nobody else; whom it refused it does not say."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import TextIO

_FAILED = re.compile(r"ssl_transport_security\S* +Handshake failed with .*?OPENSSL_internal:(\w+)(?:: *([^:\n]*))?")
_WORDS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate",
    "CERTIFICATE_VERIFY_FAILED": "the peer's certificate is of another authority than ours, or out of date",
    "WRONG_VERSION_NUMBER": "the peer speaks plaintext, or nothing that we know",
    "BAD_PACKET_LENGTH": "the peer speaks plaintext, or nothing that we know",
    "HTTP_REQUEST": "the peer speaks plain HTTP",
    "UNSUPPORTED_PROTOCOL": "the peer speaks a TLS below 1.2",
}
_SAID = "CERTIFICATE_VERIFY_FAILED"
"""The one after which newer versions of gRPC say more that is worth reading."""


def reworded(line: str) -> str:
    """The words for a line of core's about a refused connection; empty for any other line."""
    found = _FAILED.search(line)
    if found is None:
        return ""
    reason, more = found[1], (found[2] or "").strip(" .")
    words = _WORDS.get(reason, reason.lower().replace("_", " "))
    return f"a TLS connection was refused: {words}{f' ({more})' if more and reason == _SAID else ''}"


class CoreLog:
    """A context in which such lines go to the log; everything else that is written to standard error goes on there."""

    def __enter__(self) -> CoreLog:
        sys.stderr.flush()
        self._kept = os.dup(2)
        reading, writing = os.pipe()
        # A process, no thread: what C writes before it aborts this one is read all the same. Ctrl-C is not for it, it
        # ends with the last that writes.
        self._reader = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=reading, start_new_session=True)
        os.close(reading)
        os.dup2(writing, 2)
        os.close(writing)
        self._python = sys.stderr
        if sys.stderr is sys.__stderr__:
            # Python's own lines take no detour: they are there also when this process is killed.
            self._speak_to(os.fdopen(os.dup(self._kept), "w", buffering=1, errors="backslashreplace"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.dup2(self._kept, 2)
        os.close(self._kept)
        self._speak_to(self._python)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child of ours may keep the other end open
            self._reader.wait(1.0)

    def _speak_to(self, stream: TextIO) -> None:
        for handler in logging.root.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setStream(stream)
        sys.stderr = stream


def _read() -> None:
    """The other process: from standard input to standard error."""
    for line in sys.stdin.buffer:
        if words := reworded(line.decode(errors="replace")):
            now = time.time()
            moment = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))},{int(now % 1 * 1000):03}"
            line = f"{moment} {words}\n".encode()  # as the coordinator's own log
        os.write(2, line)


if __name__ == "__main__":
    # A signal to the whole container ends the coordinator, which still has things to say.
    for ends in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ends, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # nobody reads on
        _read()
