#!/usr/bin/env bash
# A real Slurm of two nodes on one machine, to test the cluster path without a cluster. Everything it writes is in one folder: configuration,
# key, sockets, logs and process ids; only a link /run/slurm/conf leads there while it runs. Nodes n1 and n2 have all cores and half the memory
# each, and one make-believe GPU, for scheduling only. The packages bring services of their own, which are not used.
set -euo pipefail

usage() {
  cat >&2 <<'TEXT'
workflow/slurm_here.sh start FOLDER            install Slurm if it is missing, start it, wait until both nodes are up; prints `export SLURM_CONF=...`
workflow/slurm_here.sh status FOLDER           show nodes and jobs; fails unless both nodes can take jobs
workflow/slurm_here.sh kill-node FOLDER n1     kill -9 the node's daemon: its jobs go on, but nobody hears from them
workflow/slurm_here.sh crash-node FOLDER n1    kill -9 the daemon and its jobs, as a power cut does
workflow/slurm_here.sh start-node FOLDER n1    start the node's daemon again
workflow/slurm_here.sh stop FOLDER             cancel all jobs and stop every process of this folder
The controller listens on port 17000 and the nodes on the two above it; set ARQ_SLURM_PORT to begin elsewhere.
TEXT
  exit 2
}

say() { echo "slurm_here: $*" >&2; }
fail() { say "$*"; exit 1; }

# until_true SECONDS COMMAND...: whether the command succeeds within that time
until_true() {
  local tries=$(($1 * 5)); shift
  for ((; tries > 0; tries--)); do "$@" && return; sleep 0.2; done
  return 1
}

install() {
  command -v slurmctld slurmd munged munge scontrol >/dev/null && return
  command -v apt-get >/dev/null ||
    fail "saw neither Slurm nor apt-get, expected Debian or Ubuntu; install slurmctld, slurmd, Slurm's commands and munge by hand."
  say "installing slurm-wlm and munge"
  local log; log=$(DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge 2>&1) ||
    fail "apt-get could not install slurm-wlm and munge; are its lists old or missing (\`apt-get update\`)? It said: $(tail -n 5 <<<"$log")"
}

# is DAEMON PID: a number can have been given to another process, and one that ended may wait for its parent (it has no exe)
is() { [ "$(cat "/proc/$2/comm" 2>/dev/null)" = "$1" ] && readlink "/proc/$2/exe" >/dev/null; }
# running DAEMON PIDFILE: prints the process id
running() { local pid; pid=$(cat "$2" 2>/dev/null) && is "$1" "$pid" && echo "$pid"; }

# Slurm gives these two variables to what a job starts; a shell of yours has at most the first
job_processes() {
  grep -lzx "SLURM_CONF=$CONF" /proc/[0-9]*/environ 2>/dev/null | xargs -r grep -lzxE "SLURMD_NODENAME=${1:-n[12]}" 2>/dev/null | cut -d/ -f3 || true
}

step_managers() {                               # the parents of jobs: one slurmstepd a step
  local pid parent
  for pid in $(job_processes "$@"); do
    parent=$(ps -o ppid= -p "$pid" | tr -d ' ')
    [ "$(cat "/proc/$parent/comm" 2>/dev/null)" = slurmstepd ] && echo "$parent"
  done | sort -u
}

# kill_now PID...: those that end by themselves meanwhile are fine
kill_now() { local pid; for pid in "$@"; do kill -9 "$pid" 2>/dev/null || true; done; }

gone() { ! is "$@"; }
nothing_left() { [ -z "$(job_processes)" ]; }
usable() { [ "$(sinfo --noheader --Node --format %t 2>/dev/null | grep -cxE 'idle|mix|alloc|comp')" = 2 ]; }
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Snakemake's plugin starts srun inside a job without SLURM_CONF, and this is where Slurm looks next.
link_configuration() {
  local seen; seen=$(readlink -e /etc/slurm/slurm.conf /run/slurm/conf/slurm.conf | head -n 1) || true
  [ -z "$seen" ] || [ "$seen" = "$CONF" ] ||
    fail "saw $seen, the configuration of another Slurm; stop that one first, or use a machine outside your cluster."
  mkdir -p /run/slurm && ln -sfn "$HERE" /run/slurm/conf
}

unlink_configuration() {
  [ "$(readlink /run/slurm/conf)" != "$HERE" ] || rm /run/slurm/conf
  rmdir /run/slurm 2>/dev/null || true          # not ours where something else is in it
}

fake_gpus() {
  local n
  for n in n1 n2; do [ -c "$HERE/gpu-$n" ] || mknod "$HERE/gpu-$n" c 1 3 2>/dev/null || return; done
}

write_configuration() {
  rm -rf "$HERE/state" "$HERE"/spool-n[12]      # jobs of an earlier start
  mkdir -p "$HERE/state" "$HERE/spool-n1" "$HERE/spool-n2"
  local port=${ARQ_SLURM_PORT:-17000} cores memory gres=""
  cores=$(getconf _NPROCESSORS_ONLN)              # not nproc, which heeds OMP_NUM_THREADS
  memory=$(awk '/^MemTotal/ { print int($2 / 2048) }' /proc/meminfo)
  if fake_gpus; then
    gres="Gres=gpu:fake:1"
    printf 'AutoDetect=off\n' >"$HERE/gres.conf"
    printf 'NodeName=%s Name=gpu Type=fake File=%s/gpu-%s\n' n1 "$HERE" n1 n2 "$HERE" n2 >>"$HERE/gres.conf"
  else
    rm -f "$HERE/gres.conf"
    say "mknod was refused here, so the nodes have no make-believe GPU: jobs that ask for one cannot be scheduled"
  fi
  # Newer Slurms can do without cgroups; older ones want a plugin named, which is then not used.
  local cgroups=cgroup/v1; [[ $(slurmd -V) =~ \ (2[4-9]|[3-9][0-9])\. ]] && cgroups=disabled
  printf 'CgroupPlugin=%s\nConstrainCores=no\nConstrainDevices=no\nConstrainRAMSpace=no\nConstrainSwapSpace=no\n' "$cgroups" >"$HERE/cgroup.conf"
  cat >"$CONF" <<TEXT
ClusterName=here
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$HERE/munge.socket
StateSaveLocation=$HERE/state
SlurmctldPidFile=$HERE/slurmctld.pid
SlurmctldLogFile=$HERE/slurmctld.log
SlurmdSpoolDir=$HERE/spool-%n
SlurmdPidFile=$HERE/slurmd-%n.pid
SlurmdLogFile=$HERE/slurmd-%n.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
# A dead node is noticed within seconds, and comes back by itself. Its jobs are not queued again by Slurm: the grid itself does that.
SlurmdTimeout=10
ReturnToService=2
JobRequeue=0
KillWait=2
MinJobAge=600
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$cores RealMemory=$memory $gres
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=$cores RealMemory=$memory $gres
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
TEXT
}

start_munge() {
  running munged "$HERE/munge.pid" >/dev/null && return
  [ -f "$HERE/munge.key" ] || (umask 077; head -c 128 /dev/urandom >"$HERE/munge.key")
  # --force: it warns of folders above that others may not enter, or may write to; all of this is for one user
  munged --force --num-threads=2 --key-file="$HERE/munge.key" --seed-file="$HERE/munge.seed" --socket="$HERE/munge.socket" \
    --pid-file="$HERE/munge.pid" --log-file="$HERE/munge.log" 2>>"$HERE/munge.log" || fail "munged did not start; see $HERE/munge.log"
  until_true 10 munge --socket="$HERE/munge.socket" --no-input --output=/dev/null || fail "munged did not answer within 10 s; see $HERE/munge.log"
}

start_node() {
  running slurmd "$HERE/slurmd-$1.pid" >/dev/null || slurmd -N "$1" || fail "slurmd of $1 did not start; see $HERE/slurmd-$1.log"
}

start() {
  [ "$(id -u)" = 0 ] || fail "saw the user $(id -un), expected root: Slurm starts jobs under the names of others."
  install
  if ! running slurmctld "$HERE/slurmctld.pid" >/dev/null; then
    stop                                        # what a controller that was killed has left
    local port=${ARQ_SLURM_PORT:-17000} p
    link_configuration
    for p in "$port" $((port + 1)) $((port + 2)); do
      ! taken "$p" || fail "saw port $p in use, expected $port to $((port + 2)) to be free; stop what listens there, or set ARQ_SLURM_PORT."
    done
    write_configuration
    start_munge
    slurmctld -c || fail "slurmctld did not start; see $HERE/slurmctld.log"
  fi
  start_munge
  start_node n1
  start_node n2
  until_true 60 usable ||
    fail "saw nodes that are not up after 60 s: $(sinfo --noheader --Node --format '%N %T %E' 2>&1 | tr '\n' ';') see $HERE/slurmctld.log"
  say "two nodes are up; stop them with: $0 stop $HERE"
  echo "export SLURM_CONF=$CONF"
}

status() {
  [ -f "$CONF" ] || fail "saw no $CONF, expected a folder that \`start\` made."
  usable || { sinfo --Node --long 2>&1 || true; fail "saw fewer than two nodes that can take jobs; \`start\` starts what is not running."; }
  sinfo --Node --long
  squeue
}

# Jobs go first, while somebody is there to end them; then the daemons, then whatever is left of both.
stop() {
  [ -f "$CONF" ] || return 0
  local daemon pid
  if running slurmctld "$HERE/slurmctld.pid" >/dev/null; then
    scancel --user="$(id -un)" 2>/dev/null || say "the controller did not take the order to cancel jobs; they are killed"
    until_true 5 nothing_left || true
  fi
  kill_now $(step_managers) $(job_processes)
  for daemon in slurmd:slurmd-n1 slurmd:slurmd-n2 slurmctld:slurmctld munged:munge; do
    pid=$(running "${daemon%:*}" "$HERE/${daemon#*:}.pid") || continue
    kill "$pid"
    until_true 10 gone "${daemon%:*}" "$pid" || kill_now "$pid"
  done
  kill_now $(job_processes)
  unlink_configuration
  rm -f "$HERE"/*.pid "$HERE/munge.socket" "$HERE/munge.socket.lock"
}

kill_node() {                                   # kill_node NODE [jobs]
  local pid
  pid=$(running slurmd "$HERE/slurmd-$1.pid") || fail "saw no daemon of $1 running, expected one; see: $0 status $HERE"
  kill_now "$pid"
  until_true 10 gone slurmd "$pid" || fail "saw the daemon of $1 ten seconds after kill -9, expected it gone"
  [ -z "${2:-}" ] || kill_now $(step_managers "$1") $(job_processes "$1")
  say "killed the daemon of $1${2:+ and its jobs}"
}

[ $# -ge 2 ] || usage
[ "$1" != start ] || mkdir -p "$2"
HERE=$(realpath "$2")
CONF=$HERE/slurm.conf
[ ${#HERE} -le 70 ] || fail "saw a folder of ${#HERE} characters, expected at most 70: names of sockets are short; take one nearer to the root."
export SLURM_CONF=$CONF
case "$1:$#:${3:-}" in
  start:2:) start ;;
  status:2:) status ;;
  stop:2:) stop ;;
  kill-node:3:n[12]) kill_node "$3" ;;
  crash-node:3:n[12]) kill_node "$3" jobs ;;
  start-node:3:n[12]) start_node "$3" ;;
  *) usage ;;
esac
