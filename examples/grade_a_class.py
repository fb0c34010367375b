"""Grade a class of two, who hand in sheets that they have not filled in: a row per student in grades.csv."""

import csv
import sys
import tempfile
from pathlib import Path

from reslab.cli import main as reslab


def run(*words: str) -> int:
    try:
        reslab(list(words))
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        submissions = Path(place) / "submissions"
        for student in ("kim", "lee"):
            run("exercise", "start", "01", "--dir", str(submissions / student))
        run("exercise", "grade", str(submissions), "--out", str(Path(place) / "grades.csv"))
        with (Path(place) / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                print(row, file=sys.stdout)


if __name__ == "__main__":
    main()
