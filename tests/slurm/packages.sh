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
# Debian must not start the daemons: the tests start them, with their own configuration.
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends "${packages[@]}" >/dev/null
