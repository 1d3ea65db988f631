#!/usr/bin/env bash
# Build ESM-2 with Transformer Engine's layer spec without a GPU, and check its layout, its attention backends, its memory and,
# with torch in place of the kernels, what it computes; then train over gloo with the same packages, checkpoint and reshard:
# they are newer than those of Python 3.11 (make te-test).
#
#   tests/te/run.sh                        .venv-te (8 GB) with Python 3.12 and the pinned packages, then the tests
#   WHEELS=DIR tests/te/run.sh             take transformer_engine_torch's wheel from DIR (else it is compiled, 30 min)
#   TE_PYTHON=/path/to/python tests/te/run.sh    use an environment that has everything
#   tests/te/run.sh -k fp8                 these options of pytest, for the tests in tests/te only
set -euo pipefail
cd "$(dirname "$0")/../.."
TE=2.20.2

if [[ -z ${TE_PYTHON:-} ]]; then
    if [[ ! -f .venv-te/installed ]]; then
        python=$(tests/te/python312.sh) || { echo "te-test needs Python 3.12 (on PATH or in pyenv)" >&2; exit 1; }
        "$python" -m venv --clear .venv-te
        pip=.venv-te/bin/pip
        $pip install --quiet --constraint constraints.txt --upgrade pip setuptools wheel
        $pip install --quiet --constraint constraints.txt --editable '.[dev]'
        # CUDA headers come with torch's own nvidia-* packages; the compiler looks for them on CPATH
        site=$(.venv-te/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        CPATH=$(find "$site/nvidia" -type d -name include | paste -sd:)
        export CPATH MAX_JOBS="${MAX_JOBS:-1}"
        $pip install --quiet --constraint constraints.txt --no-build-isolation ${WHEELS:+--find-links "$WHEELS"} \
            "transformer-engine[core_cu13,pytorch]==$TE"
        touch .venv-te/installed
    fi
    TE_PYTHON=.venv-te/bin/python
fi
export PYTHONPATH="src:tests/te:tests/distributed:tests/unit/model"
UNIREFINE_TE_TEST=1 "$TE_PYTHON" -m pytest -q -W ignore tests/te "$@"
if (( $# == 0 )); then
    "$TE_PYTHON" -m pytest -q -W ignore -m "not slow" tests/unit/model/test_checkpoint.py tests/unit/files/test_code.py \
        tests/unit/megatron tests/distributed/test_model_optimizer.py tests/distributed/test_train.py
    # a case of `make gpu-test`, as that starts it
    "$TE_PYTHON" -W ignore tests/gpu/run.py --device cpu --only parity-8M
fi
