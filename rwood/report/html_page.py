"""The report as one HTML file that needs no network: styles, figures and plotly.js inside."""

import base64
import html

from rwood.report.document import Block, Code, Document, Folded, Picture, Section, Text
from rwood.report.table import Table

_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'"
)
"""The browser itself refuses whatever would leave the file; plotly compiles its shaders."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #fff;
  --line: #d9dee3; --tint: #f4f6f8; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #a3adb8; --paper: #14181d;
  --line: #38414a; --tint: #1e242b; --mark: #56b4e9; } }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 54rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .8rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
.question { color: var(--soft); margin: 0 0 1.2rem; font-size: 1.05rem; }
.finding { background: var(--tint); border-left: 4px solid var(--mark); padding: .9rem 1.1rem;
  margin: 0 0 1.2rem; border-radius: 0 6px 6px 0; font-size: 1.05rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .92rem; }
a { color: var(--mark); }
figure { margin: 1.4rem 0 1.8rem; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .45rem; }
img { display: block; width: 100%; height: auto; background: #fff; }
img[hidden] { display: none; }
.picture { background: #fff; padding: 6px; border: 1px solid var(--line); border-radius: 6px; }
.plot { width: 100%; }
.table div { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  min-width: 60%; }
th, td { padding: .32rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, .text { text-align: left; }
tbody th { font-weight: 400; }
thead th { white-space: normal; vertical-align: bottom; color: var(--soft);
  font-weight: 600; border-bottom-width: 2px; }
tr.strong th, tr.strong td { font-weight: 650; background: var(--tint); }
td small { display: block; color: var(--soft); font-weight: 400; font-size: .8rem; }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; border-radius: 6px;
  font-size: .85rem; line-height: 1.45; }
summary { cursor: pointer; margin: .6rem 0; color: var(--mark); }
@media (max-width: 44rem) { .picture { overflow-x: auto; }
  .picture > img, .picture > .plot { min-width: 46rem; } }
@media print { details { display: none; } }
"""

_DRAW = """
const webgl = !!document.createElement("canvas").getContext("webgl");
for (const source of document.querySelectorAll("script[type='application/json']")) {
  const plot = JSON.parse(source.textContent), target = source.previousElementSibling;
  if (plot.data.some(trace => trace.type === "parcoords") && !webgl) continue;
  const buttons = [["zoom2d", "pan2d", "resetScale2d", "toImage"]];
  const options = {displaylogo: false, responsive: true, modeBarButtons: buttons};
  Plotly.newPlot(target, plot.data, plot.layout, options)
    .then(() => { target.parentElement.querySelector("img").hidden = true; });
}
"""
"""Draws every interactive figure and then hides the static one that stood in for it."""


def to_html(document: Document) -> str:
    """The document as one self-contained page, readable in light and dark, without scripts too."""
    links = "\n".join(
        f'<a href="#{s.anchor}">{html.escape(s.title)}</a>' for s in document.sections
    )
    sections = "\n".join(_section(section) for section in document.sections)
    plots = any(isinstance(b, Picture) and b.plot for s in document.sections for b in s.blocks)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(document.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(document.title)}</h1>
<p class="question">{html.escape(document.question)}</p>
<p class="finding">{_prose(document.finding)}</p>
<nav>
{links}
</nav>
{sections}
{_scripts() if plots else ""}
</body>
</html>
"""


def _scripts() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>\n<script>{_DRAW}</script>"


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    title = html.escape(section.title)
    return f'<section id="{section.anchor}">\n<h2>{title}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Text():
            return f"<p>{_prose(block.text)}</p>"
        case Table():
            return block.html()
        case Picture():
            return _picture(block)
        case Code():
            return f"<pre><code>{html.escape(block.text)}</code></pre>"
        case Folded():
            summary = html.escape(block.title)
            return f"<details><summary>{summary}</summary>{_block(block.block)}</details>"


def _prose(text: str) -> str:
    """Text in which no line breaks around ± or before %."""
    return html.escape(text).replace(" ± ", "&nbsp;±&nbsp;").replace(" %", "&nbsp;%")


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    caption = html.escape(picture.caption)
    plot = ""
    if picture.plot:
        safe = picture.plot.replace("<", "\\u003c")
        plot = f'<div class="plot"></div><script type="application/json">{safe}</script>'
    return (
        f'<figure><div class="picture">{plot}<img alt="{html.escape(picture.title)}" '
        f'src="data:image/png;base64,{data}"></div><figcaption>{caption}</figcaption></figure>'
    )
