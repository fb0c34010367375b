"""The lab's commands on any platform, with nothing but Python 3.11+: they make `.venv`, install reslab in it, and run.

python lab.py            set up, and measure the degradation problem on real digits (one to three minutes)
python lab.py test       set up, and run the tests
python lab.py test-all   the slow tests too, and test-processors
python lab.py test-processors   the tests that rounding can reach, with other instruction sets and numbers of threads
python lab.py check      set up, and run ruff and mypy
python lab.py docs       set up, and build the site of docs/ into dist/docs/site
python lab.py bench      set up, and measure what the lab claims about speed (minutes)
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

ACTIVATE = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"

COMMANDS = {
    "lab": ("lab", [["-m", "reslab", "study", "degradation"]]),
    "test": ("dev", [["-X", "warn_default_encoding", "-m", "pytest", "-n", "2", "--dist", "loadfile"]]),
    "test-all": (
        "dev",
        [
            ["-X", "warn_default_encoding", "-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", ""],
            ["tests/processors.py"],
        ],
    ),
    "test-processors": ("dev", [["tests/processors.py"]]),
    "bench": ("lab", [["-m", "reslab", "bench", name] for name in ("train", "executors", "lowlevel", "lesion")]),
    "docs": ("docs", [["docs/build.py"]]),
    "check": ("dev", [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."], ["-m", "mypy"]]),
}


def set_up(extra: str) -> None:
    """Make the virtual environment and install the project in it, unless this was done for the same pyproject.toml."""
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    stamps = [VENV / f".installed-{name}" for name in {"lab": ("lab", "dev")}.get(extra, (extra,))]  # dev includes lab
    if PYTHON.exists() and any(stamp.exists() and stamp.read_text(encoding="utf-8") == wanted for stamp in stamps):
        return
    if not PYTHON.exists():
        print(f"making {VENV}", flush=True)
        venv.create(VENV, with_pip=True)
    if sys.platform == "linux" and shutil.which("nvidia-smi") is None and "PIP_EXTRA_INDEX_URL" not in os.environ:
        print("no NVIDIA GPU found: for a PyTorch without CUDA, which is far smaller, stop this and set")
        print("PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu before it, where that site can be reached")
    print(f"installing reslab[{extra}] (the first time this takes some minutes: PyTorch is large)", flush=True)
    subprocess.run(
        [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-e", f"{ROOT}[{extra}]"], check=True
    )
    stamps[0].write_text(wanted, encoding="utf-8")


def main() -> int:
    """Run one command and return its exit code."""
    if sys.version_info < (3, 11):
        print(f"reslab needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    name, *rest = sys.argv[1:] or ["lab"]
    if name not in COMMANDS:
        print(__doc__, file=sys.stdout if name in ("-h", "--help") else sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    extra, steps = COMMANDS[name]
    try:
        set_up(extra)
        if name == "lab":
            print("now: reslab study degradation: 20 networks, one to three minutes on two cores", flush=True)
        for step in steps:
            code = subprocess.run(
                [PYTHON, *step, *rest], cwd=ROOT, env={**os.environ, "PYTHONUTF8": "1"}
            ).returncode  # whatever the locale
            if code:
                return code
        if name == "lab":
            print(f"next: {ACTIVATE}, then for example: reslab models, reslab train resnet20, reslab --help")
    except subprocess.CalledProcessError as error:
        print(f"setting up failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
