"""The ledger that comes with the lab, from the records in `results/`: `python tests/helpers_shipped.py` writes it."""

from pathlib import Path

from reslab import studies
from reslab.ledger.sets import seed_sets
from reslab.ledger.shipped import FILE, Ledger, Titles
from reslab.report.records import read_study

RESULTS = Path(__file__).parents[1] / "results"


def ledger_of(results: Path) -> Ledger:
    """Return what the records below a directory say of the lab's claims: those of `studies` first, those of CIFAR-10
    last, so that of two scales alike in standing the digits, at which every claim was decided, come first.
    """
    known = [studies.find(name) for name in studies.names()]
    found = [path.relative_to(results) for path in results.rglob("study.json")]
    found.sort(key=lambda path: (path.parts[0] != "studies", "cifar10-jpeg" in path.parts, path.as_posix()))
    paths = [results / path for path in found]
    claims = [claim for study in known for claim in study.claims]
    ids = {claim.id for claim in claims}
    return Ledger(
        {study.name: Titles(title=study.text.title, question=study.text.question) for study in known},
        claims,
        [one for one in seed_sets([read_study(path.parent) for path in paths]) if one.verdict.id in ids],
    )


if __name__ == "__main__":
    FILE.write_text(ledger_of(RESULTS).text(), encoding="utf-8", newline="\n")
