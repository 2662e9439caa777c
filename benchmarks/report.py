"""federa-report: tables and a page of one or several runs, or what a tegrastats log says."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take their time
    import sys

    from benchmarks.commands import report

    sys.exit(report())

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.log_summary import print_log
from benchmarks.tegrastats_log import TegrastatsLog
from coordinator.report import write_report
from coordinator.report.console import open_console
from coordinator.report.result import run_result
from coordinator.report.terminal import (
    comparison_lines,
    composition_lines,
    cut_record_lines,
    device_table,
    failure_lines,
    key_lines,
    memory_lines,
    metric_lines,
    outcome_lines,
    phase_table,
    summary,
    unmeasured_lines,
)
from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.run_folder import LEDGER, REPORT, RESULT
from coordinator.storage.samples import Samples
from federa import __version__
from federa.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, BadInput, FederaError, one_line
from federa.output import output_failure, prepare_output, print_error
from federa.regular_file import open_regular, standard_input
from federa.result import SCHEMA, read_result_tree

_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What reading a result can raise that is not as it should be."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="federa-report", description=__doc__)
    parse.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="a run's or a benchmark's folder")
    parse.add_argument("--out", type=Path, metavar="FILE",
                       help="the page (default: DIR/report.html for one folder, else ./report.html)")  # fmt: skip
    parse.add_argument("--tegrastats", metavar="FILE", help="say what this tegrastats log says; - is standard input")
    parse.add_argument("--interval", metavar="MS", help="the log's interval in ms (default: by its dates, else 1000)")
    parse.add_argument("--json", action="store_true", help="with --tegrastats: a JSON line a sample, one at the end")
    parse.add_argument("--version", action="version", version=f"federa {__version__}")
    return parse


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    prepare_output()
    options = parser().parse_args(arguments)
    try:
        code = _log(options) if options.tegrastats is not None else _folders(options)
    except FederaError as error:
        print_error("federa-report", error)
        return error.exit_code
    except OSError as error:
        print_error("federa-report", f"{error.filename or options.out}: {error.strerror or error}")
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if failure := output_failure():
        print_error("federa-report", failure)
        return EXIT_ERROR
    return code


# ---- a log


def _log(options: argparse.Namespace) -> int:
    if options.folders:
        raise BadInput("--tegrastats: reads a log alone; name folders or a log, not both")
    if options.out is not None:
        raise BadInput("--out: is for the page of folders; a log has none")
    interval_s = None if options.interval is None else _interval(options.interval)
    name = options.tegrastats
    try:
        if not name or (name == "-" and sys.stdin is None):
            raise BadInput(f"--tegrastats: {'standard input is closed' if name else 'names no file'}")
        with standard_input() if name == "-" else open_regular(name, pipes=True) as file:
            log = TegrastatsLog(file, interval_s)
            for sample in log.samples():
                if options.json:
                    print(json.dumps(sample, ensure_ascii=False, allow_nan=False))
            if options.json:
                print(json.dumps(log.ending(), allow_nan=False))
                if not log.samples_read:
                    print_error("federa-report", f"{name}: no line of it is tegrastats'")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise BadInput(f"--tegrastats: cannot read {name}: {reason}") from None
    if not options.json:
        print_log(log, "standard input" if name == "-" else name, open_console())
    return EXIT_OK


def _interval(text: str) -> float:
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = math.nan
    if not 0 < milliseconds <= 86_400_000:
        raise BadInput(f"--interval: must be a number of milliseconds above 0, at most a day, not {text!r}")
    return milliseconds / 1000


# ---- folders


def _folders(options: argparse.Namespace) -> int:
    for flag, given in (("--interval", options.interval is not None), ("--json", options.json)):
        if given:
            raise BadInput(f"{flag}: goes with --tegrastats FILE")
    if not options.folders:
        raise BadInput("DIR: name at least one folder of a run, or a log with --tegrastats FILE")
    folders = list(dict.fromkeys(options.folders))
    results = [read_folder(folder) for folder in folders]
    result = results[0] if len(results) == 1 else together(results, _names(folders))
    console = open_console()
    try:
        tables = [summary(result), device_table(result), phase_table(result)]
        lines = [
            *outcome_lines(result),
            *comparison_lines(result),
            *metric_lines(result),
            *composition_lines(result),
            *cut_record_lines(result),
            *key_lines(result),
            *unmeasured_lines(result),
        ]
        lines += [*memory_lines(result), *failure_lines(result)]
    except _DAMAGE as error:
        raise BadInput(f"{folders[0] / RESULT} is not a result that this federa reads: {one_line(error)}") from None
    for table in tables:
        if table.rows:
            console.print(table)
    if not result["runs"]:
        console.print("No run has been recorded yet.")
    for line in lines:
        console.print(line.replace("\u00a0", " "), style="dim", highlight=False, markup=False, soft_wrap=True)
    places = [folders[0] / REPORT, Path(REPORT)] if len(folders) == 1 else [Path(REPORT)]
    try:
        _write_page(result, [options.out] if options.out else places)
    except _DAMAGE as error:
        raise BadInput(f"{folders[0] / RESULT} is not a result that this federa reads: {one_line(error)}") from None
    return EXIT_OK


def _write_page(result: dict[str, Any], places: Sequence[Path]) -> None:
    """Write the page to the first of these places that takes it. Raises BadInput where none does."""
    refused = ""
    for page in places:
        try:
            write_report(result, page)
        except OSError as error:
            # A run may be read where nothing can be written: its page then goes to where the command was called.
            refused = f"cannot write {page}: {error.strerror or error}"
        else:
            print(f"report: {page}{refused and f' ({refused})'}")  # brackets in a path are no markup
            return
    raise BadInput(f"--out: {refused}; name another place")


def read_folder(folder: Path) -> dict[str, Any]:
    """result.json's content, or that of the ledgers where there is none yet: of the folder itself, or of those below it
    that a benchmark of several methods makes. Raises BadInput."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: {'is not a folder' if folder.exists() else 'there is no such folder'}")
    if (folder / RESULT).exists():
        return read_result_tree(folder / RESULT)
    if (folder / LEDGER).exists():
        run = _read_ledger(folder / LEDGER)
        return {"schema": SCHEMA, "environment": run.pop("environment", {}), "runs": [run]}
    below = sorted(path for path in folder.iterdir() if (path / RESULT).exists() or (path / LEDGER).exists())
    if not below:
        raise BadInput(f"{folder}: holds neither a {RESULT} nor a {LEDGER}; it must be the folder of a run")
    found = [read_folder(path) for path in below]
    return {**found[0], "runs": [run for result in found for run in result["runs"]]}


def _read_ledger(path: Path) -> dict[str, Any]:
    reader = None
    try:
        reader = LedgerReader(path)
        return run_result(reader, Samples(path.parent))
    except FederaError as error:
        raise BadInput(str(error)) from None
    finally:
        if reader is not None:
            reader.close()


def _names(folders: Sequence[Path]) -> list[str]:
    """Each folder's last name, or its path where that does not tell it from the others."""
    names = [folder.resolve().name for folder in folders]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, folders, strict=True)]


def together(results: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Results of several folders as one: every run says which folder it is from."""
    environments = [result.get("environment") or {} for result in results]
    alike = all(environment == environments[0] for environment in environments)
    runs = [{**run, "folder": name} for result, name in zip(results, names, strict=True) for run in result["runs"]]
    return {
        "schema": SCHEMA,
        "environment": environments[0] if alike else dict(zip(names, environments, strict=True)),
        "runs": runs,
    }
