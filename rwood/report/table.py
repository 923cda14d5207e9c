"""One table, three renderings: Markdown, HTML and CSV."""

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
        sides = [":--" if words else "--:" for words in self._words]
        lines = [_pipe([in_markdown(column) for column in self.columns]), _pipe(sides)]
        for row in self.rows:
            cells = [in_markdown(_bracketed(cell)) for cell in row]
            if row[0] in self.strong:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append(_pipe(cells))
        text = "\n".join(lines)
        return f"{text}\n\n*{in_markdown(self.caption)}*" if self.caption else text

    def html(self) -> str:
        """A `<table>` that scrolls sideways where the window is narrow."""
        head = "".join(
            f'<th scope="col"{_side(words)}>{html.escape(column)}</th>'
            for column, words in zip(self.columns, self._words, strict=True)
        )
        body = "\n".join(self._html_row(row) for row in self.rows)
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f'<figure class="table"><div><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>{caption}</figure>"
        )

    def _html_row(self, row: tuple[str, ...]) -> str:
        kind = ' class="strong"' if row[0] in self.strong else ""
        first = f'<th scope="row">{html.escape(row[0])}</th>'
        cells = zip(row[1:], self._words[1:], strict=True)
        return f"<tr{kind}>{first}{''.join(_html_cell(c, words) for c, words in cells)}</tr>"

    @cached_property
    def _words(self) -> tuple[bool, ...]:
        """Whether a column holds words, which stand at its left; numbers stand at its right."""
        return tuple(
            place == 0 or any(row[place] and not _NUMERIC.match(row[place]) for row in self.rows)
            for place in range(len(self.columns))
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


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; a rounded zero has none."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as people say them: 41 s, 3 min 20 s, 5 h 02 min."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _pipe(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bracketed(cell: str) -> str:
    figure, broken, note = cell.partition("\n")
    return f"{figure} ({note})" if broken else figure


def _side(words: bool) -> str:
    return ' class="text"' if words else ""


def _html_cell(cell: str, words: bool) -> str:
    figure, broken, note = cell.partition("\n")
    small = f"<small>{html.escape(note)}</small>" if broken else ""
    return f"<td{_side(words)}>{html.escape(figure)}{small}</td>"
