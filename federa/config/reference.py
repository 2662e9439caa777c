"""The experiment's reference, made of the schema: `python -m federa.config.reference` writes docs/experiment.md.

What stands there is what is checked: names, defaults and bounds are pydantic's, sentences are the docstrings of the
sections and of their fields, and tasks, methods and aggregators come from their registries.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from federa.aggregation import AGGREGATORS, aggregator_class
from federa.config.experiment import Experiment, MethodChoice, Target
from federa.config.sections import Federation, Training
from federa.data.section import DataSection, Partition
from federa.methods import METHODS, method_class
from federa.section import MAX_COUNT, Section
from federa.tasks import TASKS, task_class
from federa.tasks.metric import Metric

PAGE = "docs/experiment.md"
_HEAD = """\
<!-- Made of the schema by `make reference`. A change goes into federa/config, or into the section's own file. -->
# Experiment reference

An experiment is one YAML file. Every field has a default, so a file holds only what differs. `federa-bench` reads it
with `--experiment`, sets single fields with `--set FIELD=VALUE`, and prints all of them with `--print-config`:

```bash
.venv/bin/federa-bench --method federa --set lora.r=16 --set federation.rounds=20 --print-config > experiment.yaml
```

Without `--experiment` and `--data`, `federa-bench` starts from the [experiment](experiments.md) `bbc_news`, which sets
a few fields otherwise than the defaults below. Unknown fields and bad values are refused with the field's name. In the
tables a dot leads into a section: `lora.r` is `r` in the section `lora`.
"""
_NAMED = {"task": TASKS, "aggregator": AGGREGATORS, "methods[].name": METHODS}
"""Fields whose values are the names of a registry; the schema says text."""
_DEFAULTS = "## All defaults\n\nAn experiment that says nothing:\n\n```yaml\n{yaml}```\n"


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        _HEAD,
        _table("The experiment", Experiment, "", skip=_nested(Experiment)),
        _table("methods", MethodChoice, "methods[].", after=_methods()),
        _table("target", Target, "target.", defaults="the task's", after=_metrics()),
        _table("data", DataSection, "data.", skip={"partition"}),
        *(_task(name) for name in TASKS),
        _table("data.partition", Partition, "data.partition."),
        _table("federation", Federation, "federation."),
        _table("training", Training, "training."),
        *_owned_sections(),
        _aggregators(),
        _DEFAULTS.format(yaml=Experiment().to_yaml()),
    ]
    return "\n".join(parts)


def _nested(section: type[Section]) -> set[str]:
    """The fields that are sections of their own: they have tables of their own."""
    properties = section.model_json_schema()["properties"]
    return {name for name, schema in properties.items() if "$ref" in schema}


def _table(
    title: str, section: type[Section], prefix: str, *, skip: Collection[str] = (), defaults: str = "", after: str = ""
) -> str:
    """A heading, what the section is, and a row for each of its fields but those to `skip`. `defaults` is said in place
    of defaults that stand for "as something else says"."""
    rows = _rows(section, prefix, skip, defaults)
    return "\n".join([f"## {title}\n", _sentences(section), "", *rows, "", *filter(None, [after])])


def _rows(section: type[Section], prefix: str, skip: Collection[str], defaults: str) -> Iterator[str]:
    schema = section.model_json_schema()
    yield "| field | default | may be | meaning |"
    yield "|---|---|---|---|"
    for name, field in schema["properties"].items():
        if name in skip:
            continue
        default = defaults or (_value(field["default"]) if "default" in field else "(must be given)")
        meaning = " ".join(field.get("description", "").split())
        names = _NAMED.get(f"{prefix}{name}")
        may_be = ", ".join(f"`{known}`" for known in names) if names else _may_be(field, schema)
        yield f"| `{prefix}{name}` | {default} | {may_be} | {meaning} |"


def _sentences(section: type[Section]) -> str:
    """The section's docstring, its lines joined."""
    paragraphs = (section.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | dict):
        return "" if value in ([], {}) else f"`{json.dumps(value)}`"
    return f"`{value}`"


def _may_be(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """In words, what JSON Schema says of a field."""
    if "anyOf" in field:
        return " or ".join(_may_be(one, schema) for one in field["anyOf"])
    if "$ref" in field:
        return "a section"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = field.get("type")
    if kind == "array":
        if "prefixItems" in field:
            count = len(field["prefixItems"])
            return f"a list of {count} {_plural(field['prefixItems'][0])}"
        items = field["items"]
        return "a list of sections" if "$ref" in items else f"a list of {_plural(items)}"
    if kind in ("integer", "number"):
        return f"{'whole number' if kind == 'integer' else 'number'}{_bounds(field)}"
    return {"string": "text", "null": "null", "boolean": "true or false"}[str(kind)]


def _plural(items: Mapping[str, Any]) -> str:
    return {"string": "texts", "integer": "whole numbers", "number": "numbers"}[str(items["type"])]


def _bounds(field: Mapping[str, Any]) -> str:
    least, above = field.get("minimum"), field.get("exclusiveMinimum")
    most, below = field.get("maximum"), field.get("exclusiveMaximum")
    bounds = []
    if least is not None:
        bounds.append(f"from {least:g}" if most is None or most >= MAX_COUNT else f"{least:g} to {most:g}")
    elif above is not None:
        bounds.append(f"above {above:g}")
    if least is None and most is not None:
        bounds.append(f"up to {most:g}")
    if below is not None and below < 1 << 32:
        bounds.append(f"below {below:g}")
    return f", {', '.join(bounds)}" if bounds else ""


def _methods() -> str:
    lines = ["| method | learning rate by default | its section |", "|---|---|---|"]
    for name in METHODS:
        method = method_class(name)
        rates = {task: method.default_learning_rate(task) for task in TASKS}
        alike = len(set(rates.values())) == 1
        rate = f"{next(iter(rates.values())):g}" if alike else ", ".join(f"{task} {r:g}" for task, r in rates.items())
        lines.append(f"| `{name}` | {rate} | {f'`{method.section}`' if method.section else 'none'} |")
    return "\n".join([*lines, ""])


def _metrics() -> str:
    lines = ["| task | metric | better | target by default | a target is |", "|---|---|---|---|---|"]
    for name in TASKS:
        for metric in task_class(name).metrics:
            lines.append(f"| `{name}` | `{metric.name}` | {metric.better} | {metric.target:g} | {_target(metric)} |")
    return "\n".join([*lines, ""])


def _target(metric: Metric) -> str:
    bounds = [f"above {metric.above:g}"] if metric.above is not None else []
    bounds += [f"up to {metric.at_most:g}"] if metric.at_most is not None else []
    return " and ".join(bounds) or "any number"


def _task(name: str) -> str:
    """What a task adds to the `data` section, and what it has otherwise."""
    section = task_class(name).Data
    fields = section.model_fields
    same = [name for name, field in DataSection.model_fields.items() if fields[name].default == field.default]
    return _table(f"data, with task: {name}", section, "data.", skip=same)


def _owned_sections() -> Iterator[str]:
    """The sections of methods and aggregators, each once, with who reads it."""
    owners: dict[str, list[str]] = {}
    classes: dict[str, type[Section]] = {}
    for names, find in ((METHODS, method_class), (AGGREGATORS, aggregator_class)):
        for name in names:
            owner = find(name)
            if owner.section is not None:
                owners.setdefault(owner.section, []).append(f"`{name}`")
                classes[owner.section] = owner.Config
    for section, config in classes.items():
        yield _table(section, config, f"{section}.", after=f"Read by {', '.join(owners[section])}.\n")


def _aggregators() -> str:
    lines = ["## Aggregators\n", "| aggregator | its section |", "|---|---|"]
    for name in AGGREGATORS:
        section = aggregator_class(name).section
        lines.append(f"| `{name}` | {f'`{section}`' if section else 'none'} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Write the page into the repository that this file is in; returns the exit code."""
    path = Path(__file__).resolve().parents[2] / PAGE
    path.write_text(page(), encoding="utf-8")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
