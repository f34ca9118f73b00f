#!/bin/bash
# A sweep of 6 cells on a real SLURM: one machine, two virtual nodes, one job preempted.
#
#   scripts/slurm_smoke.sh            # installs slurm-wlm and munge with apt if they are missing
#
# Starts a private cluster in a temporary folder (own keys, ports 16817 and 17011-17012 on
# loopback; /etc is not touched), runs the sweep with launcher=slurm, preempts one of its jobs by
# one of higher priority, waits until all is done, checks the result and stops the cluster.
# Exit code 0: passed; 77: skipped, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$PWD/.venv/bin/python}

skip() { echo "SKIPPED: $*"; exit 77; }

[ "$(uname -s)" = Linux ] || skip "needs Linux"
[ "$(id -u)" = 0 ] || skip "needs root: SLURM's daemons run as root here"
"$PYTHON" -c 'import submitit' 2>/dev/null || skip "needs submitit: pip install 'submitit>=1.5'"
if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    command -v apt-get >/dev/null || skip "needs SLURM, and there is no apt-get to install it"
    echo "installing slurm-wlm and munge ..."
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; } \
        >/dev/null 2>&1 || skip "apt-get cannot install slurm-wlm and munge"
fi

work=$(mktemp -d)
cluster=$work/cluster
chmod 755 "$work"
cleanup() {
    status=$?
    scripts/slurm_cluster.sh down "$cluster" || true
    if [ $status = 0 ]; then rm -rf "$work"; else echo "kept for a look: $work"; fi
}
trap cleanup EXIT
scripts/slurm_cluster.sh up "$cluster" || skip "SLURM does not start here (see above)"
export SLURM_CONF=$cluster/slurm.conf

say() { echo "[$(date +%T)] $*"; }
runs=$work/results/runs
sweep=$work/results/sweeps/smoke

say "a sweep of 6 cells, 2 tasks at a time"
"$PYTHON" run.py -m experiment=vit_proxy optimizer=adamw,lion seed=0,1,2 sweep.name=smoke \
    "train.epochs=${EPOCHS:-60}" eval.every_epochs=20 launch.num_threads=1 "results_dir=$runs" \
    launcher=slurm launcher.num_workers=2 launcher.cpus_per_task=2 launcher.partition=low \
    launcher.timeout_min=30 launcher.signal_delay_s=60 >"$work/launcher.txt" 2>&1 &
launcher=$!

is_training() { grep -qs '"state": "running"' "$runs"/*/status.json && grep -qs '"loss"' "$runs"/*/status.json; }
for _ in $(seq 300); do is_training && break; kill -0 $launcher 2>/dev/null || break; sleep 0.5; done
is_training || { cat "$work/launcher.txt"; say "FAILED: nothing trains"; exit 1; }
say "training; the queue:"
squeue --format='%.10i %.9P %.10T %.6M %R'

say "a job of higher priority takes one node"
urgent=$(sbatch --parsable --partition=high --nodes=1 --ntasks=1 --cpus-per-task=2 \
    --output=/dev/null --wrap 'sleep 20')
preempted() { grep -l "told SIG" "$sweep"/slurm/*/*_log.out 2>/dev/null; }
for _ in $(seq 120); do [ -n "$(preempted)" ] && break; sleep 0.5; done
[ -n "$(preempted)" ] || { say "FAILED: no job was preempted"; squeue; exit 1; }
say "preempted, by job $urgent; the queue:"
squeue --format='%.10i %.9P %.10T %.6M %R'

wait $launcher && code=0 || code=$?
cat "$work/launcher.txt"
say "the launcher left with exit code $code; what the tasks said:"
grep -h "told SIG\|its worker left\|Requeued" "$sweep"/slurm/*/*_log.* | sed 's/^/    /'
"$PYTHON" - "$sweep" <<'CHECK'
import json, sys
from pathlib import Path

from experiments.store import read_json
from experiments.sweep.manifest import Sweep

sweep = Sweep(Path(sys.argv[1]))
states = sweep.states()
outcomes = [lease.outcome for leases in sweep.leases.scan().values() for lease in leases]
resumed = []
for cell in sweep.cells:
    folder = sweep.folder(cell)
    sessions = read_json(folder.header)["sessions"]
    steps = [session["start_step"] for session in sessions]
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    keys = [(r["step"], r["split"], r["metric"], r["weights"]) for r in lines]
    assert len(keys) == len(set(keys)), f"{cell.run_id}: a row is doubled"
    if len(steps) > 1:
        resumed.append(f"{cell.run_id} at step {steps[1]}")
    print(f"    {cell.title}: {states[cell.run_id]}, sessions started at steps {steps}")
assert len(states) == 6 and set(states.values()) == {"finished"}, states
assert "interrupted" in outcomes, outcomes
assert outcomes.count("finished") == 6, outcomes
print(f"    leases: {outcomes.count('finished')} finished, {outcomes.count('interrupted')} interrupted")
assert resumed, "no run was resumed"
print(f"    resumed: {', '.join(resumed)}")
CHECK
[ $code = 0 ] || exit 1

say "a job that is cancelled: while it saves it does not count as running, by which it is known"
cat >"$work/probe.sh" <<'PROBE'
#!/bin/bash
trap : TERM
srun bash -c 'trap "exit 143" TERM; sleep 60 & wait' &
step=$!
while kill -0 $step 2>/dev/null; do wait $step; done
scontrol --oneliner show job "$SLURM_JOB_ID" | grep -o 'JobState=[A-Z]*'
PROBE
probe=$(sbatch --parsable --partition=low --output="$work/probe.txt" "$work/probe.sh")
is_stepping() { [ -n "$(squeue --noheader --steps --jobs="$probe" | grep "$probe\.0")" ]; }
for _ in $(seq 60); do is_stepping && break; sleep 0.5; done
scancel "$probe"
for _ in $(seq 60); do grep -qs JobState "$work/probe.txt" && break; sleep 0.5; done
grep JobState "$work/probe.txt" | sed 's/^/    /' || true
grep -q 'JobState=C' "$work/probe.txt" || { say "FAILED: it would queue itself again"; exit 1; }
say "PASSED: 6 of 6 cells finished, each once; the preempted one was saved, requeued and resumed"
