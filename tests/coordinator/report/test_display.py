"""The live display draws every snapshot, and says what it means off a terminal too."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from coordinator.report.display import Display
from federa.numbers import human_bytes, human_seconds
from protos.federation_pb2 import Progress, RunProgress, WorkerProgress


def record(width=120):
    return Console(record=True, width=width, file=io.StringIO())


def progress(*, number=1, workers=(), **run):
    # After round n the clock says n seconds and n kB have gone over the wire.
    after = range(1, len(run.get("values", ())) + 1)
    run.update(elapsed_after_s=list(after), bytes_after=[1000 * round_ for round_ in after])
    run = {"method": "federa", "metric": "accuracy", **run}
    return Progress(experiment_id="e", run_number=number, run_count=2, run=RunProgress(**run), workers=workers)


def drawn(snapshot, width=120):
    console = record(width)
    console.print(Display(console).render(snapshot))
    return console.export_text()


def printed(*snapshots):
    console = record()
    with Display(console) as display:
        for snapshot in snapshots:
            display.show(snapshot)
    return console.export_text().splitlines()


TRAINING = progress(
    stage="training",
    round=3,
    rounds=50,
    values=[0.25, 0.5],
    target=0.75,
    elapsed_s=75.0,
    bytes_down=1_500_000,
    bytes_up=3000,
    updates=1,
    expected=4,
    workers=[
        WorkerProgress(name="ada", phase="train", client=7, progress=0.5, device="Orin, bf16"),
        WorkerProgress(name="bob", phase="idle"),
        WorkerProgress(name="cyd"),
    ],
)


def test_a_run_under_way_is_drawn_with_all_that_it_says():
    text = drawn(TRAINING)
    for words in (
        "federa run 1 of 2", "training", "3 of at most 50, 1 of 4 updates", "0.500", "target 0.75",
        "1 min 15 s in rounds", "1.5 MB down, 3.0 kB up", "train client 7", "Orin, bf16", "joining",
    ):  # fmt: skip
        assert words in text
    assert "train client" not in "".join(line for line in text.splitlines() if line.startswith("bob"))


@pytest.mark.parametrize(
    "snapshot",
    [
        Progress(),
        progress(),
        progress(stage="waiting", note="0 of 2 devices are connected", rounds=50, target=0.9),
        progress(stage="training", round=1, rounds=50, target=0.9, expected=4),
        progress(stage="finished", values=[1.0], target=0.9, round=1, rounds=1, elapsed_s=4000.0),
        progress(values=[0.0] * 200, target=1.0),
        progress(values=[1.0] * 200, target=0.01),
        TRAINING,
    ],
)
@pytest.mark.parametrize("width", [20, 80, 200])
def test_every_snapshot_can_be_drawn(snapshot, width):
    assert drawn(snapshot, width)


HOSTILE = ("[red]", "[/red]", "[/]", "a [bold]b", "/data/[x]/y", "[link=x]", "\\[", "shape must be [4, 2], not [2]")


@pytest.mark.parametrize("words", HOSTILE)
def test_brackets_are_shown_and_not_obeyed(words):
    # Names come from other machines' command lines, notes from their errors.
    snapshot = progress(
        stage="failed", note=words, workers=[WorkerProgress(name=words, phase=words, device=words, client=1)]
    )
    assert drawn(snapshot).count(words) == 4
    assert words in "".join(printed(snapshot))


def test_a_metric_of_another_machine_is_no_markup():
    snapshot = progress(stage="training", values=[0.5], target=0.75, metric="[red]", round=1, rounds=2)
    assert "[red]" in drawn(snapshot) and "[red] 0.5000" in printed(snapshot)[0]


def test_what_is_said_of_a_run_once_is_a_line_and_not_repeated_for_the_next_one():
    first, second = progress(facts=["data: [40] documents"]), progress(number=2, facts=["data: [40] documents"])
    assert printed(first, first, second) == ["data: [40] documents"]
    assert printed(first, progress(number=2, facts=["data: 2\x1b[2J"])) == ["data: [40] documents", r"data: 2\x1b[2J"]


def test_the_sparkline_is_highest_at_one():
    text = drawn(progress(values=[0.0, 0.5, 1.0], target=0.9))
    assert "▁▅█" in text


def test_each_round_is_printed_once():
    first, second = progress(values=[0.5], target=0.75), progress(values=[0.5, 0.625], target=0.75)
    lines = printed(first, first, second, second)
    assert [line[:43] for line in lines] == [
        "federa   round   1  accuracy 0.5000 (target",
        "federa   round   2  accuracy 0.6250 (target",
    ]


def test_rounds_that_came_between_two_snapshots_are_all_printed():
    lines = printed(progress(values=[0.1], target=0.75), progress(values=[0.1, 0.2, 0.3], target=0.75))
    # Each with its own clock and bytes, not with those of the snapshot it came in.
    assert [line[-21:] for line in lines] == [f"  {n}.0 s  {n}.0 kB moved" for n in (1, 2, 3)]
    assert ["round   1" in lines[0], "round   2" in lines[1], "round   3" in lines[2]] == [True] * 3


def test_the_next_run_counts_from_one_again():
    lines = printed(progress(values=[0.1, 0.2], target=0.75), progress(number=2, values=[0.3], target=0.75))
    assert len(lines) == 3
    assert "round   1" in lines[2] and "0.3000" in lines[2]


def test_off_a_terminal_what_it_waits_for_is_said_once():
    waiting = progress(stage="waiting", note="0 of 2 devices are connected")
    lines = printed(waiting, waiting, progress(stage="waiting", note="1 of 2 devices are connected"), waiting)
    assert lines == [
        "federa   waiting: 0 of 2 devices are connected",
        "federa   waiting: 1 of 2 devices are connected",
        "federa   waiting: 0 of 2 devices are connected",
    ]


def test_on_a_terminal_it_is_drawn_in_place():
    console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True)
    with Display(console) as display:
        display.show(TRAINING)
    assert "round   2" in console.export_text()


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_949, "999.9 kB"),
        (1_000_000_000, "1.0 GB"),
        (1_500_000_000_000, "1.50 TB"),
        (2_000_000_000_000_000, "2000.00 TB"),
    ],
)
def test_bytes_as_people_say_them(count, words):
    assert human_bytes(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.0, "0.0 s"),
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60.0, "1 min 00 s"),
        (119.6, "2 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3600.0, "1 h 00 min"),
        (90_061.0, "25 h 01 min"),
    ],
)
def test_seconds_as_people_say_them(seconds, words):
    assert human_seconds(seconds) == words


def error_progress(*values):
    metric = {"metric": "mean_squared_error", "lower_is_better": True}
    return progress(stage="training", round=len(values), rounds=50, values=values, target=0.5, **metric)


def test_a_metric_that_is_better_when_lower_is_reached_from_above():
    def frame(*values):
        console = record()
        console.print(Display(console).render(error_progress(*values)))
        return console.export_text(styles=True)

    assert "target ≤ 0.5" in frame(2.0) and "2.000" in frame(2.0) and "%" not in frame(2.0)
    assert frame(0.4).count("\x1b[1;32m0.400") == 1 and "\x1b[1;32m" not in frame(0.6), "green when it is reached"
    assert "█▁" in frame(12.5, 0.5) and "▁" in frame(3.0, 3.0)
    console = record()
    with Display(console) as display:
        display.show(error_progress(12.5))
    assert "mean squared error 12.5000 (target ≤ 0.5)" in console.export_text()


@pytest.mark.parametrize("value", [0.0, -1.0, 1e9])
@pytest.mark.parametrize("target", [0.0, -2.0, 0.5])
@pytest.mark.parametrize("lower", [False, True])
def test_any_value_on_the_way_to_any_target_can_be_drawn(value, target, lower):
    console = record()
    snapshot = progress(stage="training", values=[value], target=target, round=1, rounds=2, lower_is_better=lower)
    console.print(Display(console).render(snapshot))
    assert f"{value:.3f}" in console.export_text()


def test_an_experiment_that_waits_in_the_queue_says_so_on_a_terminal_and_off_one():
    waiting = Progress(run=RunProgress(stage="queued", note="1 experiment before this one: reviews by ft (under way)"))
    assert drawn(waiting).strip() == "queued  1 experiment before this one: reviews by ft (under way)"
    assert printed(waiting, waiting) == ["queued: 1 experiment before this one: reviews by ft (under way)"]


def test_a_warning_is_a_line_once_whatever_else_is_shown():
    snapshot = progress(stage="training")
    snapshot.warnings.append("a second worker named ada was refused")
    assert printed(snapshot, snapshot) == ["a second worker named ada was refused"]
