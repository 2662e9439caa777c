"""federa-bench's command line: each flag lands in its field, and what it refuses it names as the user wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.arguments import experiment_from, parser, power_from
from benchmarks.bench import main
from benchmarks.experiment_file import DEFAULT, read_experiment
from federa.config import Experiment, parse_experiment
from federa.errors import BadInput
from federa.methods import METHODS
from federa.tasks.text_classification import TextClassification


def _experiment(*arguments: str) -> Experiment:
    return experiment_from(parser().parse_args(arguments))


def _refusal(*arguments: str) -> str:
    with pytest.raises(BadInput) as caught:
        _experiment(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_surface_of_the_command_line() -> None:
    # People and scripts depend on these. Adding one is fine; changing or removing one is a breaking change.
    flags = [flag for action in parser()._actions for flag in action.option_strings]
    assert flags == [
        "-h", "--help", "--method", "--target-acc", "--metric", "--out", "--seed", "--devices", "--clients", "--rounds",
        "--precision", "--model", "--data", "--evaluation", "--bandwidth", "--coordinator", "--certs", "--insecure",
        "--proxy",
        "--power", "--experiment", "--small", "--data-dir", "--set", "--print-config", "--list-experiments",
        "--version",
    ]  # fmt: skip
    assert not [action for action in parser()._actions if not action.option_strings]


BBC_NEWS = read_experiment(DEFAULT).chosen(small=False)


def test_no_flags_are_the_embedded_experiment() -> None:
    assert _experiment() == _experiment("--experiment", DEFAULT) == parse_experiment(BBC_NEWS)
    assert _experiment("--data", "embedded") == parse_experiment(BBC_NEWS)
    options = parser().parse_args([])
    assert options.out is options.coordinator is None and not options.print_config


def test_power_is_what_the_local_workers_measure_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert power_from(parser().parse_args([])) == "auto"
    assert power_from(parser().parse_args(["--power", "none"])) == "none"
    assert power_from(parser().parse_args(["--coordinator", "orin:50051"])) == "auto"
    for given in (["--power", "coal"], ["--power", "none", "--coordinator", "orin:50051"]):
        assert main([*given, "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("federa-bench: --power: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "given", "path", "value"),
    [
        ("--target-acc", "0.75", "target.value", 0.75),
        ("--metric", "accuracy", "target.metric", "accuracy"),
        ("--seed", "9", "seed", 9),
        ("--devices", "3", "federation.devices", 3),
        ("--clients", "20", "federation.clients", 20),
        ("--rounds", "7", "federation.rounds", 7),
        ("--precision", "bf16", "training.precision", "bf16"),
        ("--model", "nobody/model", "model", "nobody/model"),
        ("--data", "nobody/data", "data.source", "nobody/data"),
        ("--bandwidth", "20", "bandwidth_mbps", 20.0),
    ],
)
def test_each_flag_lands_in_its_field_and_in_no_other(flag: str, given: str, path: str, value: object) -> None:
    # Data of one's own are dealt out as the schema says; its name follows them.
    tree = (Experiment() if flag == "--data" else parse_experiment(BBC_NEWS)).model_dump(exclude={"name"})
    *parents, last = path.split(".")
    section = tree
    for parent in parents:
        section = section[parent]
    section[last] = value
    assert _experiment(flag, given) == parse_experiment(tree)


@pytest.mark.parametrize(
    ("flag", "bad"),
    [
        ("--target-acc", "1.5"),
        ("--target-acc", "high"),
        ("--target-acc", "nan"),
        ("--seed", "-1"),
        ("--seed", "x"),
        ("--devices", "0"),
        ("--clients", "0"),
        ("--clients", "1.5"),
        ("--clients", "²"),
        ("--rounds", "0"),
        ("--precision", "fp8"),
        ("--bandwidth", "0"),
        ("--bandwidth", "-5"),
        ("--bandwidth", "fast"),
        ("--bandwidth", "nan"),
        ("--bandwidth", "1e3"),
        ("--bandwidth", "20 Gbit"),
        ("--bandwidth", ""),
        ("--bandwidth", "9" * 400),
        ("--method", "fedavg"),
        ("--method", ""),
        ("--method", "ft,"),
        ("--method", "all,ft"),
        ("--method", "ft,lora,ft"),
    ],
)
def test_a_bad_value_is_refused_by_the_flags_name(flag: str, bad: str) -> None:
    message = _refusal(f"{flag}={bad}")
    assert message.startswith(f"{flag}: "), message
    assert bad in message or bad == "ft,lora,ft" or bad.startswith("9999") or bad == "1.5" or "," in bad


def test_what_a_file_says_wrongly_is_not_blamed_on_a_flag(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("target: {value: 2}\nmethods: [{name: ft}, {name: ft}]\n")
    assert _refusal("--experiment", str(path), "--method", "ft").startswith("target.value: ")
    assert _refusal("--experiment", str(path), "--target-acc", "0.5").startswith("methods: ")


@pytest.mark.parametrize(
    ("given", "value"),
    [("20", 20), ("0.5", 0.5), ("20mbit", 20), ("20 Mbit/s", 20), ("20Mbps", 20), (" 20 ", 20), ("1000MBIT/S", 1000)],
)
def test_the_forms_of_a_bandwidth(given: str, value: float) -> None:
    assert _experiment("--bandwidth", given).bandwidth_mbps == value


@pytest.mark.parametrize(
    ("given", "names"),
    [("ft", ["ft"]), ("lora,ft", ["lora", "ft"]), (" ft , federa ", ["ft", "federa"]), ("all", list(METHODS))],
)
def test_methods_one_several_or_all(given: str, names: list[str]) -> None:
    assert [choice.name for choice in _experiment("--method", given).methods] == names


def test_fewer_clients_than_the_default_a_round_all_take_part() -> None:
    for clients, a_round in ((2, 2), (3, 3), (4, 4), (5, 4), (100, 4)):
        for arguments in (("--clients", str(clients)), ("--set", f"federation.clients={clients}")):
            federation = _experiment(*arguments).federation
            assert (federation.clients, federation.clients_per_round) == (clients, a_round)
    # What was said of it is not changed.
    assert "clients_per_round must be at most clients (3)" in _refusal(
        "--clients", "3", "--set", "federation.clients_per_round=5"
    )
    assert "clients must be at least the number of devices (2), not 1" in _refusal("--clients", "1")
    assert _experiment("--clients", "1", "--devices", "1").federation.clients_per_round == 1


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("lora.r=16", "lora.r", 16),
        ("lora.alpha=0.5", "lora.alpha", 0.5),
        ("lora.targets=[query, key]", "lora.targets", ("query", "key")),
        ("lora.targets=auto", "lora.targets", "auto"),
        ("data.labels=['1', \"2\"]", "data.labels", ("1", "2")),
        ("data.text_column=a=b", "data.text_column", "a=b"),
        ("data.partition.alpha=0.1", "data.partition.alpha", 0.1),
        ("training.max_grad_norm=null", "training.max_grad_norm", None),
        ("training.weight_decay=1.0e-2", "training.weight_decay", 0.01),
        ("name=x", "name", "x"),
        ("wire=int8", "wire", "int8"),
        ("federation.deadline_s=auto", "federation.deadline_s", "auto"),
        ("federation.deadline_s=2.5", "federation.deadline_s", 2.5),
        ("federation.quorum=3", "federation.quorum", 3),
        ("federation.min_devices=1", "federation.min_devices", 1),
        ("federation.norm_limit=null", "federation.norm_limit", None),
    ],
)
def test_set_reaches_any_field_with_its_type(setting: str, path: str, value: object) -> None:
    found: object = _experiment("--set", setting)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


def test_set_may_be_repeated_and_the_last_one_counts() -> None:
    experiment = _experiment("--set", "seed=1", "--set", "lora.r=2", "--set", "seed=3")
    assert experiment.seed == 3 and experiment.lora.r == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lora.r", "--set: must be KEY=VALUE"),
        ("=5", "--set: must be KEY=VALUE"),
        ("", "--set: must be KEY=VALUE"),
        ("lora.rank=5", "lora.rank is not a known field"),
        ("lora.r.x=5", "lora.r"),
        ("lora=5", "lora: "),
        ("wire=fp8", "wire: "),
        ("federation.deadline_s=0", "federation.deadline_s: must be a number of seconds above 0, auto or null"),
        ("federation.quorum=6", "federation: quorum must be at most clients_per_round (4)"),
        (".=5", ""),
        ("lora.r=x", "lora.r: "),
        ("lora.r=true", "lora.r: "),
        ("lora.r=[", "--set lora.r: '[' is not YAML"),
        ("seed=2024-99-99", "--set seed: '2024-99-99' is not YAML: month must be in 1..12"),
        (
            "data.labels=[a, b",
            "--set data.labels: '[a, b' is not YAML: expected ',' or ']', but got '<stream end>' (line",
        ),
        ("methods.0.learning_rate=1", "methods: "),
        ("data.labels=yes, no", "data.labels: must be a list of texts (got 'yes, no'): write [yes, no]"),
        ("data.labels=[null, x]", "data.labels.0: must be text (got null): in quotes where the word is meant"),
        ("data.source=", "data.source: must be text (got null)"),
        ("lora.targets=query", "lora.targets: must be 'auto' or a list of texts (got 'query'): write [query]"),
        ("lora.targets=q, v", "lora.targets: must be 'auto' or a list of texts (got 'q, v'): write [q, v]"),
        ("adapter.targets=output", "adapter.targets: must be 'auto' or a list of texts (got 'output'): write [output]"),
        ("adapter.r=4", "adapter.r is not a known field: it is lora.r"),
        ("methods=federa", "methods: must be a list of sections (got 'federa'): write [{name: federa}]"),
        ("methods=[federa]", "methods.0: must be a section of the fields name, learning_rate (got 'federa'): write {"),
        ("federation.clients=ten", "federation.clients: must be a whole number (got 'ten')"),
        ("lora=r", "lora: must be a section of the fields r, alpha, dropout, targets (got 'r')"),
    ],
)
def test_a_bad_setting_is_refused(setting: str, message: str) -> None:
    assert _refusal("--set", setting).startswith(message)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.labels=[yes, no]", ("yes", "no")),
        ("data.labels=[0, 1]", ("0", "1")),
        ("data.labels=[01, 1]", ("01", "1")),
        ("data.labels=[true, FALSE]", ("true", "FALSE")),
        ("data.labels=[1.0, 2.50]", ("1", "2.50")),
        ("data.labels=[2024-01-01, 1:30]", ("2024-01-01", "1:30")),
        ("data.labels=['null', \"~\"]", ("null", "~")),
        ("data.labels=null", None),
        ("data.source=123", "123"),
        ("name=on", "on"),
        ("name=2024-99-99", "2024-99-99"),
        ("model=0x10", "0x10"),
        ("data.text_column=2", "2"),
        ("lora.targets=[on, 1]", ("on", "1")),
        ("lora.targets=auto", "auto"),
        ("seed=0x10", 16),
        ("federation.deadline_s=30", 30.0),
        ("federation.quorum=null", None),
    ],
)
def test_where_words_are_wanted_a_setting_is_taken_as_it_is_written(setting: str, value: object) -> None:
    found: object = _experiment("--set", setting)
    for part in setting.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == value


def test_an_experiment_file_takes_words_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: 007\nseed: 010\ndata:\n  labels: [yes, no]\n  source: &words 12\nmodel: *words\n"
        "methods:\n- {name: ft, learning_rate: 1e-3}\nlora: {targets: [on, 1_0]}\n"
    )
    found = _experiment("--experiment", str(file))
    assert (found.name, found.seed, found.data.labels, found.lora.targets) == ("007", 8, ("yes", "no"), ("on", "1_0"))
    assert (found.data.source, found.model, found.learning_rate) == ("12", "12", 1e-3)
    file.write_text("data: {labels: yes}\n")
    assert _refusal("--experiment", str(file)) == "data.labels: must be a list of texts (got 'yes'): write [yes]"


def test_a_setting_below_one_that_is_no_section_is_refused() -> None:
    assert _refusal("--set", "seed=1", "--set", "seed.x=2") == "seed.x: seed has no fields of its own here"


def test_an_experiment_file_is_where_flags_start_from(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: mine\nseed: 5\nlora: {r: 4}\nfederation: {clients: 20, rounds: 9}\n"
        "methods:\n- {name: lora, learning_rate: 0.5}\n- {name: ft}\n"
    )
    experiment = _experiment("--experiment", str(path))
    assert (experiment.name, experiment.seed, experiment.federation.rounds) == ("mine", 5, 9)
    changed = _experiment("--experiment", str(path), "--seed", "6", "--set", "lora.alpha=2", "--method", "federa,lora")
    assert changed.seed == 6 and changed.lora.r == 4 and changed.lora.alpha == 2
    assert changed.federation.clients == 20 and changed.federation.rounds == 9
    # A method keeps what the file says of it.
    assert [(choice.name, choice.learning_rate) for choice in changed.methods] == [("federa", None), ("lora", 0.5)]


def test_the_printed_experiment_is_the_same_experiment(tmp_path: Path) -> None:
    first = _experiment("--method", "all", "--clients", "3", "--set", "lora.r=2")
    (tmp_path / "x.yaml").write_text(first.to_yaml())
    again = _experiment("--experiment", str(tmp_path / "x.yaml"))
    assert again.to_yaml() == first.to_yaml()


@pytest.mark.parametrize("methods", ["5", "[5]", "[{name: [ft]}]", "[{}]", "{name: ft}"])
def test_odd_methods_in_a_file_are_replaced_by_the_flags(tmp_path: Path, methods: str) -> None:
    (tmp_path / "x.yaml").write_text(f"methods: {methods}\n")
    assert _experiment("--experiment", str(tmp_path / "x.yaml"), "--method", "ft").method.name == "ft"
    assert _refusal("--experiment", str(tmp_path / "x.yaml")).startswith("methods")


def test_an_experiment_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in _refusal("--experiment", str(tmp_path / "none.yaml"))


def test_paths_that_exist_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "x.csv").write_text("")
    for model, data in (("model", "x.csv"), ("./model", "./x.csv"), ("~/model", "~/x.csv")):
        experiment = _experiment("--model", model, "--data", data)
        assert experiment.model == str((tmp_path / "model").resolve())
        assert experiment.data.source == str((tmp_path / "x.csv").resolve())
    left = _experiment("--model", "~no-such-user/x", "--data", "x" * 5000)
    assert left.model == "~no-such-user/x" and left.data.source == "x" * 5000


def test_what_print_config_prints_is_the_same_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--method", "all", "--print-config"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "x.yaml").write_text(printed)
    assert main(["--experiment", str(tmp_path / "x.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == printed


# ---- the metric that the target is of


def _several_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give text classification a second metric, with a target of its own."""
    share = TextClassification.metrics[0]
    recall = replace(share, name="recall", target=0.5)
    monkeypatch.setattr(TextClassification, "metrics", (share, recall))


def test_the_metric_is_one_of_the_tasks_with_a_target_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _several_metrics(monkeypatch)
    found = [_experiment(*given).target for given in ([], ["--metric", "recall"])]
    assert [(target.metric, target.value) for target in found] == [("accuracy", 0.9), ("recall", 0.5)]
    both = _experiment("--metric", "recall", "--target-acc", "0.25")
    assert (both.target.metric, both.target.value, both.metric.name) == ("recall", 0.25, "recall")


def test_a_metric_that_the_task_does_not_have_is_refused_with_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    _several_metrics(monkeypatch)
    assert _refusal("--metric", "f1") == "--metric: must be 'accuracy' or 'recall' (got 'f1')"
    assert _refusal("--metric", "recall", "--target-acc", "2").startswith("--target-acc: ")
    assert " whichever metric it is " in " ".join(parser().format_help().split())
