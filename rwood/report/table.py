"""One table as Markdown, as CSV and for a terminal; `page.html.j2` has the same in HTML."""

import csv
import html
import io
import re
from dataclasses import dataclass
from functools import cached_property

_NUMERIC = re.compile(r"[+−<]? ?\d|/$|n/a$")
"""How a cell with a number, or in its place, begins."""


@dataclass(frozen=True)
class Table:
    """Rows of text under column titles.

    A line break inside a cell parts the figure from a note on it: the note is small in HTML, in
    brackets in Markdown, and left out of CSV.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong: frozenset[str] = frozenset()
    """First cells of the rows to stress, e.g. the means."""

    def markdown(self) -> str:
        """A pipe table, the caption below it."""
        sides = [":--" if words else "--:" for words in self.holds_words]
        lines = [_pipe([in_markdown(column) for column in self.columns]), _pipe(sides)]
        for row in self.rows:
            cells = [in_markdown(_bracketed(cell)) for cell in row]
            if row[0] in self.strong:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append(_pipe(cells))
        text = "\n".join(lines)
        return f"{text}\n\n*{in_markdown(self.caption)}*" if self.caption else text

    @cached_property
    def holds_words(self) -> tuple[bool, ...]:
        """Whether a column holds words, which stand at its left; numbers stand at its right."""
        return tuple(
            place == 0 or any(row[place] and not _NUMERIC.match(row[place]) for row in self.rows)
            for place in range(len(self.columns))
        )

    def text(self) -> str:
        """Aligned columns for a terminal, without the caption."""
        lines = [self.columns, *(tuple(map(_bracketed, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if words else cell.rjust(width)
                for cell, width, words in zip(line, widths, self.holds_words, strict=True)
            ).rstrip()
            for line in lines
        )

    def csv(self) -> str:
        """Comma-separated values, notes left out."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([cell.partition("\n")[0] for cell in row] for row in self.rows)
        return out.getvalue()


def in_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a paragraph or in a cell."""
    plain = " ".join(text.split())
    for mark in "\\`*[]|":
        plain = plain.replace(mark, "\\" + mark)
    return html.escape(plain, quote=False)


def plain_number(value: object) -> str:
    """A setting or a measure in at most four digits; `/` for none."""
    if value is None:
        return "/"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def signed(value: float) -> str:
    """A difference with its sign; a rounded zero has none."""
    text = f"{value:+.2f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def with_std(value: float, std: float | None) -> str:
    """A value, and its population std if it has one."""
    return f"{value:.2f}".replace("-", "−") + ("" if std is None else f" ± {std:.2f}")


def _pipe(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bracketed(cell: str) -> str:
    figure, broken, note = cell.partition("\n")
    return f"{figure} ({note})" if broken else figure
