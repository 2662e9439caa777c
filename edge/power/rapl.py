"""The CPU packages of an x86 host: Linux's powercap counters of energy (Intel RAPL, AMD's too)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.power.source import Reading
from federa.errors import one_line

# intel-rapl:N are the packages. intel-rapl:N:M lie within them, psys around them.
_DOMAINS = "sys/class/powercap/intel-rapl:*"


class Rapl:
    """Power from the counters' differences: each reading is the mean since the one before it, stamped at its end.
    Raises OSError where there are no counters, or none that may be read."""

    name = "rapl"
    scope: str | None = "package"

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._domains: dict[str, tuple[Path, float]] = {}
        try:
            for domain in sorted(root.glob(_DOMAINS)):
                name = (domain / "name").read_text().strip() if domain.name.count(":") == 1 else ""
                if name.startswith("package"):
                    self._domains[name] = (domain / "energy_uj", float((domain / "max_energy_range_uj").read_text()))
        except ValueError as problem:
            raise OSError(f"a counter's range is no number: {one_line(problem)}") from None
        if not self._domains:
            raise OSError(f"no package counters under {root / 'sys/class/powercap'}")
        try:
            self._before = (clock(), self._energies_uj())
        except PermissionError:
            # Since CVE-2020-8694.
            raise OSError("the counters can be read by root only") from None
        except ValueError as problem:
            raise OSError(f"a counter is no number: {one_line(problem)}") from None
        self.detail = f"RAPL: {', '.join(self._domains)}"
        self._trouble: str | None = None

    def readings(self) -> list[Reading]:
        at_s, (before_s, before_uj) = self._clock(), self._before
        try:
            energies_uj = self._energies_uj()
        except (OSError, ValueError) as problem:
            self._trouble = f"no reading: {problem}"
            return []
        self._trouble = None
        if at_s <= before_s:
            return []
        self._before = (at_s, energies_uj)
        rails_mw = {
            # A counter that reached its end began again at 0.
            name: ((now - before_uj[name]) % self._domains[name][1]) / 1000 / (at_s - before_s)
            for name, now in energies_uj.items()
        }
        return [Reading(at_s=at_s, rails_mw=rails_mw, total_mw=sum(rails_mw.values()))]

    def trouble(self) -> str | None:
        return self._trouble

    def close(self) -> None:
        """Nothing is open."""

    def _energies_uj(self) -> dict[str, float]:
        return {name: float(path.read_text()) for name, (path, _) in self._domains.items()}
