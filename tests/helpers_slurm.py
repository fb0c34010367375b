"""Slurm's programs as far as submitit calls them, for a machine that is its own cluster: a job is a process."""

from pathlib import Path

PROGRAMS = {
    "sbatch": """
cp "$1" "$STATE/script"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
for task in $(seq 0 "${last:-0}"); do (
    export SLURM_JOB_ID=$$ SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
    name=$$
    if [ -n "$last" ]; then export SLURM_ARRAY_JOB_ID=$$ SLURM_ARRAY_TASK_ID=$task; name=$$_$task; fi
    export NAME=$name
    touch "$STATE/queued_$name"
    while [ -e "$STATE/queued_$name" ]; do rm "$STATE/queued_$name"; bash "$STATE/script"; done
    touch "$STATE/ended_$name"
) >"$STATE/output" 2>&1 & done
echo "Submitted batch job $$"
""",
    "srun": """
while [[ $1 == --* ]]; do
    case $1 in --output) out=$2; shift ;; --error) err=$2; shift ;; esac
    shift
done
name() { local path=${1//%t/0}; path=${path//%A_%a/$NAME}; echo "${path//%j/$NAME}"; }
echo $$ >"$STATE/process_$NAME"
exec "$@" >>"$(name "$out")" 2>>"$(name "$err")"
""",
    "scontrol": """touch "$STATE/queued_$2"; echo "$2" >>"$STATE/requeued" """,
    "scancel": """kill -9 "$(cat "$STATE/process_$1")" """,
    "sacct": """
echo "JobID|State|NodeList"
for path in "$STATE"/process_*; do
    name=${path##*process_}
    if [ -e "$STATE/ended_$name" ]; then echo "$name|FAILED|here"; else echo "$name|RUNNING|here"; fi
done
""",
}


def make_cluster(bin: Path, state: Path) -> None:
    """Write the programs into one directory; what they know of their jobs is in files of another: `process_JOB` holds
    the id of a process, and `requeued` the jobs that were queued again.
    """
    bin.mkdir()
    state.mkdir()
    for name, program in PROGRAMS.items():
        (bin / name).write_text(f"#!/bin/bash\nSTATE={state}\n{program.strip()}\n", encoding="utf-8")
        (bin / name).chmod(0o755)
