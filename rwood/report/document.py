"""A report as data: sections of blocks, rendered as Markdown here and as HTML in `html_page`."""

from dataclasses import dataclass
from pathlib import Path

from rwood.report.table import Table, in_markdown


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A figure."""

    path: Path
    title: str
    """What it is, in a few words, for those who cannot see it."""
    caption: str
    """What is seen and how to read it."""
    plot: str = ""
    """The same as Plotly JSON, shown in its place where a browser can."""


@dataclass(frozen=True)
class Code:
    """Commands or settings to copy."""

    text: str
    language: str


@dataclass(frozen=True)
class Folded:
    """Something long that opens on demand."""

    title: str
    block: "Table | Code"


Block = Text | Table | Picture | Code | Folded


def texts(*sentences: str) -> list[Block]:
    """A paragraph for each sentence that is not empty."""
    return [Text(sentence) for sentence in sentences if sentence]


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """Name for links to it."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    question: str
    finding: str
    sections: tuple[Section, ...]
    advice: str = ""
    """What to do, below the finding; empty: nothing to say."""
    overview: tuple[Picture, ...] = ()
    """The figure above all sections, if there is one."""

    @property
    def pictures(self) -> list[Picture]:
        """The figures, in order."""
        blocks = [*self.overview, *(b for s in self.sections for b in s.blocks)]
        return [block for block in blocks if isinstance(block, Picture)]

    def markdown(self, folder: Path) -> str:
        """The report as Markdown; pictures are linked from the folder that it will lie in."""
        parts = [
            f"# {in_markdown(self.title)}",
            f"> {in_markdown(self.question)}",
            f"**{in_markdown(self.finding)}**",
        ]
        parts += [in_markdown(self.advice)] if self.advice else []
        parts += [_markdown(picture, folder) for picture in self.overview]
        for section in self.sections:
            parts.append(f"## {in_markdown(section.title)}")
            parts += [_markdown(block, folder) for block in section.blocks]
        return "\n\n".join(parts) + "\n"


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Text():
            return in_markdown(block.text)
        case Table():
            return block.markdown()
        case Picture():
            link = block.path.relative_to(folder).as_posix()
            return f"![{in_markdown(block.title)}]({link})\n\n*{in_markdown(block.caption)}*"
        case Code():
            return f"```{block.language}\n{block.text.rstrip()}\n```"
        case Folded():
            inside = _markdown(block.block, folder)
            title = in_markdown(block.title)
            return f"<details>\n<summary>{title}</summary>\n\n{inside}\n\n</details>"
