"""jtop, the service of jetson-stats (AGPL-3.0: an extra that is imported only where this source is used)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from edge.power.rails import total_of
from edge.power.source import Reading
from federa.errors import one_line
from federa.extras import how_to_add

_OFFLINE_C = -256
_QUEUE = 4096


class Jtop:
    """Readings as the service sends them. Raises OSError where there is no jetson-stats, or no service that answers.

    A board's input (VIN, POM_5V_IN, VDD_IN) is not among its rails: it is its total, under its name. A total without a
    name is its own sum of all rails, which counts VDDQ twice on AGX Orin: totals are made by this project's table.
    """

    name = "jtop"

    def __init__(self, board: str | None, interval_s: float, twice: frozenset[str] = frozenset()) -> None:
        """`board` is the model's text; None judges by the rails alone. Of the labels that stand `twice` on this board
        jtop tells the last that it finds."""
        try:
            from jtop import JtopException, jtop
        except ImportError:
            raise OSError(f"jetson-stats is not installed ({how_to_add('jetson')})") from None
        self._board, self._twice = board, twice
        self.scope: str | None = None
        self._readings: deque[Reading] = deque(maxlen=_QUEUE)
        self._warning: str | None = None
        self._service = jtop(interval=interval_s)
        self._service.attach(self._on_message)
        try:
            self._service.start()
        except (JtopException, OSError, EOFError) as problem:
            # Its words go on in a second line: the command that mends it.
            raise OSError(" ".join(str(problem).split()) or type(problem).__name__) from None
        self.detail = f"jtop every {interval_s:g} s"

    def readings(self) -> list[Reading]:
        return [self._readings.popleft() for _ in range(len(self._readings))]

    def problem(self) -> str | None:
        # Its thread ends when the service goes away.
        return self._warning if self._service.is_alive() else "jtop's service has gone away"

    def close(self) -> None:
        self._service.close()

    def _on_message(self, service: Any) -> None:
        """Called on jtop's thread, once for each of the service's messages: it must not raise there."""
        at_s = time.monotonic()
        try:
            reading, scope, self._warning = self._reading(service, at_s)
        except Exception as problem:  # what it sends differs from release to release
            self._warning = f"a message of jtop was not understood: {one_line(problem)}"
            return
        self.scope = self.scope or scope
        self._readings.append(reading)

    def _reading(self, service: Any, at_s: float) -> tuple[Reading, str | None, str | None]:
        rails: dict[str, Mapping[str, Any]] = dict(service.power.get("rail", {}))
        whole: Mapping[str, Any] = service.power.get("tot", {})
        if name := whole.get("name"):
            rails.setdefault(name, whole)
        rails_mw = {
            name: float(rail["power"])
            for name, rail in rails.items()
            if rail.get("online", True) and rail.get("power") is not None
        }
        total = total_of(rails_mw, self._board, self.scope, self._twice)
        gpus: list[Mapping[str, Any]] = list(service.gpu.values())
        loads = [float(gpu["status"]["load"]) for gpu in gpus if "load" in gpu.get("status", {})]
        # kHz
        clocks = [float(gpu["freq"]["cur"]) / 1000 for gpu in gpus if "cur" in gpu.get("freq", {})]
        temps_c = {
            name: float(zone["temp"])
            for name, zone in service.temperature.items()
            if zone.get("online", True) and zone["temp"] > _OFFLINE_C
        }
        reading = Reading(
            at_s=at_s,
            rails_mw=rails_mw,
            total_mw=total.mw,
            gpu_load=max(loads, default=None),
            gpu_mhz=max(clocks, default=None),
            temps_c=temps_c,
        )
        return reading, total.scope, total.warning
