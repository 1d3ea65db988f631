# Short names for long commands. `make demo` and `make test` are all a newcomer needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# The first Python on PATH that is 3.11 or 3.12.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# The Python with Transformer Engine: that of `make te-test`, or the one on PATH, as in the container.
GPU_PYTHON ?= $(if $(wildcard .venv-te/installed),.venv-te/bin/python,python3)

# Processes of pytest. Three for two cores: with two, the cores were idle a quarter of the time, because many tests wait.
WORKERS ?= 3

ACTIVATE := To use unirefine and snakemake in this shell: source .venv/bin/activate

.PHONY: help install lock demo demo-continue demo-finetune demo-long test fuzz lint bench docs site stranger-test te-test gpu-test gpu-bench \
	slurm-test clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo; echo '$(ACTIVATE)'

install: .venv/installed  ## create .venv with the pinned packages of everything, tests included
	@echo '$(ACTIVATE)'

# Packages are those of envs/lock.txt, by their sha256, and no others. Only connection-pool and jsonpath-rw are built: PyPI
# has their source alone. The checkout itself has no hash, so it is installed after them. torch is the one without CUDA where pip's configuration
# has it.
LOCKED := $(BIN)/pip install --progress-bar off --require-hashes --no-build-isolation --only-binary :all: --no-binary connection-pool,jsonpath-rw

# Says which step runs, and how far it is every nine seconds; pip's own lines go to .venv/install.log.
STEP := envs/step.sh .venv/install.log

# What the demo needs: the data half and training.
.venv/demo-installed: pyproject.toml envs/lock.txt envs/pip.txt envs/torch-cpu.txt
	@test -n "$(PYTHON)" || { echo "unirefine needs Python 3.11 or 3.12; set PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(STEP) "1/4 pip and setuptools" $(LOCKED) --requirement envs/pip.txt  # older ones take no hashes from constraints
	$(LOCKED) --constraint envs/lock.txt setuptools >>.venv/install.log
	$(STEP) "2/4 torch for a CPU, where pip is configured for it" $(LOCKED) --no-deps --requirement envs/torch-cpu.txt 2>/dev/null || true
	$(BIN)/python envs/requirements.py train > .venv/requirements.txt
	$(STEP) "3/4 packages of the demo" $(LOCKED) --constraint envs/lock.txt --requirement .venv/requirements.txt
	$(STEP) "4/4 unirefine itself" $(BIN)/pip install --no-deps --no-build-isolation --editable .
	touch $@

# What the demo of fine-tuning needs beside it.
.venv/finetune-installed: .venv/demo-installed
	$(BIN)/python envs/requirements.py finetune > .venv/requirements.txt
	$(STEP) "packages of the demo of fine-tuning" $(LOCKED) --constraint envs/lock.txt --requirement .venv/requirements.txt
	touch $@

# roc-validator and mosaicml-streaming come without their requirements; `dev` has those that are imported.
.venv/installed: .venv/demo-installed
	$(BIN)/python envs/requirements.py dev > .venv/requirements.txt
	$(STEP) "packages of the tests" $(LOCKED) --constraint envs/lock.txt --requirement .venv/requirements.txt
	$(STEP) "two more" $(LOCKED) --constraint envs/lock.txt --no-deps roc-validator mosaicml-streaming
	touch $@

lock:  ## write envs/lock.txt and envs/pip.txt from constraints.txt (needs uv)
	python envs/lock.py

results/site/done: .venv/demo-installed $(wildcard resources/demo/* resources/minisite/*.py)
	@mkdir -p results
	PYTHONPATH=resources envs/step.sh results/site.log "miniature UniProt site of the demo" python -m minisite --output results/site
	touch $@

demo: results/site/done  ## real proteins from release to perplexity, some minutes on 2 cores
	snakemake --profile profiles/local --configfile config/demo.yaml
	unirefine report --results results/demo --show
	@echo '$(ACTIVATE)'

demo-finetune: results/demo/train/final/train.json .venv/finetune-installed  ## the demo's model on three tables of labels, under 5 minutes on 2 cores
	python resources/demo/tables.py --output results/demo-finetune/tables
	unirefine finetune --model results/demo/train/final --table results/demo-finetune/tables/kingdom.csv --mode full --lr 1e-3 --epochs 8 --output results/demo-finetune/kingdom
	unirefine finetune --model results/demo/train/final --table results/demo-finetune/tables/sequons.csv --mode full --lr 2e-3 --epochs 8 --output results/demo-finetune/sequons
	unirefine finetune --model results/demo/train/final --table resources/demo/amyloid_beta.csv --split modulo --output results/demo-finetune/amyloid_beta

results/demo/train/final/train.json:
	$(MAKE) demo

demo-continue: results/demo/train/final/train.json  ## the demo's model continued on a family of its proteins, under 5 minutes on 2 cores
	python resources/demo/family.py --shards results/demo/shard --output results/demo-continue.fasta
	snakemake report --profile profiles/local --configfile config/demo-continue.yaml
	unirefine report --results results/demo-continue --show

demo-long: results/site/done  ## the same proteins and half an hour of training
	snakemake --profile profiles/local --configfile config/demo-long.yaml
	unirefine report --results results/demo-long --show
	@echo '$(ACTIVATE)'

test: .venv/installed  ## the whole test suite
	python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

fuzz: .venv/installed  ## 600 damaged files, each of which must be one line or the right result
	UNIREFINE_FUZZ=$${UNIREFINE_FUZZ:-600} python -m pytest -n 2 -q tests/fuzz

lint: .venv/installed  ## ruff, snakefmt, snakemake --lint, import direction, generated docs
	ruff check .
	ruff format --check .
	snakefmt --check --compact-diff Snakefile workflow
	snakemake --lint
	snakemake --snakefile workflow/Snakefile --lint
	python -m pytest -q tests/unit/test_imports.py tests/unit/config/test_docs.py

te-test:  ## Transformer Engine's layout without a GPU, on Python 3.12 (WHEELS=DIR has its wheel)
	tests/te/run.sh

gpu-test:  ## on an NVIDIA GPU, 10 minutes: parity, loss curves, stop and resume; JSON in bench/results-gpu/
	$(GPU_PYTHON) tests/gpu/run.py

gpu-bench:  ## on an NVIDIA GPU, 10 minutes: tokens per second, MFU and memory; JSON in bench/results-gpu/
	$(GPU_PYTHON) bench/gpu_speed.py

slurm-test: .venv/installed  ## the workflow on a real Slurm of two virtual nodes on this machine
	tests/slurm/packages.sh
	UNIREFINE_SLURM_TEST=1 python -m pytest -n 0 tests/slurm

stranger-test: .venv/installed  ## from an installed wheel in an empty directory to a picture, as three users; some minutes
	tests/stranger/run.sh

site: .venv/installed  ## the documentation, in site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

docs: .venv/installed  ## regenerate config/README.md and config/schema.json from src/unirefine/config
	python -m unirefine.config.docs --write

bench: .venv/installed  ## paired measurements beside other tools; JSON in bench/results/
	mkdir -p bench/results
	for topic in bench/bench_*.py; do python $$topic --json bench/results/$$(basename $$topic .py).json; done

clean:  ## remove everything that runs have written
	rm -rf results logs benchmarks .snakemake
