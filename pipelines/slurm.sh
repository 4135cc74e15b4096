#!/usr/bin/env bash
# A run on Slurm: Ray on every node of the allocation, the driver on the first.
#
#   sbatch --nodes=4 --gpus-per-node=8 pipelines/slurm.sh released --out /scratch/kitchen --pairs 100000
#
# What follows the script are the arguments of `mfsynth generate`, or with MFSYNTH_JOB=annotate or
# retexture before `sbatch` of that command. The environment with mfsynth,
# the model and the output lie on a file system that all nodes share; activate the environment
# before you submit. When its time is over, the shards in work are lost, one or two a GPU; the same
# command goes on from there.
#SBATCH --job-name=mfsynth
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
set -euo pipefail

not_loopback() {
  awk '$1 ~ /^[0-9.]+$/ && $1 !~ /^127\./ && !seen++ { print $1 }'
}

# A node's own name is often one of loopback there (127.0.1.1), by which no other node finds it, and
# Ray takes no node for the head.
address_of() {
  local found configured
  found=$(getent ahostsv4 "$1" | not_loopback || true)
  if [[ -z $found ]]; then
    configured=$(scontrol show node "$1" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p' || true)
    found=$(getent ahostsv4 "${configured:-$1}" | not_loopback || true)
  fi
  if [[ -z $found ]]; then
    found=$(srun --nodes=1 --ntasks=1 --nodelist="$1" hostname -I | tr ' ' '\n' | not_loopback || true)
  fi
  if [[ -z $found ]]; then
    echo "slurm.sh: $1 has no address but loopback; mend its line in /etc/hosts" >&2
    return 1
  fi
  echo "$found"
}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(address_of "${nodes[0]}")
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=0 \
  ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "${SLURM_CPUS_ON_NODE:-1}" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
  -- mfsynth "${MFSYNTH_JOB:-generate}" "$@" --set runtime.ray_address=auto
