"""Run the tests that rounding can reach as other processors would: with older instructions, and with sums split among
threads.

python tests/processors.py [pytest's arguments]    minutes for each of `SETTINGS`
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

TESTS = Path(__file__).parent
FILES = [
    "analysis_subject",
    "distributed",
    "doctor",
    "gradient_flow",
    "lowlevel",
    "paths",
    "removal",
    "reproducibility",
    "results",
    "speedrun",
    "study_batchnorm_role",
    "training",
    "winograd",
]
"""Where a test expects a number that was computed, or the same bits twice; their slow tests run too."""


def processor(aten: str, onednn: str, threads: int = 1) -> dict[str, str]:
    """Return the environment in which torch's own kernels and oneDNN's compute with these instructions, and tests with
    so many threads.
    """
    return {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn, "RESLAB_TEST_THREADS": str(threads)}


SETTINGS = {
    "SSE4.1": (True, processor("default", "SSE41")),
    "AVX2": (torch.cpu._is_avx2_supported(), processor("avx2", "AVX2")),
    "AVX512": (torch.cpu._is_avx512_supported(), processor("avx512", "AVX512_CORE")),
    "AVX512-BF16": (torch.cpu._is_avx512_bf16_supported(), processor("avx512", "AVX512_CORE_BF16")),
    "two threads": (True, {"RESLAB_TEST_THREADS": "2"}),
    "four threads": (True, {"RESLAB_TEST_THREADS": "4"}),
}
"""Whether this processor has the instructions, for torch would take what is not there; and the environment. The last
two are its own instructions.
"""


def passes(environment: dict[str, str], arguments: list[str]) -> bool:
    """Run the tests in this environment, say how they end and in how many seconds, and show what failed."""
    begun = time.monotonic()
    files = [str(path) for name in FILES for path in sorted(TESTS.rglob(f"test_{name}.py"))]
    workers = max(1, (os.cpu_count() or 1) // int(environment["RESLAB_TEST_THREADS"]))
    command = [
        sys.executable,
        "-X",
        "warn_default_encoding",
        "-m",
        "pytest",
        "-q",
        "-n",
        str(workers),
        "--dist",
        "loadfile",
        "-m",
        "",
        *files,
        *arguments,
    ]
    # or threads that outnumber the cores wait for one another by computing nothing at full speed
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        command, cwd=TESTS.parent, env=os.environ | waiting | environment, capture_output=True, encoding="utf-8"
    )
    print(f"{'failed' if done.returncode else 'passed'} in {time.monotonic() - begun:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", flush=True)
    return not done.returncode


def main() -> int:
    """Go through the settings, and return 1 if any test failed in any."""
    failed = 0
    for name, (here, environment) in SETTINGS.items():
        print(f"{name} ({', '.join(f'{key}={value}' for key, value in environment.items())}): ", end="", flush=True)
        if here:
            failed += not passes(environment, sys.argv[1:])
        else:
            print("not tested, as this processor has none of it", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
