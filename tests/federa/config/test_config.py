"""The schema: every bad value is refused by its field's name, in one line, and good ones survive a round trip."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from federa.aggregation.fedavg import FedAvg
from federa.config import Experiment, MethodChoice, parse_experiment, parse_json, read_tree
from federa.config import experiment as schema
from federa.config.sections import Federation
from federa.data.section import DataSection
from federa.errors import BadInput
from federa.methods import METHODS, method_class
from federa.methods.ft import FullFineTuning
from federa.section import Section
from federa.tasks import DEFAULT_TASK, task_class
from federa.tasks.labels import label_text, visible

JARGON = re.compile(r"(?i)input should|instance of|dictionary|tuple|literal|union|to parse|after validation|pydantic")
"""pydantic's, which is nothing of the user's."""
NAN, INF = float("nan"), float("inf")

REFUSED: dict[str, list[object]] = {
    "name": [5, None, ["a"], True],
    "model": [5, None, True],
    "seed": [-1, 2**63, 1.5, "x", None, NAN, INF, True, False, [1], {}],
    "bandwidth_mbps": [0, -1, NAN, INF, -INF, "fast", True, [20]],
    "evaluation": ["", "device", None, 5, True, ["devices"]],
    "wire": ["fp8", "fp64", "FP32", "", None, 8, True, ["fp32"]],
    "task": ["", "classification", None, 1, True, ["text-classification"]],
    "aggregator": ["", "FedAvg", None, 1, True, ["fedavg"]],
    "methods": [[], "federa", 5, None, {"name": "ft"}, [{"name": "ft"}, {"name": "ft", "learning_rate": 0.1}]],
    "target": [0.9, None, []],
    "target.metric": ["f1", "", None, 1],
    "target.value": [0, 1.01, -0.1, NAN, INF, "high", None, True],
    "data": ["embedded", None, 5],
    "data.source": [5, None, ["a"]],
    "data.text_column": [5, None],
    "data.label_column": [5, None],
    "data.labels": [[], ["one"], ["a", "a"], ["a", " a"], ["1", 1], ["a", ""], ["a", None], "ab", 5, True],
    "data.validation": [0, 1, -0.1, 1.5, NAN, "x", None, True],
    "data.test": [0, 1, -0.1, 1.5, NAN, "x", None, True],
    "data.max_length": [3, 0, -1, 1.5, "x", None, True],
    "data.max_records": [0, -1, 1.5, "x", True],
    "data.validation_file": [5, "", " ", "devices", True, []],
    "data.test_file": [5, "", "embedded", True, []],
    "data.partition": ["iid", None],
    "data.partition.kind": ["random", "", None, 1],
    "data.partition.alpha": [0, -1, NAN, INF, "x", None, True],
    "data.partition.over": ["labels", "", None, 1],
    "data.partition.clusters": [1, 0, -1, 1.5, "x", None, NAN, True, 10**7],
    "data.partition.shards_per_client": [0, -1, 1.5, "x", None, NAN, True],
    "data.partition.column": [5, None, True, [], {}],
    "federation": [5, None],
    "federation.devices": [0, -1, 1.5, "x", None, NAN, True],
    "federation.clients": [0, -1, 1.5, "x", None, NAN, True],
    "federation.clients_per_round": [0, -1, 1.5, "x", None, NAN, True],
    "federation.rounds": [0, -1, 1.5, "x", None, NAN, True],
    "federation.min_devices": [0, -1, 1.5, "x", NAN, True],
    "federation.over_select": [-1, 1.5, "x", None, NAN, True],
    "federation.quorum": [0, -1, 1.5, "x", NAN, True],
    "federation.deadline_s": [0, -1, NAN, INF, -INF, "x", "soon", "", True, [5], {}],
    "federation.attempts": [0, -1, 1.5, "x", None, NAN, True],
    "federation.norm_limit": [1, 0, -1, NAN, INF, "x", True],
    "adapter": [5, None],
    "adapter.size": [0, -1, 1.5, "x", None, NAN, True],
    "adapter.nonlinearity": ["sigmoid", "", None, 1],
    "adapter.targets": ["output", 5, None, [], True, {}],
    "lora": [5, None],
    "lora.r": [0, -1, 1.5, "x", None, NAN, True],
    "lora.alpha": [0, -1, NAN, INF, "x", None, True],
    "lora.dropout": [-0.1, 1, NAN, "x", None, True],
    "lora.targets": ["query", 5, None, [], True, {}],
    "training": [5, None],
    "training.epochs": [0, -1, 1.5, "x", None, True],
    "training.batch_size": [0, -1, 1.5, "x", None, True],
    "training.micro_batch_size": [0, -1, 1.5, "x", True],
    "training.precision": ["fp8", "", None, 32],
    "training.weight_decay": [-0.1, NAN, INF, "x", None, True],
    "training.max_grad_norm": [0, -1, NAN, INF, "x", True],
}


def _tree(path: str, value: object) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _fields(section: type, prefix: str = "") -> set[str]:
    found = set()
    for name, field in section.model_fields.items():
        found.add(prefix + name)
        # What the annotation says of `data` is what all tasks have: each has a section of its own.
        kind = task_class(DEFAULT_TASK).Data if field.annotation is DataSection else field.annotation
        if hasattr(kind, "model_fields"):
            found |= _fields(kind, f"{prefix}{name}.")
    return found


def _refusal(tree: object) -> str:
    with pytest.raises(BadInput) as caught:
        parse_experiment(tree)
    message = str(caught.value)
    assert message and len(message.splitlines()) == 1
    assert not JARGON.search(message), message
    return message


def test_the_table_of_bad_values_names_every_field() -> None:
    assert set(REFUSED) == _fields(Experiment)


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in REFUSED.items() for value in values])
def test_a_bad_value_is_refused_by_its_fields_name(path: str, value: object) -> None:
    message = _refusal(_tree(path, value))
    assert message.startswith((f"{path}: ", f"{path}.")), message


@pytest.mark.parametrize("value", ["fp8", 32])
def test_a_bad_choice_is_told_what_it_may_be_and_what_it_was(value: object) -> None:
    message = _refusal({"training": {"precision": value}})
    assert all(repr(name) in message for name in ("auto", "fp32", "bf16", "fp16", value))


@pytest.mark.parametrize(
    "path", ["", "target", "data", "data.partition", "federation", "lora", "training", "methods.0"]
)
@pytest.mark.parametrize("key", ["sede", "learning_rat", "x[0]", "with space", "two\nlines", "", "é"])
def test_an_unknown_key_is_refused_by_name_at_every_depth(path: str, key: str) -> None:
    section = {key: 1}
    if path == "methods.0":
        message = _refusal({"methods": [{"name": "ft", **section}]})
    else:
        message = _refusal(_tree(path, section) if path else section)
    expected = " ".join(f"{path}.{key}".removeprefix(".").split()) or "experiment"
    assert message == f"{expected} is not a known field"


@pytest.mark.parametrize("key", [1, None, 2.5, True, ("a",), "\ud800"])
def test_a_key_that_is_no_text_is_refused(key: object) -> None:
    _refusal({key: 1})
    _refusal({"data": {key: 1}})


@pytest.mark.parametrize("name", ["", "FT", "fedavg", 5, None, True])
def test_an_unknown_method_is_refused_with_those_there_are(name: object) -> None:
    message = _refusal({"methods": [{"name": "ft"}, {"name": name}]})
    assert message.startswith("methods.1.name: ")
    if isinstance(name, str):
        assert ", ".join(METHODS) in message and repr(name) in message


@pytest.mark.parametrize("rate", [0, -1e-3, NAN, INF, "x", True])
def test_a_bad_learning_rate_is_refused(rate: object) -> None:
    assert _refusal({"methods": [{"name": "ft", "learning_rate": rate}]}).startswith("methods.0.learning_rate: ")


def test_what_contradicts_itself_is_refused() -> None:
    assert _refusal({"federation": {"clients": 1}}) == (
        "federation: clients must be at least the number of devices (2), not 1"
    )
    assert _refusal({"federation": {"clients": 3, "clients_per_round": 5}}) == (
        "federation: clients_per_round must be at most clients (3)"
    )
    for field, words in (
        ("over_select", "over_select must be at most 5, the clients left"),
        ("quorum", "quorum must be at most clients_per_round (5)"),
        ("min_devices", "min_devices must be at most devices (2)"),
    ):
        assert _refusal({"federation": {field: 6}}) == f"federation: {words}"
    assert _refusal({"data": {"validation": 0.5, "test": 0.5}}) == "data: validation and test together must be below 1"
    assert _refusal({"methods": [{"name": "ft"}] * 2}) == "methods: must name each method once"


@pytest.mark.parametrize("tree", [None, 5, "seed: 0", [], [("seed", 0)], True, object()])
def test_what_is_no_mapping_is_refused(tree: object) -> None:
    assert "must be a mapping" in _refusal(tree)


def test_the_values_at_the_edges_are_taken() -> None:
    parse_experiment(
        {
            "seed": 2**63 - 1,
            "target": {"value": 1},
            "data": {"max_length": 4, "validation": 0.5, "test": 0.49, "labels": ["b", "a"]},
            "federation": {"devices": 1, "clients": 1, "clients_per_round": 1, "rounds": 1},
            "lora": {"r": 1, "dropout": 0, "targets": ["query"]},
            "training": {"max_grad_norm": None, "micro_batch_size": None, "weight_decay": 0},
        }
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("deadline_s", "auto"), ("deadline_s", None), ("deadline_s", 0.5), ("deadline_s", 30), ("quorum", None),
        ("quorum", 5), ("min_devices", None), ("min_devices", 2), ("over_select", 5), ("norm_limit", None),
        ("norm_limit", 1.01), ("attempts", 1),
    ],
)  # fmt: skip
def test_the_values_that_end_a_round_are_taken_as_they_are(field: str, value: object) -> None:
    federation = parse_experiment({"federation": {field: value}}).federation
    assert getattr(federation, field) == value


def test_what_is_not_said_of_a_round_means_everybody() -> None:
    federation = Experiment().federation
    assert (federation.devices_to_start, federation.updates_to_close) == (2, 5)
    less = parse_experiment({"federation": {"min_devices": 1, "quorum": 3}}).federation
    assert (less.devices_to_start, less.updates_to_close) == (1, 3)


@pytest.mark.parametrize("wire", ["fp32", "bf16", "fp16", "int8"])
def test_every_wire_is_named_in_the_refusal_of_another(wire: str) -> None:
    assert parse_experiment({"wire": wire}).wire == wire
    assert repr(wire) in _refusal({"wire": "fp8"})


def test_a_bad_deadline_is_told_what_it_may_be() -> None:
    assert _refusal({"federation": {"deadline_s": "soon"}}) == (
        "federation.deadline_s: must be a number of seconds above 0, auto or null (got 'soon')"
    )


def test_numbers_may_be_text_as_the_command_line_gives_them() -> None:
    experiment = parse_experiment({"seed": "7", "target": {"value": "0.5"}})
    assert experiment.seed == 7 and experiment.target.value == 0.5


@pytest.mark.parametrize(("clients", "a_round"), [(2, 2), (4, 4), (5, 5), (6, 5), (100, 5)])
def test_of_fewer_clients_than_five_all_train_in_a_round(clients: int, a_round: int) -> None:
    for experiment in (
        parse_experiment({"federation": {"clients": clients}}),
        parse_experiment({"federation": {"clients": str(clients)}}),
        Experiment(federation=Federation(clients=clients)),
    ):
        assert experiment.federation.clients_per_round == a_round
        assert experiment.model_dump()["federation"]["clients_per_round"] == a_round
        assert yaml.safe_load(experiment.to_yaml())["federation"]["clients_per_round"] == a_round
        assert parse_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("embedded", "bbc-news"), ("/data/reviews.csv", "reviews"), ("~/my.reviews.jsonl.gz", "my.reviews"),
        ("x.tsv", "x"), ("nobody/ag_news", "ag_news"), ("nobody/glue:sst2", "glue"), ("imdb", "imdb"), ("", ""),
        ("/", "/"), (".csv", ".csv"), ("a/", "a/"), ("é/\0.csv", "\0"),
    ],
)  # fmt: skip
def test_an_experiment_without_a_name_is_called_after_its_data(source: str, name: str) -> None:
    experiment = parse_experiment({"data": {"source": source}})
    assert experiment.name == name == experiment.model_dump()["name"] == yaml.safe_load(experiment.to_yaml())["name"]
    assert parse_experiment({"name": "mine", "data": {"source": source}}).name == "mine"
    assert parse_experiment(OWN).name == "devices"


def test_whole_numbers_are_labels_too() -> None:
    for text in ('{"data": {"labels": [2, 10]}}', '{"data": {"labels": [" 2", "10.0"]}}'):
        assert parse_json(text).data.labels == parse_experiment(json.loads(text)).data.labels == ("2", "10")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"data": {"labels": [True, "x"]}}, "data.labels.0: must be text (got true)"),
        ({"data": {"labels": {"a": 1}}}, "data.labels: must be a list of texts (got a mapping)"),
        ({"methods": []}, "methods: must be a list of at least 1 section"),
        ({"methods": [{}]}, "methods.0.name: must be given"),
        ({"methods": [","]}, "methods.0: must be a section of the fields name, learning_rate (got ',')"),
        ({"lora": {"targets": 5}}, "lora.targets: must be 'auto' or a list of texts (got 5)"),
        ({"lora": {"alpha": INF}}, "lora.alpha: must be a finite number (got inf)"),
        ({"lora": 3}, "lora: must be a section of the fields r, alpha, dropout, targets (got 3)"),
        ({"federation": {"rounds": 1.5}}, "federation.rounds: must be a whole number (got 1.5)"),
        ({"federation": {"rounds": 10**7}}, "federation.rounds: must be at most 1000000 (got 10000000)"),
        ({"seed": -1}, "seed: must be at least 0 (got -1)"),
        ({"data": {"validation": 1}}, "data.validation: must be below 1 (got 1)"),
        ({"name": ["x"]}, "name: must be text (got a list)"),
        ({"name": "x" * 500, "seed": "\x1b[2J" + "9" * 5000}, r"seed: must be a whole number"),
    ],
)
def test_refusals_are_in_our_words(tree: dict[str, Any], message: str) -> None:
    found = _refusal(tree)
    assert found.startswith(message) and found.isprintable() and len(found) <= 200


def test_the_order_of_labels_is_kept() -> None:
    assert parse_experiment({"data": {"labels": ["z", "a", "m"]}}).data.labels == ("z", "a", "m")


def test_the_schema_is_there_without_torch() -> None:
    # The command line and the coordinator's process read the registries: seconds and hundreds of megabytes.
    code = "import sys, federa.config; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_section_that_is_somebody_elses_is_refused_when_the_schema_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in ("lora", "data"):
        monkeypatch.setattr(FullFineTuning, "section", section)
        with pytest.raises(TypeError, match=f"the section '{section}' of the experiment is somebody else's"):
            schema._sections()


def test_a_method_or_an_aggregator_is_made_with_its_own_section() -> None:
    experiment = parse_experiment({"methods": [{"name": "lora"}], "lora": {"r": 3}})
    assert experiment.make_method().config == experiment.lora and experiment.lora.r == 3
    assert isinstance(experiment.make_aggregator(), FedAvg)
    assert parse_experiment({"methods": [{"name": "ft"}]}).make_method().config == Section()


def test_what_reading_finds_is_filled_in_and_the_given_stays_as_it_was() -> None:
    given = Experiment()
    resolved = given.resolved({"labels": ("a", "b")})
    assert given.data.labels is None and resolved.data.labels == ("a", "b")
    assert parse_json(resolved.model_dump_json()) == resolved
    assert resolved.make_task().data == resolved.data


def test_everything_is_frozen() -> None:
    experiment = Experiment()
    for section, field in ((experiment, "seed"), (experiment.data, "source"), (experiment.methods[0], "name")):
        with pytest.raises(ValidationError):
            setattr(section, field, "x")


def test_runs_are_the_experiment_one_method_at_a_time() -> None:
    both = parse_experiment({"seed": 4, "methods": [{"name": "lora", "learning_rate": 0.5}, {"name": "ft"}]})
    runs = list(both.runs())
    assert [run.method.name for run in runs] == ["lora", "ft"]
    assert [run.learning_rate for run in runs] == [0.5, method_class("ft").learning_rate]
    assert all(run.model_copy(update={"methods": both.methods}) == both for run in runs)


def test_yaml_states_every_value_and_the_learning_rates_in_force() -> None:
    experiment = parse_experiment({"methods": [{"name": "ft"}, {"name": "lora", "learning_rate": 2e-5}]})
    tree = yaml.safe_load(experiment.to_yaml())
    assert tree["methods"] == [
        {"name": "ft", "learning_rate": method_class("ft").learning_rate},
        {"name": "lora", "learning_rate": 2e-5},
    ]
    stated = {path for path in _fields(Experiment) if _reaches(tree, path)}
    assert stated == _fields(Experiment)
    assert next(iter(tree)) == "name"


def _reaches(tree: Any, path: str) -> bool:
    for part in path.split("."):
        if part not in tree:
            return False
        tree = tree[part]
    return True


def _finite(low: float, high: float, **options: Any) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **options)


# Without U+0085, which PyYAML itself writes and reads back as a space.
_TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x85"), max_size=12)
# As labels are kept: others are refused, or become these.
_LABEL = _TEXT.map(label_text).filter(bool)
_POSITIVE = _finite(0, 1e6, exclude_min=True)
_COUNT = st.integers(1, 10**6)


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    names = draw(st.permutations(list(METHODS)))[: draw(st.integers(1, len(METHODS)))]
    devices = draw(st.integers(1, 20))
    clients = draw(st.integers(devices, 200))
    per_round = draw(st.integers(1, clients))
    return Experiment.model_validate(
        {
            "name": draw(_TEXT),
            "model": draw(_TEXT),
            "seed": draw(st.integers(0, 2**63 - 1)),
            "bandwidth_mbps": draw(st.none() | _POSITIVE),
            "wire": draw(st.sampled_from(["fp32", "bf16", "fp16", "int8"])),
            "methods": [{"name": name, "learning_rate": draw(st.none() | _POSITIVE)} for name in names],
            "target": {"value": draw(_finite(0, 1, exclude_min=True))},
            "data": {
                "source": draw(_TEXT),
                "text_column": draw(_TEXT),
                "label_column": draw(_TEXT),
                "labels": draw(st.none() | st.lists(_LABEL, min_size=2, max_size=4, unique_by=visible)),
                "validation": draw(_finite(0.01, 0.49)),
                "test": draw(_finite(0.01, 0.49)),
                "max_length": draw(st.integers(4, 4096)),
                "partition": {
                    "kind": draw(st.sampled_from(["dirichlet", "iid", "quantity"])),
                    "alpha": draw(_POSITIVE),
                },
            },
            "federation": {
                "devices": devices,
                "clients": clients,
                "clients_per_round": per_round,
                "rounds": draw(_COUNT),
                "min_devices": draw(st.none() | st.integers(1, devices)),
                "over_select": draw(st.integers(0, clients - per_round)),
                "quorum": draw(st.none() | st.integers(1, per_round)),
                "deadline_s": draw(st.none() | st.just("auto") | _POSITIVE),
                "attempts": draw(_COUNT),
                "norm_limit": draw(st.none() | _finite(1, 1e6, exclude_min=True)),
            },
            "lora": {
                "r": draw(_COUNT),
                "alpha": draw(_POSITIVE),
                "dropout": draw(_finite(0, 1, exclude_max=True)),
                "targets": draw(st.just("auto") | st.lists(_TEXT, min_size=1, max_size=3)),
            },
            "training": {
                "epochs": draw(_COUNT),
                "batch_size": draw(_COUNT),
                "micro_batch_size": draw(st.none() | _COUNT),
                "precision": draw(st.sampled_from(["auto", "fp32", "bf16", "fp16"])),
                "weight_decay": draw(_finite(0, 10)),
                "max_grad_norm": draw(st.none() | _POSITIVE),
            },
        }
    )


@given(experiment=experiments())
def test_an_experiment_survives_json(experiment: Experiment) -> None:
    assert parse_json(experiment.model_dump_json()) == experiment
    assert parse_experiment(json.loads(experiment.model_dump_json())) == experiment


@given(experiment=experiments())
def test_an_experiment_survives_yaml_on_disk(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> None:
    # The file states the rates in force; all else is equal.
    rates = tuple(
        MethodChoice(name=choice.name, learning_rate=choice.rate(experiment.task)) for choice in experiment.methods
    )
    path = tmp_path_factory.getbasetemp() / "experiment.yaml"
    path.write_text(experiment.to_yaml(), encoding="utf-8")
    assert parse_experiment(read_tree(path)) == experiment.model_copy(update={"methods": rates})


_KEYS = st.sampled_from(sorted({part for path in _fields(Experiment) for part in path.split(".")}))
_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4) | st.dates()
)
_GARBAGE = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(tree=_GARBAGE | st.dictionaries(_KEYS, _GARBAGE, max_size=5) | st.dictionaries(_LEAVES, _GARBAGE, max_size=3))
@example(tree={"seed": 16**5000})
@example(tree={"name": 16**5000})
@example(tree={16**5000: 1})
def test_garbage_is_an_experiment_or_is_refused_in_one_line(tree: object) -> None:
    try:
        assert isinstance(parse_experiment(tree), Experiment)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1 and not JARGON.search(str(error))


@given(text=st.text(max_size=40) | _GARBAGE.map(lambda tree: json.dumps(tree, default=str)))
@example(text="")
@example(text="[" * 10_000)
@example(text='{"seed": NaN}')
@example(text='{"seed": 1' + "0" * 5000 + "}")
@example(text='{"name": "\\ud800"}')
@example(text="null")
def test_garbage_on_the_wire_is_refused_in_one_line(text: str) -> None:
    try:
        assert isinstance(parse_json(text), Experiment)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1 and not JARGON.search(str(error))


def test_a_file_that_is_read_is_a_tree(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("seed: 3\ndata: {source: é}\n", encoding="utf-8")
    assert read_tree(tmp_path / "x.yaml") == {"seed": 3, "data": {"source": "é"}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1",
        b"5",
        b"seed: [",
        b"seed: 1\n  x: 2",
        b"\xff\xfe\x00",
        b"a: \0",
        b"!!python/object/apply:os.system ['true']",
        b"seed: 2024-99-99",
        b"seed: 0x_",
        b"seed: " + b"9" * 5000,
        b"{[1]: 2}",
        b"*anchor",
        b"[" * 5000,
    ],
)
def test_a_file_that_is_no_description_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_tree(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^cannot read the experiment .*none\.yaml: No such file"):
        read_tree(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match=r"^cannot read the experiment .*: it is a folder, and must be a file"):
        read_tree(tmp_path)


# ---- data that the devices bring

OWN = {
    "evaluation": "devices",
    "data": {"source": "devices", "labels": ["no", "yes"]},
    "federation": {"devices": 3, "clients": 3, "clients_per_round": 3},
}


def test_data_of_the_devices_own_is_described_by_labels_evaluation_and_a_client_for_each_device() -> None:
    found = parse_json(parse_experiment(OWN).model_dump_json())
    assert (found.evaluation, found.data.source, found.data.labels) == ("devices", "devices", ("no", "yes"))
    assert Experiment().evaluation == "coordinator"
    assert parse_experiment({"evaluation": "devices"}).data.source == "embedded", "shards can be split there, too"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {"source": "devices"}}, "data: labels must name the classes in their order"),
        ({"evaluation": "coordinator"}, "evaluation must be devices where data.source is devices"),
        (
            {"evaluation": "coordinator", "data": {**OWN["data"], "test_file": "test.csv"}},
            "without both of data.validation_file and data.test_file",
        ),
        ({"data": {**OWN["data"], "test_file": "test.csv"}}, "data.test_file must not be given where data.source is"),
        ({"federation": {"devices": 2, "clients": 5}}, "federation.clients must be federation.devices (2), not 5"),
    ],
)
def test_what_is_missing_for_data_of_the_devices_own_is_said(change: dict[str, Any], words: str) -> None:
    assert words in _refusal({**OWN, **change})


def test_the_coordinator_may_score_files_of_its_own_where_the_devices_have_theirs() -> None:
    data = {**OWN["data"], "validation_file": "dev.csv", "test_file": "test.csv"}
    found = parse_experiment({**OWN, "evaluation": "coordinator", "data": data})
    assert found.data.given_parts == {"validation": "dev.csv", "test": "test.csv"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"test_file": " "}, "data.test_file: must name a file or a part of a hub data set"),
        ({"validation_file": "embedded"}, "data.validation_file: must name a file or a part of a hub data set"),
        ({"partition": {"kind": "natural"}}, "kind must be natural and column name a column, or neither"),
        ({"partition": {"column": "author"}}, "kind must be natural and column name a column, or neither"),
        ({"validation": 0.6, "test": 0.5}, "validation and test together must be below 1"),
    ],
)
def test_parts_and_partitions_that_cannot_be_are_refused(data: dict[str, Any], words: str) -> None:
    assert words in _refusal({"data": data})


def test_a_part_that_comes_by_itself_takes_no_fraction_of_the_source() -> None:
    found = parse_experiment({"data": {"validation": 0.6, "test": 0.5, "test_file": "test.csv"}}).data
    assert found.fractions == (0.6, 0.0) and found.given_parts == {"test": "test.csv"}


@pytest.mark.parametrize(
    ("given", "clients", "a_round"), [({}, 2, 2), ({"devices": 3}, 3, 3), ({"devices": 12}, 12, 5)]
)
def test_with_data_of_the_devices_own_each_is_a_client_without_saying_so(
    given: dict[str, Any], clients: int, a_round: int
) -> None:
    tree = {**OWN, "federation": given}
    experiment = parse_experiment(tree)
    assert (experiment.federation.clients, experiment.federation.clients_per_round) == (clients, a_round)
    assert parse_json(json.dumps(tree)) == parse_json(experiment.model_dump_json()) == experiment
    assert parse_experiment({key: value for key, value in OWN.items() if key != "federation"}).federation.clients == 2
    made = Experiment.model_validate({**OWN, "federation": Federation(devices=3)})
    assert (made.federation.clients, made.federation.clients_per_round) == (3, 3)
    for value in (5, None, []):
        assert _refusal({**OWN, "federation": value}).startswith("federation: ")
    assert _refusal({**OWN, "federation": {"devices": 0}}).startswith("federation.devices: ")


def test_a_section_may_have_truth_values_where_it_says_so() -> None:
    class Mine(Section):
        nesterov: bool = False
        maybe: bool | None = None
        count: int = 1

    found = Mine.model_validate_json(Mine(nesterov=True, maybe=False).model_dump_json())
    assert (found.nesterov, found.maybe) == (True, False)
    with pytest.raises(ValidationError, match="must not be a truth value"):
        Mine.model_validate({"count": True})


def test_fields_of_lora_under_its_old_name_lead_to_the_new_one() -> None:
    with pytest.raises(BadInput, match=r"^adapter\.r is not a known field: it is lora\.r$"):
        parse_experiment({"adapter": {"r": 4}})
    with pytest.raises(BadInput, match=r"^adapter\.width is not a known field$"):
        parse_experiment({"adapter": {"width": 4}})
