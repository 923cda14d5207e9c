"""The report as one HTML file that needs no network: styles, figures and plotly.js inside."""

import base64

from rwood.report.document import Document


def to_html(document: Document) -> str:
    """The document as one self-contained page, readable in light and dark, without scripts too."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    pages = Environment(loader=PackageLoader("rwood", "report"), autoescape=True)
    pages.filters["kind"] = lambda block: type(block).__name__
    pages.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode("ascii")
    pages.filters["in_script"] = lambda text: Markup(text.replace("<", "\\u003c"))
    plots = any(picture.plot for picture in document.pictures)
    plotly = get_plotlyjs() if plots else ""
    return pages.get_template("page.html.j2").render(document=document, plotly=plotly)
