"""A fake jtop: stands for the service of jetson-stats, which runs on a Jetson alone."""

from __future__ import annotations

import sys
import types
from typing import Any

_INPUTS = ("VIN", "POM_5V_IN", "VDD_IN")


def fake_power(rails_mw: dict[str, int], *, names_its_total: bool = True) -> dict[str, Any]:
    """What jtop.power is on a board with these rails, as jetson-stats has made it since 4.1: the input's rail is taken
    out and is the total, under its name; without an input the total is the sum of all, without a name."""
    rails: dict[str, Any] = {name: {"power": mw, "avg": mw, "online": True} for name, mw in rails_mw.items()}
    for name in _INPUTS:
        if name in rails:
            whole = rails.pop(name)
            return {"rail": rails, "tot": {**whole, "name": name} if names_its_total else whole}
    return {"rail": rails, "tot": {key: sum(rail[key] for rail in rails.values()) for key in ("power", "avg")}}


def install_fake_jtop(monkeypatch, power: dict[str, Any] | None = None, *, problem: str | None = None) -> None:
    """The module: a service that sends `power` once, and again at each `beat()`, or refuses."""
    module = types.ModuleType("jtop")

    class FakeJtopException(Exception):
        pass

    class FakeJtop:
        def __init__(self, interval):
            self.alive = False
            self.power = power or {}
            self.gpu = {"ga10b": {"status": {"load": 12.5}, "freq": {"cur": 612000}}}
            self.temperature = {"cpu": {"temp": 44.5, "online": True}, "cv0": {"temp": -256, "online": False}}

        def attach(self, observer):
            self.beat = lambda: observer(self)

        def start(self):
            if problem:
                raise FakeJtopException(problem)
            self.alive = True
            self.beat()

        def is_alive(self):
            return self.alive

        def close(self):
            self.alive = False

    module.jtop, module.JtopException = FakeJtop, FakeJtopException  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jtop", module)
