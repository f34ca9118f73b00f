#!/bin/bash
# A private SLURM on this machine for trials: two virtual nodes, preemption with requeue. As root.
#
#   scripts/slurm_cluster.sh up DIR      then: export SLURM_CONF=DIR/slurm.conf
#   scripts/slurm_cluster.sh down DIR
set -euo pipefail
action=${1:?up or down}
dir=${2:?a folder}

write_conf() {
    host=$(hostname -s)
    cat >"$dir/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,preempt_send_user_signal
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait=5
InactiveLimit=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17011-17012] CPUs=2 CoresPerSocket=2 RealMemory=2000 State=UNKNOWN
PartitionName=low Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

start() {
    mkdir -p "$dir"/{state,log,munge}
    chmod 755 "$dir"
    chmod 700 "$dir/munge"
    dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 status=none
    chmod 600 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge.sock" \
        --pid-file="$dir/munge/pid" --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed"
    write_conf
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -f "$SLURM_CONF"
    for node in n1 n2; do slurmd -f "$SLURM_CONF" -N $node; done
    for _ in $(seq 120); do
        [ "$(sinfo -h -o %T -p low 2>/dev/null | sort -u)" = idle ] && { sinfo -N; return; }
        sleep 0.25
    done
    tail -n 5 "$dir"/log/*.log >&2
    return 1
}

is_alive() { [ -e "/proc/$1/stat" ] && [ "$(sed 's/.*) //' "/proc/$1/stat" | cut -c1)" != Z ]; }

# Ends the processes whose pid files are given, with SIGKILL after 10 s.
stop() {
    pids=$(cat "$@" 2>/dev/null || true)
    [ -z "$pids" ] && return 0
    kill $pids 2>/dev/null || true
    for _ in $(seq 40); do
        left=
        for pid in $pids; do is_alive "$pid" && left="$left $pid"; done
        [ -z "$left" ] && return 0
        sleep 0.25
    done
    kill -9 $left 2>/dev/null || true
}

case $action in
up) start ;;
down)
    export SLURM_CONF=$dir/slurm.conf
    jobs=$(timeout 5 squeue -h -o %A 2>/dev/null | sort -u || true)
    if [ -n "$jobs" ]; then # the jobs first, or their steps stay behind
        timeout 5 scancel $jobs || true
        for _ in $(seq 40); do [ -z "$(timeout 5 squeue -h -o %A)" ] && break; sleep 0.25; done
    fi
    stop "$dir"/slurmd-n1.pid "$dir"/slurmd-n2.pid "$dir"/slurmctld.pid
    stop "$dir/munge/pid"
    ;;
*) echo "usage: $0 up|down DIR" >&2; exit 2 ;;
esac
