"""A table of results on a terminal of any width: nothing of it is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

_BORDERS = 1 + 3  # characters: the left border, and what a column has round its text and to its right


@dataclass(slots=True)
class Grid:
    """Rows of texts under named columns. Where the terminal is too narrow for a row a line, each row becomes a column
    of values beside the names, as many as fit next to one another. `left` names the columns that hold words."""

    columns: tuple[str, ...]
    left: frozenset[str]
    rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add(self, *cells: str | Text) -> None:
        """Add a row, a cell for each column. A string is plain text: its brackets are no markup."""
        assert len(cells) == len(self.columns)
        self.rows.append(tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        wide = self._wide()
        if wide.__rich_measure__(console, options.update(max_width=10_000)).maximum <= options.max_width:
            yield wide
        else:
            yield from map(self._tall, self._blocks(options.max_width))

    def _wide(self) -> Table:
        table = Table(header_style="bold")
        for column in self.columns:
            table.add_column(Text(column), justify="left" if column in self.left else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def _blocks(self, width: int) -> Iterator[Sequence[tuple[Text, ...]]]:
        """The rows that go side by side, and their order is kept."""
        names = _BORDERS + max(map(cell_len, self.columns))
        block: list[tuple[Text, ...]] = []
        used = names
        for row in self.rows:
            needed = _BORDERS - 1 + max(_width(cell) for cell in row)
            if block and used + needed > width:
                yield block
                block, used = [], names
            block.append(row)
            used += needed
        if block:
            yield block

    def _tall(self, block: Sequence[tuple[Text, ...]]) -> Table:
        table = Table(show_header=False)
        table.add_column(style="bold", no_wrap=True)
        for _ in block:
            table.add_column(justify="left", overflow="fold")
        for place, name in enumerate(self.columns):
            cells = [row[place] for row in block]
            if any(cells):  # rows of different kinds may share a grid
                table.add_row(Text(name), *cells)
        return table


def _width(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split("\n")))
