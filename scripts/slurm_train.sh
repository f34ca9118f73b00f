#!/bin/bash
# One run on several machines under SLURM: one process a GPU, each started by srun itself, so that
# a signal reaches it at once and it has as long to save as SLURM leaves it.
#
#   sbatch --nodes=8 --ntasks-per-node=8 --gpus-per-node=8 --time=24:00:00 scripts/slurm_train.sh \
#       experiment=PAGE launch.strategy=hsdp results_dir=/shared/runs data.root=/shared/imagenet
#
# Call it in the repository's folder, which all machines see, as they see results_dir. Five minutes
# before its time is over, or when it is preempted, the run saves and leaves, and the job is queued
# again; it goes on from there, on as many machines as it then gets. One that was cancelled stays
# so. A process that is killed takes the others with it, within two minutes. PYTHON: another
# interpreter; MASTER: another address of the first machine.
#SBATCH --job-name=lion
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
: "${SLURM_JOB_ID:?is not set: start this with sbatch, as its first lines say}"
export PYTHON=${PYTHON:-$PWD/.venv/bin/python}
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR=${MASTER:-$MASTER_ADDR} MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
# srun does not take it from sbatch any more, and would leave each process one core.
[ -n "${SLURM_CPUS_PER_TASK:-}" ] && export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
trap : TERM  # of the whole job: srun hands it on, and this script has the last word

# shellcheck disable=SC2016  # the variables are those of each process
srun --kill-on-bad-exit=0 --wait=120 --label bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    export LOCAL_WORLD_SIZE=${SLURM_STEP_TASKS_PER_NODE%%[!0-9]*}
    exec "$PYTHON" run.py "$@"' run "$@" &
step=$!
wait $step
code=$?
while kill -0 $step 2>/dev/null; do wait $step; code=$?; done
# Cancelled, it is completing by now; preempted without time to save, SLURM queues it itself.
is_running() { scontrol --oneliner show job "$SLURM_JOB_ID" | grep -q "JobState=RUNNING"; }
[ $code = 143 ] && is_running && scontrol requeue "$SLURM_JOB_ID"  # told to stop: saved
exit $code
