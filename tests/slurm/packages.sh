#!/usr/bin/env bash
# Slurm with its accounting, munge and MariaDB from Debian (or Ubuntu), where they are missing.
set -euo pipefail
for program in slurmctld slurmd slurmdbd munged mariadbd mariadb-install-db sbatch srun sacct; do
    PATH="$PATH:/usr/sbin" type -P "$program" >/dev/null || missing=1
done
[[ -z ${missing:-} ]] && exit 0
packages=(slurm-wlm slurm-wlm-basic-plugins slurm-wlm-mysql-plugin slurmdbd munge mariadb-server)
if (( $(id -u) != 0 )); then
    echo "slurm-test needs Slurm and its accounting; as root: apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
fi
# Nothing is to start by itself: the test brings its own configuration and daemons.
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends "${packages[@]}" >/dev/null
