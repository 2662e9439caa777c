"""Lines of several boards in one log: there is a word, and no total."""

from __future__ import annotations

import io

import pytest

from edge.power.tegrastats_file import TegrastatsFile

LINE = "RAM 2147/{ram}MB (lfb 2x4MB) CPU [{cores}] cpu@47.5C {rails}"
NX_RAILS = "VDD_IN 5000mW/5000mW VDD_CPU_GPU_CV 400mW/400mW VDD_SOC 900mW/900mW"
AGX_RAILS = "VDD_GPU_SOC 9000mW/9000mW VDD_CPU_CV 6000mW/6000mW VIN_SYS_5V0 5000mW/5000mW"
COUNT = 24


def line(ram: int = 7620, cores: int = 6, rails: str = NX_RAILS) -> str:
    return LINE.format(ram=ram, cores=",".join(["0%@729"] * cores), rails=rails)


def dated(second: int, text: str | None = None) -> str:
    return f"11-04-2025 10:{second // 60:02}:{second % 60:02} {text or line()}"


def verdict(lines: list[str], forward: bool = True) -> tuple[str | None, str | None]:
    file = TegrastatsFile(io.BytesIO("".join(f"{text}\n" for text in lines).encode()))
    follows = [sample.follows for sample in file.samples()]
    return file.sources.mixed(forward and all(follows)), file.sources.note()


def taking_turns(form: str, names: tuple[str, ...] = ("orin-1", "orin-2", "orin-3")) -> list[str]:
    return [form.format(name=name, line=dated(second)) for second in range(COUNT) for name in names]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (line(ram=62841), "RAM of 7620 MB (24 lines), RAM of 62841 MB (24 lines)"),
        (line(cores=12), "6 cores (24 lines), 12 cores (24 lines)"),
        (line(rails=AGX_RAILS), "the rail VDD_CPU_GPU_CV (24 lines), the rail VDD_GPU_SOC (24 lines)"),
    ],
)
@pytest.mark.parametrize("turns", [True, False])
def test_unlike_boards_are_told_by_their_lines(other: str, words: str, turns: bool):
    first, second = [line()] * COUNT, [other] * COUNT
    lines = [text for pair in zip(first, second, strict=True) for text in pair] if turns else first + second
    assert verdict(lines)[0] == f"lines of different boards are mixed: {words}"


@pytest.mark.parametrize(
    "form",
    [
        "{name}  | {line}", "stats.1.x2k9@{name}    | {line}", "[pod/stats-{name}/main] {line}", "{name}: {line}",
        "logs/{name}.log:{line}", "logs/{name}.log:12:{line}", "Nov 04 10:00:00 {name} tegrastats[812]: {line}",
        '{{"log": "{line}", "container_name": "{name}"}}', '"{name}","{line}"', "\x1b[36m{name} | \x1b[0m{line}",
        '{{"message": "{line}", "host": {{"name": "{name}"}}}}',
        "2025-11-04T10:00:00Z stdout F {name} {line}", "==> {name}.log <==\n{line}",
        "{name} | CHANGED | rc=0 >>\n{line}",
    ],
)  # fmt: skip
def test_like_boards_are_told_by_what_stands_before_their_lines(form: str):
    mixed, _ = verdict(taking_turns(form))
    assert mixed is not None and mixed.startswith("lines of several sources are mixed: ")
    assert all(f"orin-{number}" in mixed for number in (1, 2, 3)) and mixed.count("(24 lines)") == 3
    assert verdict(taking_turns(form, ("orin-1",)))[0] is None


def test_a_log_that_was_rotated_is_one_boards_with_a_note():
    first = [f"a.log.1:{dated(second)}" for second in range(COUNT)]
    second = [f"a.log:{dated(COUNT + second)}" for second in range(COUNT)]
    mixed, note = verdict(first + second)
    assert mixed is None and note is not None and "taken for one board: 'a.log.1' (24 lines), 'a.log'" in note
    again = [f"a.log:{dated(second)}" for second in range(COUNT)]
    assert verdict(first + again)[0] is not None, "at the same time it is another board"


def test_what_changes_with_each_line_is_no_source():
    assert verdict([f"step{n} id-{n * 7919 % 1000:03x} {n}/{COUNT} {dated(n)}" for n in range(COUNT)]) == (None, None)
    pids = [f"Nov 04 10:00:{n:02} orin-1 tegrastats[{812 + n // 12}]: {line()}" for n in range(COUNT)]
    assert verdict(pids) == (None, None)


def test_a_message_that_was_mixed_into_lines_is_no_source():
    lines = [dated(second) for second in range(COUNT)]
    for place in (0, 5, 11):
        lines[place] = f"usb 1-{place}: new device {lines[place]}"
    lines[20] = f"WARNING: not invoking as root {lines[20]}"
    assert verdict(lines) == (None, None)


@pytest.mark.parametrize("width", [80, 120])
def test_lines_that_were_folded_have_no_total(width: int):
    texts = [dated(second) for second in range(COUNT)]
    pieces = [text[place : place + width] for text in texts for place in range(0, len(text), width)]
    mixed, _ = verdict(pieces)
    assert mixed is not None and mixed.startswith("its lines seem to be folded")


def test_names_reach_nobodys_terminal_as_they_are():
    mixed, _ = verdict(taking_turns("{name}\x07 | {line}", ("a" * 300, "b" * 300)))
    assert mixed is not None and mixed.isprintable() and len(mixed) < 250
