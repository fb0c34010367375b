"""`reslab checklist`: the chapter's checklist, and a learner's progress."""

from pathlib import Path
from typing import Any

from reslab.commands import printing
from reslab.commands.app import Flag, app
from reslab.commands.exercise import HERE, language_for
from reslab.errors import Language
from reslab.ledger.claim import SECTIONS


@app.command
def checklist(*, dir: Path = HERE, lang: Language | None = None, json: Flag = False) -> None:
    """Show the chapter's checklist: each item's section, tasks and claims, and your progress.

    Parameters
    ----------
    dir
        Directory of your answers.
    lang
        ko or en.
    json
        Print one JSON list.
    """
    from reslab import studies
    from reslab.exercises import sheets
    from reslab.exercises.checklist import CHECKLIST
    from reslab.exercises.record import Record

    chosen = language_for(lang, dir)
    done = Record(dir).read()["tasks"]
    claims = [claim for name in studies.names() for claim in studies.find(name).claims]
    items = []
    for item in CHECKLIST:
        tasks = [
            {
                "task": name,
                "title": sheets.task(name, chosen).title,
                "points": done.get(name, {}).get("best", 0),
                "of": sheets.task(name, chosen).points,
            }
            for name in item.tasks
        ]
        complete = all(task["points"] == task["of"] for task in tasks)
        about = [claim.id for claim in claims if claim.section == item.section]
        items.append(
            {"item": dict(item.text), "section": item.section, "tasks": tasks, "claims": about, "complete": complete}
        )
    if json:
        printing.print_json(items)
    else:
        _print_checklist(items, chosen)


def _print_checklist(items: list[dict[str, Any]], language: Language) -> None:
    names = {"ko": ("절", "과제", "주장"), "en": ("section", "tasks", "claims")}[language]
    for item in items:
        title = SECTIONS[item["section"]][language]
        print(f"[{'x' if item['complete'] else ' '}] {item['item'][language]}  ({names[0]}: {title})")
        for task in item["tasks"]:
            print(f"      {task['task']} {task['title']}: {task['points']}/{task['of']}")
        print(f"      {names[2]} ({len(item['claims'])}): reslab claims --section {item['section']}")
