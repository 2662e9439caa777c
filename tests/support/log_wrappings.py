"""How programs wrap the lines of a log. Each wrapping takes (time, line) and gives the line of the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone

Wrapping = Callable[[float, str], str]


def _at(form: str) -> Callable[[float], str]:
    return lambda at_s: datetime.fromtimestamp(at_s, timezone.utc).strftime(form)


_iso, _syslog, _plain = _at("%Y-%m-%dT%H:%M:%S"), _at("%b %d %H:%M:%S"), _at("%Y-%m-%d %H:%M:%S")
_go, _apache, _ctime = _at("%Y/%m/%d %H:%M:%S"), _at("[%d/%b/%Y:%H:%M:%S +0000]"), _at("%a %b %d %H:%M:%S UTC %Y")

# They tell no time.
SILENT: dict[str, Wrapping] = {
    "as it is": lambda _, line: line,
    "double quotes": lambda _, line: f'"{line}"',
    "single quotes": lambda _, line: f"'{line}'",
    "typographic quotes": lambda _, line: f"“{line}”",
    "bytes of Python": lambda _, line: repr(f"{line}\n".encode()),
    "list of Python": lambda _, line: f"{[line]!r},",
    "semicolon": lambda _, line: f"{line};",
    "full stop": lambda _, line: f"{line}.",
    "bar": lambda _, line: f"{line}|",
    "table": lambda _, line: f"| {line} |",
    "brackets": lambda _, line: f"[{line}]",
    "parentheses": lambda _, line: f"({line})",
    "HTML": lambda _, line: f"<li>{line}<br/>",
    "entities": lambda _, line: f"&quot;{line}&quot;",
    "written line end": lambda _, line: f"{line}\\r\\n",
    "tabulators": lambda _, line: line.replace(" ", "\t"),
    "commas for blanks": lambda _, line: line.replace(" ", ","),
    "blanks that do not break": lambda _, line: line.replace(" ", "\u00a0"),
    "compose": lambda _, line: f"\x1b[36mtegrastats-1  | \x1b[0m{line}",
    "swarm": lambda _, line: f"stats.1.x2k9@orin-1    | {line}",
    "kubectl": lambda _, line: f"[pod/stats-7d9c/main] {line}",
    "ssh": lambda _, line: f"10.0.0.5: {line}",
    "grep": lambda _, line: f"logs/a.txt:{line}",
    "grep in colours": lambda _, line: line.replace("VDD_", "\x1b[01;31m\x1b[KVDD_\x1b[m\x1b[K"),
    "words in colours": lambda _, line: " ".join(f"\x1b[1;32m{word}\x1b[0m" for word in line.split()),
    "colours of cat -v": lambda _, line: f"^[[36m{line}^[[0m",
    "title of a terminal": lambda _, line: f"\x1b]0;title\x07{line}\x1b[K",
    "JSON": lambda _, line: json.dumps({"level": "info", "msg": f"\x1b[36m{line}\x1b[0m\n"}),
    "JSON within JSON": lambda _, line: json.dumps({"a": {"b": {"msg": line}}}),
    "JSON with slashes escaped": lambda _, line: json.dumps({"log": f"{line}\n"}).replace("/", "\\/"),
    "pairs": lambda _, line: f'level=info msg="{line}"',
}
# They do.
TELLING: dict[str, Wrapping] = {
    "docker logs -t": lambda at_s, line: f"{_iso(at_s)}.123456789Z {line}",
    "compose -t": lambda at_s, line: f"stats-1  | {_iso(at_s)}.123456789Z {line}",
    "CRI": lambda at_s, line: f"{_iso(at_s)}.123456789+00:00 stdout F {line}",
    "json-file": lambda at_s, line: json.dumps({"log": f"{line}\n", "stream": "stdout", "time": f"{_iso(at_s)}.5Z"}),
    "journalctl": lambda at_s, line: f"{_syslog(at_s)} orin-1 tegrastats[812]: {line}",
    "journalctl -o short-iso": lambda at_s, line: f"{_iso(at_s)}+0000 orin-1 tegrastats[812]: {line}",
    "journalctl -o short-unix": lambda at_s, line: f"{at_s:.6f} orin-1 tegrastats[812]: {line}",
    "journalctl -o short-monotonic": lambda at_s, line: f"[{at_s - 1.7e9 + 0.25:14.6f}] orin-1 tegrastats[812]: {line}",
    "journalctl -o json": lambda at_s, line: json.dumps(
        {
            "__CURSOR": f"s=1;i={int(at_s):x}",
            "__MONOTONIC_TIMESTAMP": str(int((at_s - 1.7e9) * 1e6)),
            "MESSAGE": line,
            "__REALTIME_TIMESTAMP": str(int(at_s * 1e6)),
            "_HOSTNAME": "orin-1",
            "PRIORITY": "6",
        }
    ),
    "Filebeat": lambda at_s, line: json.dumps(
        {
            "@timestamp": f"{_iso(at_s)}.000Z",
            "message": line,
            "host": {"name": "orin-1"},
            "log": {"offset": int(at_s) % 9999},
        }
    ),
    "syslog": lambda at_s, line: f"<13>1 {_iso(at_s)}.003Z orin-1 stats 812 - - {line}",
    "ts": lambda at_s, line: f"{_syslog(at_s)} {line}",
    "ts %.s": lambda at_s, line: f"{at_s:.6f} {line}",
    "seconds": lambda at_s, line: f"{int(at_s)} {line}",
    "milliseconds": lambda at_s, line: f"[{int(at_s * 1000)}] {line}",
    "Loki": lambda at_s, line: json.dumps([f"{int(at_s)}000000000", line]),
    "numbers in JSON": lambda at_s, line: json.dumps({"ts": at_s, "line": line}),
    "CSV": lambda at_s, line: f'{_iso(at_s)},"{line}"',
    "CSV of pandas": lambda at_s, line: f'17,{_plain(at_s)},orin-1,"{line}"',
    "logging of Python": lambda at_s, line: f"{_plain(at_s)},123 INFO stats: {line}",
    "log of Go": lambda at_s, line: f"{_go(at_s)} {line}",
    "web server": lambda at_s, line: f"{_apache(at_s)} {line}",
    "date": lambda at_s, line: f"{_ctime(at_s)} {line}",
    "time of day": lambda at_s, line: f"[{_iso(at_s)[11:]}] {line}",
    "time at the end": lambda at_s, line: f"{line} {int(at_s)}",
}
WRAPPINGS = {**SILENT, **TELLING}
