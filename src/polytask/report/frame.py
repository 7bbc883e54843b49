"""A page of its own with the report's looks: a heading and one section."""

from __future__ import annotations

from html import escape
from pathlib import Path

STYLE = Path(__file__).parent / "page.css"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<header>
<h1>{kind}</h1>
<p class="headline">{headline}</p>
<p class="lead">{lead}</p>
</header>
<main>
<section>
{body}
</section>
</main>
</body>
</html>
"""


def framed(title: str, kind: str, headline: str, lead: str, body: str) -> str:
    """The page; `body` is HTML, everything else text."""
    return PAGE.format(
        title=escape(title),
        style=STYLE.read_text("utf-8"),
        kind=escape(kind),
        headline=escape(headline),
        lead=escape(lead),
        body=body,
    )


def figures(drawn: list[tuple[str, str, str]]) -> str:
    """(name, what of it, SVG) side by side, as HTML."""
    boxes = [
        f"<figure><figcaption>{escape(name)} "
        f'<span class="of">{escape(of)}</span></figcaption>{svg}</figure>'
        for name, of, svg in drawn
    ]
    return '<div class="figures">\n' + "\n".join(boxes) + "\n</div>"


def line(text: str) -> str:
    """A line to copy, as HTML."""
    return f'<pre tabindex="0" style="white-space: pre-wrap">{escape(text)}</pre>'
