"""What went wrong with the clients of the open round, and whether it is the same with all of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from federa.errors import shown

MAX_KINDS = 3
"""How many different failures a line names."""
MAX_REASON = 400
"""The most characters of a reason that it shows: a device's own line, which names a file and what to do."""

# Numbers, addresses, what is quoted, and words with a slash (paths): these differ between devices that fail alike.
_OWN = re.compile(
    r"'[^']*'|\"[^\"]*\"|\S*/\S*|\b0x[0-9a-f]+|\d[\d.,:]*|\b[0-9a-f]{8,}\b|\b(?:nan|inf)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a client came to nothing. `bad_input` says that it is the user's to mend, so that trying again is of no use;
    `is_passing` that it is the network's, and may go away by itself."""

    reason: str = ""
    bad_input: bool = False
    is_passing: bool = False

    @property
    def kind(self) -> str:
        """The reason without what is a device's own: two that are equal in it failed in the same way."""
        return " ".join(_OWN.sub("#", self.reason).split()).lower()


UNSAID = Failure()
"""Nobody said why."""


def in_words(failures: Mapping[int, Failure], hosts: Mapping[int, str]) -> str:
    """The clients' failures in one line, those alike once."""
    found: dict[str, str] = {}
    for client, why in sorted(failures.items()):
        found.setdefault(why.kind, f"client {client} on {hosts[client]}: {shown(why.reason, MAX_REASON)}")
    more = [f"and {len(found) - MAX_KINDS} other failures"] if len(found) > MAX_KINDS else []
    return "; ".join([*list(found.values())[:MAX_KINDS], *more])


class RoundFailures:
    """The last failure of each client since the round began, or since it went on after a pause."""

    def __init__(self) -> None:
        self.last: dict[int, Failure] = {}
        self.reports = 0
        """How many there were in all."""

    def add(self, client: int, failure: Failure) -> None:
        """Take in another one."""
        self.last[client] = failure
        self.reports += 1

    def forget(self, client: int) -> None:
        """Drop what is known of a client: it has delivered, or its device came again and may have been mended."""
        self.last.pop(client, None)

    @property
    def common(self) -> Failure | None:
        """The failure that all have in common; None where they differ, where there is none, and of one that passes."""
        found = [failure for _, failure in sorted(self.last.items())]
        if not found or any(failure.is_passing for failure in found) or len({failure.kind for failure in found}) > 1:
            return None
        return next((failure for failure in found if failure.bad_input), found[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What may still come of an open round. `hosts` are the clients' devices, `here` those that are connected and
    prepared, `unable` those that could not prepare; `devices` and `quorum` are the plan's, `tries_left` says whether
    another attempt is."""

    hosts: Mapping[int, str]
    here: Collection[str]
    unable: Collection[str]
    awaited: Collection[int]
    devices: int
    quorum: int
    tries_left: bool

    def is_everybodys(self, failures: RoundFailures) -> bool:
        """Whether all clients of a round without an update failed in the same way, on each device that is here, and the
        devices that are away cannot make the quorum by themselves. What is not bad input must be seen twice, and where
        others are away, on two devices."""
        why = failures.common
        if why is None or any(self.hosts[client] in self.here for client in self.awaited):
            return False
        failed_on = {self.hosts[client] for client in failures.last}
        able = set(self.hosts.values()).difference(self.unable)
        away = able.difference(self.here)
        others = sum(host in away for host in self.hosts.values())
        if not able - away <= failed_on or others >= self.quorum:
            return False
        seen_enough = failures.reports > 1 or not self.tries_left
        return why.bad_input or (seen_enough and (not away or len(failed_on) > 1))

    def is_stuck(self, failures: Mapping[int, Failure]) -> bool:
        """Whether a round that nobody tries any more waits in vain: no update is awaited, every device of the
        experiment is here, and none of the failures passes by itself."""
        devices = set(self.hosts.values())
        everybody = len(devices) >= self.devices and devices.difference(self.unable) <= set(self.here)
        return (
            bool(failures) and everybody and not self.awaited and not any(why.is_passing for why in failures.values())
        )
