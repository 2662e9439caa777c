"""Where rows come from, and what becomes of them all: records, or one error that counts the rows that are refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeVar

from federa.data.row import RefusedRow, Row
from federa.errors import BadInput

MAX_PLACES = 5
"""Rows that a refusal names."""
MAX_REASONS = 3
"""Reasons that a refusal gives."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """Where rows come from, in words, and the rows."""

    name: str
    rows: Iterator[Row]

    def at_most(self, count: int | None) -> DataSource:
        """The same with so many of its rows at most, in their order: drawn evenly, and the same ones each time."""
        return self if count is None else replace(self, rows=_drawn(self.rows, count))

    def records(self, make: Callable[[Row], T]) -> list[T]:
        """What `make` makes of each row. Raises BadInput where there is no row, or where rows are refused: once for all
        of them, with how many there are and where the first stand."""
        made: list[T] = []
        refused: dict[str, list[RefusedRow]] = {}
        counts: dict[str, int] = {}
        total = 0
        for row in self.rows:
            total += 1
            try:
                made.append(make(row))
            except RefusedRow as error:
                reason = error.reason if error.reason in counts or len(counts) <= MAX_REASONS else ""
                counts[reason] = counts.get(reason, 0) + 1
                first = refused.setdefault(reason, [])
                if len(first) < MAX_PLACES:
                    first.append(error)
        if not total:
            raise no_documents(self.name)
        if counts:
            raise self._refused(refused, counts, total)
        return made

    def _refused(self, first: dict[str, list[RefusedRow]], counts: dict[str, int], total: int) -> BadInput:
        if sum(counts.values()) == 1:
            ((only,),) = first.values()
            return only
        said = []
        for reason, count in list(counts.items())[:MAX_REASONS]:
            rows = f" in all {total:,} rows" if count == total else f" in {count:,} of {total:,} rows"
            where = f" ({_places([error.at for error in first[reason]], count)})" if count < total else ""
            said.append(f"{reason}{rows}{where}{first[reason][0].advice}")
        others = sum(list(counts.values())[MAX_REASONS:])
        more = f", and {others:,} more rows cannot be used for other reasons" if others else ""
        return BadInput(f"data: {self.name} {', and '.join(said)}{more}")


def _drawn(rows: Iterator[Row], count: int) -> Iterator[Row]:
    """So many of the rows. How many there are is known at the end alone, so they are drawn from a reservoir: row n
    takes the place of one that was kept with the probability count / n."""
    draw = random.Random(count)
    kept: list[tuple[int, Row]] = []
    for number, row in enumerate(rows):
        if len(kept) < count:
            kept.append((number, row))
        elif (place := draw.randrange(number + 1)) < count:
            kept[place] = (number, row)
    yield from (row for _, row in sorted(kept, key=itemgetter(0)))


def no_documents(name: str) -> BadInput:
    """The error for a source without a record."""
    return BadInput(f"data: {name} holds no documents")


def _places(places: list[str], count: int) -> str:
    """The first places, such as "lines 3, 5, ..."."""
    units = {place.partition(" ")[0] for place in places}
    if len(units) == 1 and count > 1:
        unit = units.pop()
        places = [place.removeprefix(f"{unit} ") for place in places]
        places[0] = f"{unit}s {places[0]}"
    return ", ".join(places) + (", ..." if count > len(places) else "")
