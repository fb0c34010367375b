"""The chapter as a section of the page: Markdown is turned into HTML with embedded pictures and folded parts, and every
claim's id links to its evidence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

CHAPTERS = {
    language: Path(__file__).parents[1] / name for language, name in (("ko", "README.md"), ("en", "README.en.md"))
}

FOLD = re.compile(r"<p>&lt;details&gt;&lt;summary&gt;(.*?)&lt;/summary&gt;</p>\n")
FOLD_END = "<p>&lt;/details&gt;</p>\n"
"""HTML that folds a part of the chapter, the only HTML allowed in its Markdown."""


@dataclass
class Chapter:
    """The chapter in one language: its HTML, its sections' addresses and titles, and its pictures' SVG by their names
    in the HTML.
    """

    html: Markup = field(default_factory=Markup)
    contents: list[tuple[str, str]] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)


def chapter(evidence: Mapping[str, str]) -> dict[str, Chapter]:
    """Return the chapter in every language, given the anchor of each claim's evidence.

    The page adds its own heading, so the chapter's title is removed and its headings are one level lower. The page must
    be self-contained: links within the project are removed, and pictures are embedded if present. Pictures of results
    are not part of an installed package, and are replaced by their descriptions.
    """
    return {
        language: rendered(path.read_text(encoding="utf-8"), language, evidence) for language, path in CHAPTERS.items()
    }


def rendered(text: str, language: str, evidence: Mapping[str, str]) -> Chapter:
    """Return Markdown as the page's chapter in a language."""
    made = Chapter()
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0" role="region"><table>')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>")

    def code(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
        content = Markup.escape(tokens[index].content)
        anchor = evidence.get(tokens[index].content)
        return f'<a href="#{Markup.escape(anchor)}"><code>{content}</code></a>' if anchor else f"<code>{content}</code>"

    def fence(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
        return f'<pre tabindex="0"><code>{Markup.escape(tokens[index].content)}</code></pre>\n'

    def image(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
        said, path = Markup.escape(tokens[index].content), CHAPTERS["ko"].parent / str(tokens[index].attrGet("src"))
        if path.suffix != ".svg" or not path.is_file():
            return f'<span class="small">[{said}]</span>'
        made.pictures[f"picture-{path.stem}"] = path.read_text(encoding="utf-8")
        return f'<img alt="{said}" data-packed="picture-{Markup.escape(path.stem)}">'

    markdown.add_render_rule("image", image)
    markdown.add_render_rule("code_inline", code)
    markdown.add_render_rule("fence", fence)
    tokens = markdown.parse(text)
    while tokens and tokens[0].type != "heading_open":
        tokens = tokens[1:]
    tokens = tokens[3:]  # the title: its opening, its text, its end
    if len(tokens) > 1 and _only_links(tokens[1].children or []):
        tokens = tokens[3:]
    for token, following in zip(tokens, [*tokens[1:], Token("", "", 0)], strict=True):
        if token.type == "heading_open" and token.tag == "h2":
            token.attrSet("id", f"chapter-{language}-{len(made.contents) + 1}")
            made.contents.append((str(token.attrGet("id")), following.content))
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + 1}"
        token.children = _without_local_links(token.children or [])
    rendered = str(markdown.renderer.render(tokens, markdown.options, {}))
    made.html = Markup(FOLD.sub(r"<details><summary>\1</summary>\n", rendered).replace(FOLD_END, "</details>\n"))
    return made


def _only_links(tokens: list[Token]) -> bool:
    """Return whether a paragraph consists of links with dots between them: the chapter's links to other files."""
    depth, outside = 0, ""
    for token in tokens:
        depth += token.nesting if token.type.startswith("link_") else 0
        outside += "" if depth else token.content
    return not outside.strip(" ·") and any(token.type == "link_open" for token in tokens)


def _without_local_links(tokens: list[Token]) -> list[Token]:
    """Return inline tokens without links within the project; their texts stay."""
    kept, local = [], False
    for token in tokens:
        if token.type == "link_open":
            local = not str(token.attrGet("href")).startswith(("https://", "http://"))
        if not (local and token.type in ("link_open", "link_close")):
            kept.append(token)
    return kept
