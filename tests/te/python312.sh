#!/usr/bin/env bash
# Print the path of a Python 3.12 that can make environments: on PATH, of pyenv or of uv. Exit 1 when there is none.
shopt -s nullglob
for python in python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-3.12.*/bin/python3.12; do
    # a shim of pyenv is there for versions that are not selected too: ask what answers
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
        "$python" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
exit 1
