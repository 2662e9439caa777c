"""federa-certs: a certificate authority of one's own, in a folder, for a coordinator, its devices and its operators."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take their time
    import sys

    from coordinator.commands import certs

    sys.exit(certs())

import argparse
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from coordinator.security.authority import CA_KEY_FILE, VALID_DAYS, Authority, check_host, check_name
from federa import __version__
from federa.errors import EXIT_ERROR, EXIT_OK, BadInput, FederaError
from federa.output import prepare_output, print_error
from protos.credentials import CA_FILE, CERTIFICATE_FILE, COORDINATOR, DEVICE, OPERATOR, REVOKED_FILE, Certificate

_LOCK = ".lock"
_MAX_DAYS = 3650


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="federa-certs", description=__doc__)
    parse.add_argument("--dir", type=Path, default=Path("certs"), metavar="DIR", help="default: %(default)s")
    parse.add_argument("--version", action="version", version=f"federa {__version__}")
    commands = parse.add_subparsers(dest="command", required=True, metavar="COMMAND")
    init = commands.add_parser("init", help="make the authority, and certificates for a coordinator and an operator")
    init.add_argument(
        "--host", action="append", default=[], metavar="HOST",
        help="a name or address by which devices reach the coordinator, besides localhost, coordinator and this "
        "machine's name; several by commas or by repetition",
    )  # fmt: skip
    init.add_argument("--device", action="append", default=[], metavar="NAME", help="issue to this one too; as --host")
    init.add_argument("--if-missing", action="store_true", help="do nothing where there is one already")
    issue = commands.add_parser("issue", help="make a certificate for a device or an operator")
    issue.add_argument("name", metavar="NAME", help=f"of the device; {COORDINATOR}: another for the coordinator")
    issue.add_argument("--role", choices=(DEVICE, OPERATOR), help=f"default: {DEVICE}, or what NAME was issued as")
    issue.add_argument(
        "--days", type=int, default=VALID_DAYS, metavar="N", help="how long it counts (default: %(default)s)"
    )
    issue.add_argument("--host", action="append", default=[], metavar="HOST", help=f"as of init; for {COORDINATOR}")
    issue.add_argument("--if-missing", action="store_true", help="do nothing where NAME has one already")
    revoke = commands.add_parser("revoke", help="let certificates not count any more")
    revoke.add_argument("name", nargs="?", metavar="NAME", help="all that were ever issued to this name")
    revoke.add_argument("--serial", metavar="HEX", help="just this one")
    commands.add_parser("list", help="all that were issued, with their serials")
    return parse


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    prepare_output()
    options = parser().parse_args(arguments)
    try:
        if options.command == "init":
            options.dir.mkdir(parents=True, exist_ok=True)
        with _alone(options.dir):
            {"init": _init, "issue": _issue, "revoke": _revoke, "list": _list}[options.command](options)
        return EXIT_OK
    except FederaError as error:
        print_error("federa-certs", error)
        return error.exit_code
    except OSError as error:
        print_error("federa-certs", f"{error.filename or options.dir}: {error.strerror or error}")
        return EXIT_ERROR


def _init(options: argparse.Namespace) -> None:
    folder: Path = options.dir
    hosts, devices = _listed(options.host), _listed(options.device)
    for host in hosts:
        check_host(host)
    for name in devices:
        check_name(name)
        if name in (COORDINATOR, OPERATOR):
            raise BadInput(f"--device: {name} is no device's name here, init makes it anyway")
    if (folder / CA_FILE).exists():
        if not options.if_missing:
            raise BadInput(
                f"--dir: {folder} has an authority already; federa-certs issue NAME makes certificates of it"
            )
        authority = Authority(folder)
    elif (folder / CA_KEY_FILE).exists() and (
        # The folder itself may be there already, as a volume's mount point.
        not options.if_missing or (folder / COORDINATOR / CERTIFICATE_FILE).exists()
    ):
        raise BadInput(f"--dir: {folder} has a {CA_KEY_FILE} without its {CA_FILE}; take another folder, or remove it")
    else:
        authority = Authority.create(folder)
        print(
            f"made an authority in {folder}: keep {folder / CA_KEY_FILE} to yourself, whoever has it can let anybody in"
        )
    if not authority.has(COORDINATOR):
        _print_made(folder, authority.issue(COORDINATOR, COORDINATOR, hosts=_hosts(hosts)))
    if not authority.has(OPERATOR):
        _print_made(folder, authority.issue(OPERATOR, OPERATOR))
    for name in devices:
        if not authority.has(name):
            _print_made(folder, authority.issue(name, DEVICE))


def _issue(options: argparse.Namespace) -> None:
    name: str = options.name
    check_name(name)
    if not 1 <= options.days <= _MAX_DAYS:
        raise BadInput(f"--days: must be from 1 to {_MAX_DAYS}, not {options.days}")
    authority = Authority(options.dir)
    if options.if_missing and authority.has(name):
        return
    before = authority.issued(name)
    role = options.role or (before[-1].role if before else DEVICE)
    hosts: tuple[str, ...] = ()
    if name == COORDINATOR:
        if options.role is not None:
            raise BadInput(f"--role: {COORDINATOR} is the coordinator's own name")
        given = _listed(options.host)
        for host in given:
            check_host(host)
        role, hosts = COORDINATOR, _hosts([*(before[-1].hosts if before else ()), *given])
    elif options.host:
        raise BadInput(f"--host: is for {COORDINATOR}; devices and operators are not called")
    _print_made(options.dir, authority.issue(name, role, hosts=hosts, valid=timedelta(days=options.days)))
    now, revoked = datetime.now(timezone.utc), authority.revoked()
    for old in before:
        if old.serial not in revoked and not old.untimely(now) and role != COORDINATOR:
            print(
                f"an older certificate of {name} counts until {old.not_after:%Y-%m-%d}: "
                f"federa-certs revoke --serial {old.serial:x} ends that"
            )


def _revoke(options: argparse.Namespace) -> None:
    if (options.name is None) == (options.serial is None):
        raise BadInput("revoke: give either a NAME or --serial HEX")
    authority = Authority(options.dir)
    if options.serial is not None:
        found = [one for one in authority.issued() if f"{one.serial:x}" == options.serial.lower().lstrip("0x")]
    else:
        found = authority.issued(options.name)
    if not found:
        which = f"--serial {options.serial}" if options.serial is not None else repr(options.name)
        raise BadInput(f"revoke: nothing was issued to {which}; federa-certs list shows what was")
    if any(one.role == COORDINATOR for one in found):
        raise BadInput(
            "revoke: a coordinator's certificate cannot be revoked, for devices read no list; where its key is in "
            "other hands, make a new authority in another --dir"
        )
    authority.revoke(found)
    for one in found:
        print(f"revoked the {one}")
    if not (options.dir / COORDINATOR).is_dir():
        print(f"copy {options.dir / REVOKED_FILE} to where the coordinator runs: its folder is not in {options.dir}")


def _list(options: argparse.Namespace) -> None:
    authority = Authority(options.dir)
    now, revoked = datetime.now(timezone.utc), authority.revoked()
    rows = [("NAME", "ROLE", "SERIAL", "EXPIRES", "STATE")]
    for one in authority.issued():
        state = "revoked" if one.serial in revoked else "expired" if one.untimely(now) else "valid"
        rows.append((one.name, one.role, f"{one.serial:x}", f"{one.not_after:%Y-%m-%d}", state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_made(folder: Path, made: Certificate) -> None:
    hosts = f", for {', '.join(made.hosts)}" if made.hosts else ""
    print(f"made {folder / made.name}: certificate of {made.role} {made.name}, until {made.not_after:%Y-%m-%d}{hosts}")


def _listed(names: list[str]) -> list[str]:
    # A compose file passes variables on that may be empty.
    return [stripped for some in names for word in some.split(",") if (stripped := word.strip())]


def _hosts(given: list[str]) -> tuple[str, ...]:
    own = socket.gethostname()
    try:
        check_host(own)
    except BadInput:
        own = "localhost"
    return tuple(dict.fromkeys(["localhost", "127.0.0.1", "::1", own, COORDINATOR, *given]))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two at once would each write a record without the other's certificate."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise BadInput(f"--dir: there is no folder {folder}; federa-certs init makes an authority") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
