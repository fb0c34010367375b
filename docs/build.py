"""The site: `python docs/build.py` writes dist/docs/site, which can be read offline.

`python docs/build.py pages` only writes anew what is generated and kept in git: the table of analyses, the recipes, the
picture of the layers, the log's list of entries, and llms.txt. The rest is generated for the site alone: commands from
their help, the API from docstrings, the notebooks and the chapter as pages.

Pages link to files as they lie in the repository, so that they can be read there too. In the site such a link leads to
the page that is made of the file, or to a copy.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from reslab.analysis import Analysis, analyses
from reslab.training.recipes import RECIPES, recipe_for

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SITE = ROOT / "dist" / "docs"

PAGES = {
    "README.md": "index.md",
    "README.ko.md": "index.ko.md",
    "reslab/README.en.md": "explanation/chapter.md",
    "reslab/README.md": "explanation/chapter.ko.md",
    **{
        f"notebooks/{name}.{language}.ipynb": f"tutorials/{name}{end}.md"
        for name in ("learner", "engineer", "researcher", "gates")
        for language, end in (("en", ""), ("ko", ".ko"))
    },
}
"""Files outside this folder, and the pages of the site that are made of them or stand for them."""

HANGUL = ROOT / "reslab" / "report" / "fonts" / "ReslabHangul.ttf"

LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s#]*)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


class Link(NamedTuple):
    """A link of a page to a file, and perhaps to a heading in it."""

    target: str
    anchor: str


def links(text: str) -> list[Link]:
    """Return the links of a page that lead to no other site."""
    found = LINK.findall(FENCE.sub("", text))
    return [Link(target, anchor.removeprefix("#")) for _, target, anchor in found if not re.match("[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Return what can follow a # in a link to this page."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub(_kept, text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _kept(match: re.Match[str]) -> str:
    return "" if match[0].startswith("```") else match[0].strip("`")


def place_of(path: Path) -> Path:
    """Return where a file of the repository is in the site's pages."""
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return Path(PAGES[name])
    return path.relative_to(DOCS) if path.is_relative_to(DOCS) else Path("files") / name


def linked(text: str, source: Path, place: Path, copy: Callable[[Path], None]) -> str:
    """Return the text of a page with its links as they are in the site, and have the files copied that it links to."""

    def moved(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = (source.parent / target).resolve()
        if not target or re.match("[a-z]+:", target) or not path.is_file():
            return match[0]
        copy(path)
        return f"{label}({os.path.relpath(place_of(path), place.parent)}{anchor})".replace(os.sep, "/")

    return LINK.sub(moved, text)


def assemble(pages: Path) -> None:
    """Write the site's pages, and copies of the files that they link to."""

    def copy(path: Path) -> None:
        place = place_of(path)
        if (pages / place).exists() or path.is_relative_to(DOCS) or path.relative_to(ROOT).as_posix() in PAGES:
            return
        (pages / place).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            (pages / place).touch()  # so that pages that link to each other come to an end
            page(path, path.read_text(encoding="utf-8"), place)
        else:
            shutil.copy(path, pages / place)

    def page(source: Path, text: str, place: Path) -> None:
        (pages / place).parent.mkdir(parents=True, exist_ok=True)
        (pages / place).write_text(linked(text, source, place, copy), encoding="utf-8", newline="\n")

    for path in sorted(DOCS.rglob("*")):
        if path.suffix in (".png", ".svg", ".txt", ".css"):
            (pages / place_of(path)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, pages / place_of(path))
        elif path.suffix == ".md":
            page(path, path.read_text(encoding="utf-8") + facts(path), place_of(path))
    shutil.copy(HANGUL, pages / "hangul.ttf")  # site.css names it
    for name, place in PAGES.items():
        path = ROOT / name
        if path.suffix == ".ipynb":
            page(path, from_notebook(path), Path(place))
        elif "/" in name:
            page(path, path.read_text(encoding="utf-8"), Path(place))
    for end in COMMANDS:
        name = f"commands.{end}"
        page(DOCS / "reference" / name, commands(end), Path("reference") / name)
    page(DOCS / "reference" / "api.md", api(), Path("reference/api.md"))


def from_notebook(path: Path) -> str:
    """Return a notebook's text, code and outputs as Markdown."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
        parts += map(_output, cell.get("outputs", []))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    """Return what a cell gave as Markdown: HTML on one line, as a line that is empty would end it."""
    data = output.get("data", {"text/plain": output.get("text")})
    if "text/html" in data:
        return f'<div class="output">{" ".join("".join(data["text/html"]).split())}</div>'
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"


COMMANDS = {"md": "Commands", "ko.md": "명령"}
"""The heading of the page of commands, by how the name of the page in a language ends."""


def commands(end: str) -> str:
    """Return the page of all commands in one language, from their help."""
    snapshot = ROOT / "tests" / f"help.{end.removesuffix('md')}txt"
    parts = [help.partition("\n") for help in snapshot.read_text(encoding="utf-8").split("$ ")[1:]]
    return f"# {COMMANDS[end]}\n\n" + "\n".join(
        f"## {name.removesuffix(' --help')}\n\n```text\n{text}```\n" for name, _, text in parts
    )


MODULES = {
    "Networks as tables": ["reslab.networks.anatomy"],
    "Gates": ["reslab.gates.gating"],
    "Claims and verdicts": ["reslab.ledger.claim", "reslab.ledger.comparison", "reslab.ledger.verdict"],
    "Runs": ["reslab.runs"],
    "Errors": ["reslab.errors"],
}
"""What the page of the API shows beside the public names."""


def public_names() -> dict[str, str]:
    """Return the names that `import reslab` has, and the modules that they come from, as its stub says."""
    stub = ast.parse((ROOT / "reslab" / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [statement for statement in stub.body if isinstance(statement, ast.ImportFrom)]
    return {alias.name: statement.module or "" for statement in imports for alias in statement.names}


def api() -> str:
    """Return the page of the API, which mkdocstrings fills."""
    names = public_names()
    looking = [name for name, module in names.items() if module == "reslab.analysis"]
    front = "\n".join(
        f"::: {module}.{name}\n    options:\n      heading: reslab.{name}\n      toc_label: {name}\n"
        for name, module in names.items()
        if name not in looking
    )
    modules = ["\n".join([f"## {title}\n", *(f"::: {path}\n" for path in paths)]) for title, paths in MODULES.items()]
    functions = ", ".join(f"`reslab.{name}`" for name in looking)
    intro = f"The analyses have their [own pages](../analyses/index.md): {functions}."
    return "\n".join([f"# Python interface\n\n{intro}\n\n## Public names\n", front, *modules])


def every_analysis() -> list[Analysis]:
    """Return the analyses by name, each once."""
    return sorted(dict.fromkeys(analyses().values()), key=lambda each: each.name)


ABOUT = {
    "md": ("In short", "about", "needs", "images, by default", "weights, by default", "cost", "In Python"),
    "ko.md": ("요약", "내용", "필요한 것", "기본 이미지 수", "기본 가중치", "비용", "파이썬에서"),
}
"""Words of the facts that follow an analysis's page, by how the names of the pages in its language end."""


def facts(path: Path) -> str:
    """Return what the code says of an analysis, to follow its page; nothing for another page."""
    name = path.stem.removesuffix(".ko")
    each = analyses().get(name)
    if path.parent.name != "analyses" or each is None:
        return ""
    korean = path.stem != name
    short, about, *keys, python = ABOUT["ko.md" if korean else "md"]
    values = _facts_in_korean(each) if korean else _facts(each)
    table = "\n".join(f"| {key} | {value} |" for key, value in zip(keys, values, strict=True))
    head = f"## {short}\n\n| {about} | {_question(path.name) if korean else each.says} |\n|---|---|"
    called = (
        f"[`reslab.{each.function}`]({name}.md#in-python) (영어)" if korean else f"::: {each.module}.{each.function}"
    )
    return f"\n{head}\n{table}\n\n## {python}\n\n{called}\n"


def _facts(each: Analysis) -> tuple[str, str, str, str]:
    needs = each.needed.removeprefix("Needs ").rstrip(".")
    images = "all" if each.images is None else f"{each.images}"
    weights = "the bundled ones for the network and data" if each.trained else "fresh"
    cost = _costs().get(each.name)
    counted = f"{cost['passes']:,.1f} forward passes, {cost['memory']:.1f} times the memory of one" if cost else "none"
    return needs, images if "network" in each.parameters else "none", weights, counted


def _facts_in_korean(each: Analysis) -> tuple[str, str, str, str]:
    _, needs = each.in_korean()
    images = "모두" if each.images is None else f"{each.images}장"
    weights = "신경망과 데이터에 맞는, 함께 들어 있는 가중치" if each.trained else "새로 초기화한 가중치"
    cost = _costs().get(each.name)
    counted = f"순전파 {cost['passes']:,.1f}번, 메모리는 한 번의 {cost['memory']:.1f}배" if cost else "없음"
    return needs, images if "network" in each.parameters else "없음", weights, counted


def _costs() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((DOCS / "analyses" / "costs.json").read_text(encoding="utf-8"))
    return found


def _question(page: str) -> str:
    text = (DOCS / "analyses" / page).read_text(encoding="utf-8")
    found = re.search(r"^\*(.+)\*$", text, re.MULTILINE)
    assert found, f"{page} asks no question"
    return found[1]


YES_NO = {"md": ("yes", "no"), "ko.md": ("예", "아니요")}
"""What a page says, by how the names of the pages in its language end."""


def analyses_page(end: str) -> str:
    """Return the page of all analyses in one language, with their questions and costs."""
    yes, no = YES_NO[end]
    costs = _costs()
    rows = []
    for each in every_analysis():
        cost = costs.get(each.name, {})
        numbers = [f"{cost[key]:,.1f}" if cost else "–" for key in ("passes", "memory")]
        labels = yes if "labels" in each.parameters else no
        page = f"{each.name}.{end}"
        rows.append(f"| [{each.name}]({page}) | {_question(page)} | {labels} | {' | '.join(numbers)} |")
    template = DOCS / "analyses" / f"index.{end.removesuffix('md')}template"
    return template.read_text(encoding="utf-8").replace("TABLE", "\n".join(rows))


SETTING = {"md": ("setting", "fast, on larger data"), "ko.md": ("설정", "fast, 더 큰 데이터")}
"""Heads of the table of recipes, in the same way."""


def recipes_page(end: str) -> str:
    """Return the page of the recipes in one language, from their fields."""
    setting, larger = SETTING[end]
    fast = recipe_for("cifar10", "fast")
    columns = {**RECIPES, larger: fast}
    fields = [name for name in fast.model_dump() if name != "name"]
    head = f"| {setting} | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|"
    rows = []
    for field in fields:
        values = [json.dumps(recipe.model_dump(mode="json")[field]).replace('"', "") for recipe in columns.values()]
        rows.append(f"| `{field}` | {' | '.join('' if value == 'null' else value for value in values)} |")
    template = DOCS / "reference" / f"recipes.{end.removesuffix('md')}template"
    return template.read_text(encoding="utf-8").replace("TABLE", "\n".join([head, *rows]))


def layers() -> dict[str, set[str]]:
    """Return which layer may import which, from the test that enforces it."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    wanted = [statement for statement in tree.body if _assigned(statement) in ("RUNNING", "ALLOWED")]
    names: dict[str, dict[str, set[str]]] = {}
    exec(compile(ast.Module(wanted, []), "layers", "exec"), names)
    return names["ALLOWED"]


def _assigned(statement: ast.stmt) -> str | None:
    """Return the name that a statement assigns to, if it does."""
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0])
    return ast.unparse(statement.target) if isinstance(statement, ast.AnnAssign) else None


OLD_NAMES = {"zoo", "anatomy", "claims", "weightfiles", "analyzing"}
"""Modules that keep names of version 0.1, and only pass on what is elsewhere."""
CELL = 19
LEFT = 120


def layers_picture() -> str:
    """Return the layers as a picture: a row may import the columns that are filled; all dots lie below the diagonal."""
    allowed = layers()
    everything = {layer for layer, may in allowed.items() if "*" in may}
    shown = [layer for layer in allowed if not layer.startswith("__") and layer not in everything | OLD_NAMES]
    order: list[str] = []
    while rest := [layer for layer in shown if layer not in order]:
        order.append(next(layer for layer in rest if allowed[layer] & set(rest) <= {layer}))
    width, height = LEFT + CELL * len(order) + 16, LEFT + CELL * len(order) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, layer in enumerate(order):
        y, x = LEFT + CELL * index, LEFT + CELL * index
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{layer}</text>')
        parts.append(f'<text transform="translate({x + 14} {LEFT - 6}) rotate(-60)">{layer}</text>')
        for other, name in enumerate(order):
            fill = "#444" if other == index else "#0072b2" if name in allowed[layer] else "#f0f0f0"
            left = LEFT + CELL * other
            parts.append(f'<rect x="{left}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" fill="{fill}"/>')
    caption = f"may import everything: {', '.join(sorted(everything))}"
    parts.append(f'<text x="8" y="{height - 12}">{caption}</text></svg>')
    return "\n".join(parts) + "\n"


def llms() -> str:
    """Return the list of the pages for programs that read: a line per page, with its first sentence."""
    lines = []
    for path in sorted(DOCS.rglob("*.md")):
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        title, *paragraphs = text.split("\n\n")
        first = " ".join(next(each for each in paragraphs if re.match(r"\s*[^\s#|!\[<-]", each)).split()).strip("*")
        sentence = re.match(r".+?[.?:](?= |$)", first)
        assert sentence, path
        lines.append(f"- [{title.removeprefix('# ')}]({path.relative_to(DOCS).as_posix()}): {sentence[0]}")
    says = "> A laboratory for residual networks: gates on every block, exact path spectra, verdicts."
    return "\n".join(["# reslab", "", says, "", *lines, ""])


LOG_HEAD = """# Log of experiments

What was tried, what came out, and what gave nothing: a file per date. An entry names the command that makes its figures
again, or says that they are of a script that is not kept.

Times are of a two-core machine (AMD, AVX2, no bfloat16 units), torch 2.14.1, one thread per trial, two workers, unless
an entry says otherwise.
"""


def log_page() -> str:
    """Return the list of the log's entries, the latest date first, with how many tables each has."""
    parts = [LOG_HEAD]
    for path in sorted((ROOT / "log").glob("2*.md"), reverse=True):
        entries = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        rows = []
        for entry in entries:
            title, tables = entry.partition("\n")[0], len(re.findall(r"^\|---", entry, re.MULTILINE))
            (anchor,) = anchors(f"# {title}\n")
            rows.append(f"| [{title}]({path.name}#{anchor}) | {tables or ''} |")
        parts.append("\n".join([f"## [{path.stem}]({path.name})\n", "| entry | tables |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


WRITTEN: dict[str, Callable[[], str]] = {
    "analyses/index.md": partial(analyses_page, "md"),
    "analyses/index.ko.md": partial(analyses_page, "ko.md"),
    "reference/recipes.md": partial(recipes_page, "md"),
    "reference/recipes.ko.md": partial(recipes_page, "ko.md"),
    "explanation/layers.svg": layers_picture,
    "../log/README.md": log_page,
    "llms.txt": llms,
}
"""What is generated and kept in git, in this order: the last lists the others."""


def write_pages() -> None:
    """Write what is generated and kept in git."""
    for name, made in WRITTEN.items():
        (DOCS / name).write_text(made(), encoding="utf-8", newline="\n")


def build() -> int:
    """Build the site, in which a warning is an error, and return zensical's exit code."""
    shutil.rmtree(SITE, ignore_errors=True)
    assemble(SITE / "pages")
    config = (DOCS / "zensical.toml").read_text(encoding="utf-8").replace("ROOT", ROOT.as_posix())
    (SITE / "zensical.toml").write_text(config, encoding="utf-8")
    program = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(program, cwd=SITE).returncode


if __name__ == "__main__":
    write_pages()
    sys.exit(0 if "pages" in sys.argv[1:] else build())
