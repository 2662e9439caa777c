"""federa-bench's command line, and the experiment that it describes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.experiment_file import DEFAULT, ExperimentFile, experiment_names, read_experiment
from edge.power.choice import check_spec
from federa import __version__
from federa.config import EMBEDDED, Experiment, parse_experiment, parse_yaml
from federa.errors import BadInput, shown
from federa.local_path import PATH_FIELDS, absolute
from federa.methods import METHODS
from protos.address import BadAddress
from protos.credentials import OPERATOR, BadCredentials, Credentials
from protos.options import add_credential_options, add_proxy_option, credentials_of, proxy_of
from protos.proxy import Proxy


def parser() -> argparse.ArgumentParser:
    """The command line. A flag that is not given leaves the experiment's own value."""
    parse = argparse.ArgumentParser(
        prog="federa-bench",
        description="Compare federated fine-tuning methods by time and bytes to a target. "
        "Exit code 0: every method reached it; 3: at least one did not; 2: bad arguments or data; 1: anything else.",
    )
    parse.add_argument("--method", metavar="NAMES", help=f"one or several of {', '.join(METHODS)}, by commas, or all")
    parse.add_argument(
        "--target-acc",
        metavar="ACC",
        help="value that the validation metric is to reach, whichever metric it is (default: the metric's own)",
    )
    parse.add_argument(
        "--metric", metavar="NAME", help="the task's metric that the target is of (default: the task's first)"
    )
    parse.add_argument("--out", type=Path, metavar="DIR", help="folder for results (default: runs/DATE-TIME)")
    parse.add_argument("--seed", metavar="N", help="decides shards, selection, starts and dropout")
    parse.add_argument("--devices", metavar="N", help="workers that take part")
    parse.add_argument("--clients", metavar="N", help="owners of data, spread over the devices")
    parse.add_argument("--rounds", metavar="N", help="the most rounds")
    parse.add_argument("--precision", metavar="P", help="auto, fp32, bf16 or fp16")
    parse.add_argument(
        "--model",
        metavar="MODEL",
        help="embedded, mpnet-base (make base-model), a Hugging Face model folder, or a hub name",
    )
    parse.add_argument(
        "--data",
        metavar="DATA",
        help="embedded, a file (JSON, CSV, TSV, Parquet, CoNLL, SQuAD, ...), a hub data set, or devices: "
        "every worker's own (federa-worker --data)",
    )
    parse.add_argument(
        "--evaluation",
        metavar="WHERE",
        help="coordinator (a set of its own), or devices: every client "
        "holds a part of its examples out, and counts on it",
    )
    parse.add_argument("--bandwidth", metavar="MBIT", help="pace each device's transfers to so many Mbit/s")
    parse.add_argument(
        "--coordinator", type=str.strip, metavar="HOST:PORT", help="an existing cluster, in place of local processes"
    )
    add_credential_options(parse, "an operator's")
    add_proxy_option(parse)
    parse.add_argument(
        "--power", metavar="SOURCE",
        help="what the workers here measure power with: auto (default), sysfs, tegrastats, jtop, nvml, rapl, "
        "replay:FILE (a tegrastats log at its own pace), or none",
    )  # fmt: skip
    parse.add_argument(
        "--experiment", metavar="EXPERIMENT",
        help=f"start from {', '.join(experiment_names())}, or a YAML file (default without --data: {DEFAULT})",
    )  # fmt: skip
    parse.add_argument("--small", action="store_true", help="the experiment's small variant, for a laptop")
    parse.add_argument(
        "--data-dir", type=Path, default=Path("data"), metavar="DIR",
        help="folder with the files of the experiments' data sets (default: data)",
    )  # fmt: skip
    parse.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="any other field by its dotted name, such as lora.r=16 or data.partition.alpha=0.1; may be repeated",
    )  # fmt: skip
    parse.add_argument("--print-config", action="store_true", help="print the experiment as YAML and stop")
    parse.add_argument(
        "--list-experiments", action="store_true", help="say what the experiments are about, and which files, and stop"
    )
    parse.add_argument("--version", action="version", version=f"federa {__version__}")
    return parse


_FIELDS = {
    "target_acc": "target.value",
    "metric": "target.metric",
    "seed": "seed",
    "devices": "federation.devices",
    "clients": "federation.clients",
    "rounds": "federation.rounds",
    "precision": "training.precision",
    "model": "model",
    "data": "data.source",
    "evaluation": "evaluation",
    "bandwidth": "bandwidth_mbps",
}


def experiment_from(options: argparse.Namespace) -> Experiment:
    """The experiment of a parsed command line. Raises BadInput, naming the flag."""
    file = file_of(options)
    tree = file.chosen(options.small) if file else {}
    settings = {path: getattr(options, flag) for flag, path in _FIELDS.items() if getattr(options, flag) is not None}
    if "bandwidth_mbps" in settings:
        settings["bandwidth_mbps"] = _mbps(settings["bandwidth_mbps"])
    for setting in options.settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise BadInput(f"--set: must be KEY=VALUE, such as lora.r=16, not {setting!r}")
        settings[path] = _plain(value, path)
    _use_the_metrics_own_value(tree, settings)
    for path in PATH_FIELDS:
        if isinstance(value := settings.get(path), str):
            settings[path] = absolute(path, value)
    for path, value in settings.items():
        _put(tree, path, value)
    flags = {
        path: "--" + flag.replace("_", "-") for flag, path in _FIELDS.items() if getattr(options, flag) is not None
    }
    if options.method is not None:
        flags["methods"] = "--method"
        tree["methods"] = _methods(options.method, tree.get("methods"))
    if file:
        file.place(tree, options.data_dir.expanduser())
        if "federation.clients_per_round" not in settings:
            _fit_cohort(tree, settings.get("federation.clients"))
    try:
        return parse_experiment(tree)
    except BadInput as error:
        field, colon, message = str(error).partition(":")
        raise BadInput(f"{flags[field]}: {message.strip()}" if colon and field in flags else str(error)) from None


def file_of(options: argparse.Namespace) -> ExperimentFile | None:
    """The experiment's file that a command line starts from: without one and without data the default one. Raises
    BadInput."""
    if options.experiment is not None:
        return read_experiment(options.experiment)
    own_data = any(setting.startswith("data.source=") for setting in options.settings)
    if options.data not in (None, EMBEDDED) or own_data:
        if options.small:
            raise BadInput("--small: goes with --experiment")
        return None
    return read_experiment(DEFAULT)


def credentials_from(options: argparse.Namespace) -> Credentials | None:
    """What an existing cluster is called with, None for plaintext. Raises BadInput."""
    if options.coordinator is None:
        if options.certs is not None or options.insecure:
            flag = "--certs" if options.certs is not None else "--insecure"
            raise BadInput(f"{flag}: goes with --coordinator; processes of one's own talk over loopback")
        return None
    try:
        return credentials_of(options, address=options.coordinator, option="--coordinator", role=OPERATOR)
    except BadCredentials as error:
        raise BadInput(str(error)) from None


def proxy_from(options: argparse.Namespace) -> Proxy | None:
    """The proxy on the way to an existing cluster. Raises BadInput."""
    if options.proxy and options.coordinator is None:
        raise BadInput("--proxy: goes with --coordinator; processes of one's own talk over loopback")
    try:
        return proxy_of(options)
    except BadAddress as error:
        raise BadInput(str(error)) from None


def power_from(options: argparse.Namespace) -> str:
    """What the local workers measure power with. Raises BadInput, also where there are none."""
    if options.power is None:
        return "auto"
    if options.coordinator is not None:
        raise BadInput("--power: with --coordinator it is chosen on each worker: federa-worker --power")
    check_spec(options.power)
    return str(options.power)


def _methods(names: str, described: object) -> list[Any]:
    wanted = list(METHODS) if names == "all" else [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in METHODS]
    if unknown:
        raise BadInput(f"--method: must be one or several of {', '.join(METHODS)}, or all, not {unknown[0]!r}")
    # A method keeps what the experiment file says of it, such as its learning rate.
    known = (
        {str(entry.get("name")): entry for entry in described if isinstance(entry, dict)}
        if isinstance(described, list)
        else {}
    )
    return [known.get(name, {"name": name}) for name in wanted]


def _fit_cohort(tree: dict[str, Any], clients: object) -> None:
    """Draw no more clients in a round than the command line leaves of those in the experiment's file."""
    federation = tree.get("federation")
    if not isinstance(federation, dict) or not str(clients).isdecimal():
        return
    drawn = federation.get("clients_per_round")
    if isinstance(drawn, int):
        federation["clients_per_round"] = min(drawn, max(1, int(str(clients))))


def _use_the_metrics_own_value(tree: dict[str, Any], settings: Mapping[str, object]) -> None:
    """Where the command line names another metric than the experiment's file, and no value, the file's is of the other
    one."""
    target = tree.get("target")
    metric = settings.get("target.metric")
    if isinstance(target, dict) and metric not in (None, target.get("metric")) and "target.value" not in settings:
        target.pop("value", None)


def _mbps(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:mbit(?:/s)?|mbps)?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise BadInput(f"--bandwidth: must be a number of Mbit/s above 0, such as 20, not {text!r}")
    return float(match[1])


def _plain(value: str, path: str) -> object:
    return parse_yaml(value, f"--set {path}: {shown(repr(value))}", path)


def _put(tree: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        below = tree.setdefault(parent, {})
        if not isinstance(below, dict):
            raise BadInput(f"{path}: {parent} has no fields of its own here")
        tree = below
    tree[last] = value
