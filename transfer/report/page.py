"""The report as one self-contained HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment

from .answer import Answer
from .drawing import Picture
from .page_tables import PageTable
from .style import STYLE


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and its content, shown in the order of the fields below."""

    title: str
    text: str = ""
    items: tuple[str, ...] = ()
    """Items of a list."""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[PageTable, ...] = ()
    verbatim: tuple[tuple[str, str], ...] = ()
    """(heading, text) of texts in a monospaced font, such as a command."""
    level: int = 2
    """Of the heading."""
    wide: bool = False
    """Whether a picture takes the whole width."""
    is_heading: bool = False
    """Whether its results follow in sections of a deeper level."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no results to show."""
        shown = self.items or self.pictures or self.tables or self.verbatim
        return not (shown or self.is_heading)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
{{ style | safe }}</style>
</head>
<body>
<header>
<p class="what">{{ outline }}</p>
<h1>{{ title }}</h1>
</header>
<main>
<section class="answer">
<p class="sentence">{{ answer.sentence }}</p>
{% if answer.caveats %}
<ul class="caveats">
{% for caveat in answer.caveats %}
<li>{{ caveat }}</li>
{% endfor %}
</ul>
{% endif %}
</section>
{% for section in sections %}
<section>
<h{{ section.level }}>{{ section.title }}</h{{ section.level }}>
{% if section.text %}
<p>{{ section.text }}</p>
{% endif %}
{% if section.items %}
<ul>{% for item in section.items %}<li>{{ item }}</li>{% endfor %}</ul>
{% endif %}
{% if section.pictures %}
<div class="figures{{ ' wide' if section.wide }}">
{% for picture in section.pictures %}
<figure><img alt="{{ picture.alt }}" src="data:image/png;base64,{{ picture.png | base64 }}">
{#- -#}
<figcaption>{{ picture.title }}</figcaption></figure>
{% endfor %}
</div>
{% endif %}
{% for table in section.tables %}
<div class="grid"><table>
<thead><tr>{% for heading in table.headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr>
{#- -#}
</thead>
<tbody>
{% for row in table.rows %}
<tr><th scope="row">{{ row[0] }}</th>
{#- -#}
{% for value in row[1:] %}
{% set number, bracket, interval = value.partition(" (") %}
<td data-name="{{ table.headings[loop.index] }}"><span>{{ number }}
{#- -#}
{% if bracket %} <span class="interval">({{ interval }}</span>{% endif %}</span></td>
{#- -#}
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{#- -#}
{% if table.note %}<p class="note">{{ table.note }}</p>{% endif %}

{% endfor %}
{% for heading, text in section.verbatim %}
<h3>{{ heading }}</h3>
<pre>{{ text }}</pre>
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""


def render_page(*, title: str, outline: str, answer: Answer, sections: Sequence[Section]) -> str:
    """The page as HTML. All text is escaped: nothing from a file becomes markup."""
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment.from_string(_PAGE).render(
        title=title, outline=outline, answer=answer, sections=sections, style=STYLE
    )
