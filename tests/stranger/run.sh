#!/usr/bin/env bash
# From `pip install` in an empty directory to a picture, as three users who have no checkout: a biologist with a FASTA, a data
# engineer with a cluster, an ML engineer with the demo.
#
# unirefine comes out of a local index of the wheel that is built here. Its packages are those of this checkout's .venv, so
# that the test costs minutes and no network; STRANGER_INDEX=1 installs them as well, as a stranger's pip does.
set -euo pipefail
checkout=$(realpath "$(dirname "$0")/../..")
base=$(mktemp -d)
trap 'rm -rf "$base"' EXIT
cd "$base"

say() { echo "== $1 ($SECONDS s)"; }

say "a wheel and a source distribution in a local index"
git clone --quiet --shared "$checkout" source
"$checkout/.venv/bin/python" - <<'PYTHON'
import os
from setuptools import build_meta

os.chdir("source")
build_meta.build_sdist("../sdist")
PYTHON
mkdir index
"$checkout/.venv/bin/pip" wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir index sdist/unirefine-*.tar.gz

say "pip install unirefine[train,slurm]"
"$checkout/.venv/bin/python" -m venv environment
if [[ ${STRANGER_INDEX:-0} == 1 ]]; then
    environment/bin/pip install --quiet --find-links index --constraint "$checkout/constraints.txt" 'unirefine[train,slurm]'
else
    environment/bin/pip install --quiet --no-index --find-links index --no-deps unirefine
    "$checkout/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        > "$(echo environment/lib/python3*/site-packages)/packages-of-the-checkout.pth"
fi
PATH="$base/environment/bin:$PATH"
where=$(python -c 'import unirefine; print(unirefine.__file__)')
[[ $where == "$base"/environment/* ]] || { echo "unirefine is $where" >&2; exit 1; }
unirefine --version

# ends in an error unless the page is there, with figures in it
picture() {
    local figures
    figures=$(grep -c '<svg' "$1")
    echo "$1: $(stat -c %s "$1") bytes, lines with figures: $figures"
    (( figures > 3 ))
}

say "the biologist: 400 proteins of her own"
mkdir biologist && cd biologist
unirefine run fasta -n >/dev/null 2>&1  # brings the example FASTA
gunzip -c resources/demo/lab.fasta.gz | awk '/^>/ { n++ } n <= 400' > lab.fasta
unirefine init lab.yaml --fasta lab.fasta --steps 20
unirefine run lab.yaml -n
# a model of the demo's size: an 8M takes hours without a GPU
small='train={"model": {"preset": null, "layers": 2, "hidden": 64, "heads": 4}, "sampling": {"max_tokens": 128}, "global_batch": 8, "micro_batch": 4, "precision": "fp32"}'
unirefine run lab.yaml --cores 2 --config "$small"
picture results/lab/report/report.html
unirefine runs
cd ..

say "the data engineer: a release on a cluster, planned"
mkdir engineer && cd engineer
unirefine init release.yaml --release current --model 650M --gpus 8
unirefine run release.yaml --profile slurm -n
unirefine run release.yaml --profile slurm -n --verbose 2>&1 | grep -A3 '^Job stats' 
cd ..

say "the ML engineer: the demo"
mkdir trainer && cd trainer
unirefine run demo --cores 2
picture results/demo/report/report.html
python - <<'PYTHON'
from unirefine.dataset import ShardDataset

one = ShardDataset("results/demo/shard")[0]
print({name: getattr(value, "shape", value) for name, value in one.items()})
PYTHON
unirefine embed --model results/demo/train/final --fasta resources/demo/lab.fasta.gz --output embeddings
say "done"
