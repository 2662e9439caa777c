"""Which board this is and how it is set: the facts without which a figure means nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge.board_names import board_in, board_of

# Docker masks /sys/firmware, to which the first points: docker/compose.jetson.yaml mounts the board's at the last.
_TREES = ("proc/device-tree", "sys/firmware/devicetree/base", "run/host/sys/firmware/devicetree/base")
_GPUS = ("gpu", "gv11b", "ga10b", "gp10b", "gm20b")


@dataclass(frozen=True, slots=True)
class Board:
    """What the device tree says of this board."""

    model: str | None = None
    """Its maker's text; None where it does not tell."""
    name: str | None = None
    """One of BOARDS; None for a board that is none of them."""

    @property
    def shown(self) -> str | None:
        """The maker's text, with the name where the text does not say it."""
        if self.name is None or self.model is None:
            return self.model or self.name
        said = set(self.name.lower().split()) <= set(re.findall(r"\w+", self.model.lower()))
        return self.model if said else f"{self.model} ({self.name})"


def find_board(root: Path = Path("/")) -> Board:
    """The board by NVIDIA's words in `compatible`, or else by the model's text, which each maker words anew."""
    for tree in _TREES:
        # Texts that end with NUL, and a list of them.
        model, compatible = _text(root / tree / "model"), _text(root / tree / "compatible").split("\0")
        if model or any(compatible):
            return Board(model or None, board_in(compatible) or board_of(model))
    return Board()


def device_identity(board: str | None = None, root: Path = Path("/")) -> dict[str, str]:
    """Facts for reports; `board` overrides what the device tree says. What is not known is left out."""
    known = {
        "board": board or find_board(root).shown,
        "l4t": _l4t(root),
        "power_mode": _power_mode(root),
        "cores": _cores(root),
        "cpu_max_mhz": _most(root, "sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq", 1e3),  # kHz
        "gpu_max_mhz": _most(root, "sys/class/devfreq/*/max_freq", 1e6, _GPUS),  # Hz
        "memory": _memory(root),
        # Workers on one machine share it.
        "host": (_text(root / "proc/sys/kernel/random/boot_id") or "")[:12],
    }
    return {name: fact for name, fact in known.items() if fact}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _l4t(root: Path) -> str | None:
    """`# R36 (release), REVISION: 4.3, ...` is 36.4.3."""
    match = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return None if match is None else f"{match[1]}.{match[2]}"


def _power_mode(root: Path) -> str | None:
    """The mode that nvpmodel set last, by its name where its table has one."""
    match = re.search(r"pmode:(\d{1,9})", _text(root / "var/lib/nvpmodel/status"))
    if match is None:
        return None
    number = int(match[1])
    for name in re.finditer(r"<\s*POWER_MODEL\s+ID=(\d{1,9})\s+NAME=(\S+)\s*>", _text(root / "etc/nvpmodel.conf")):
        if int(name[1]) == number:
            return f"{name[2]} ({number})"
    return str(number)


def _cores(root: Path) -> str | None:
    online, present = (_count(_text(root / "sys/devices/system/cpu" / which)) for which in ("online", "present"))
    return f"{online} of {present} online" if online and present else None


def _count(ranges: str) -> int:
    """How many CPUs `0-3,6` are."""
    return sum(int(last or first) - int(first) + 1 for first, last in re.findall(r"(\d{1,6})(?:-(\d{1,6}))?", ranges))


def _most(root: Path, pattern: str, unit: float, names: tuple[str, ...] = ()) -> str | None:
    """The largest number in these files, of nodes of these names."""
    values = [
        float(text)
        for path in root.glob(pattern)
        if (not names or any(name in path.parent.name for name in names)) and (text := _text(path)).isdecimal()
    ]
    return f"{max(values) / unit:.0f}" if values else None


def _memory(root: Path) -> str | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return None if match is None else f"{int(match[1]) // 1024} MiB"
