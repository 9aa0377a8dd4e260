# make demo   the main job on the built-in benchmark: installs, trains, prints the table
# make test   every test;  make check   format, lint, types;  make setup   install only
# make bench  speed against TRL, Hugging Face's Trainer and bare loops; DATA=DIR TOKENIZER=DIR for the ten tasks
# make audit  pinned packages with known vulnerabilities
#
# A machine without a GPU can save gigabytes of CUDA libraries with PyTorch's own CPU index:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=
RANKS ?= $(shell $(PYTHON) -c 'import os; print(max(1, min(2, len(os.sched_getaffinity(0)))))')

CORES ?= $(shell $(PYTHON) -c 'import os; print(min(8, len(os.sched_getaffinity(0))))')

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: setup demo test test-root check audit bench kill-matrix soak clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup
	PATH=$(CURDIR)/$(BIN):$$PATH deepspeed --num_gpus $(RANKS) launch/train.py experiment=bench/demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not cluster' -n $(CORES) --dist loadfile

# what needs root: skipped elsewhere, with the reason
test-root: setup
	$(BIN)/python -m pytest -m cluster

# some 20 minutes on two idle cores; on the ten tasks, whose baseline is kept, it fails where our share of a bare
# loop's speed has fallen by over 5 %
bench: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/speed/compare.py $(if $(DATA),--check --data $(DATA) --tokenizer $(TOKENIZER))

# what takes longer than a test may: some 25 and 35 minutes
kill-matrix: setup
	PYTHONPATH=$(CURDIR) $(BIN)/python tests/integration/kill_matrix.py

soak: setup
	PYTHONPATH=$(CURDIR) $(BIN)/python tests/integration/soak.py

check: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

audit: setup
	$(BIN)/python .ci/audit.py

clean:
	rm -rf outputs .cache .pytest_cache .mypy_cache .ruff_cache
