"""The report as one HTML page that needs nothing but itself."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from .answer import Answer
from .drawing import Picture
from .page_tables import Grid
from .style import STYLE


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with what stands under it, in this order: words, figures, grids, small print."""

    title: str
    words: str = ""
    grids: tuple[Grid, ...] = ()
    pictures: tuple[Picture, ...] = ()
    folded: tuple[tuple[str, str], ...] = ()
    """(name, text) of what is shown word for word, such as a command."""
    points: tuple[str, ...] = ()
    """Lines of a list."""
    level: int = 2
    wide: bool = False
    """Whether figures take the whole width."""


_PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<p class="what">$what</p>
<h1>$title</h1>
</header>
<main>
<section class="answer">
<p class="sentence">$sentence</p>
$caveats</section>
$sections
</main>
</body>
</html>
"""
)


def page(*, title: str, what: str, answer: Answer, sections: Sequence[Section]) -> str:
    """The whole page. All text is taken as text: nothing from a file can become markup."""
    caveats = "".join(f"<li>{_text(each)}</li>\n" for each in answer.caveats)
    return _PAGE.substitute(
        title=_text(title),
        what=_text(what),
        style=STYLE,
        sentence=_text(answer.sentence),
        caveats=f'<ul class="caveats">\n{caveats}</ul>\n' if caveats else "",
        sections="\n".join(_section(section) for section in sections),
    )


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _section(section: Section) -> str:
    parts = [f"<h{section.level}>{_text(section.title)}</h{section.level}>"]
    if section.words:
        parts.append(f"<p>{_text(section.words)}</p>")
    if section.points:
        lines = "".join(f"<li>{_text(point)}</li>" for point in section.points)
        parts.append(f"<ul>{lines}</ul>")
    if section.pictures:
        figures = "\n".join(_figure(picture) for picture in section.pictures)
        kind = "figures wide" if section.wide else "figures"
        parts.append(f'<div class="{kind}">\n{figures}\n</div>')
    parts += [_grid(grid) for grid in section.grids]
    parts += [f"<h3>{_text(name)}</h3>\n<pre>{_text(text)}</pre>" for name, text in section.folded]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img alt="{_text(picture.alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(picture.title)}</figcaption></figure>"
    )


def _grid(grid: Grid) -> str:
    """A table; on a narrow screen every line becomes a card, whose entries say what they are."""
    heads = "".join(f'<th scope="col">{_text(heading)}</th>' for heading in grid.headings)
    lines = "\n".join(_line(grid.headings, line) for line in grid.lines)
    note = f'<p class="note">{_text(grid.note)}</p>' if grid.note else ""
    return (
        f'<div class="grid"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n'
        f"</tbody></table></div>{note}"
    )


def _line(headings: Sequence[str], line: Sequence[str]) -> str:
    cells = "".join(
        f'<td data-name="{_text(heading)}"><span>{_cell(value)}</span></td>'
        for heading, value in zip(headings[1:], line[1:], strict=True)
    )
    return f'<tr><th scope="row">{_text(line[0])}</th>{cells}</tr>'


def _cell(value: str) -> str:
    """A number, and its interval in smaller type."""
    number, bracket, rest = value.partition(" (")
    if not bracket:
        return _text(value)
    return f'{_text(number)} <span class="interval">({_text(rest)}</span>'
