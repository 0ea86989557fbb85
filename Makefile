# make env    install everything into .venv
# make data   make env, and Fashion-MNIST in data/
# make demo   a small grid on this machine, from the data to the table
# make test   the everyday tests
# make slow   the long tests
# make gpu    the tests that need a CUDA device
# make cluster   the long tests that use a real SLURM; CI runs them, too
# make crash  300 kills, 10,000 damaged files, an error at every file call, and make fuzz; an hour
# make fuzz   a hundred thousand hostile grids and site profiles
# make mutants   put known bugs into the code, one by one, and check that the tests catch each
# make lock   pin every package that CI installs, with hashes; make audit looks for known vulnerabilities in them
# make slurm-up, make slurm-down   a real SLURM on this machine: one controller, two nodes
# make lint   ruff check, ruff format and mypy; CI runs them, too
# make reference  write docs/REFERENCE.md from the declarations in the code
# make results  docs/results and the numbers of RESULTS.md, BEYOND.md and README.md, from the committed runs.csv
# make crate  the results of docs/RESULTS.md as an RO-Crate in outputs/crate, about 20 MB
# make crate-check  that crate by the validator of its profile, in a venv of its own; about six minutes
# make bench  time each stage on this machine and compare it with other libraries; about five minutes
# make clean  remove what builds and tools leave; data, outputs and .venv stay
PYTHON ?= python3
VENV   ?= .venv
DATA   ?= data
BIN    := $(VENV)/bin
# LOCKED=1 installs exactly the packages of requirements.lock, by hash: for the python and the machine in its first line.
LOCKED ?=
# As root on Debian or Ubuntu, missing system packages are installed; elsewhere a message says what to do.
APT    := $(shell [ "$$(id -u)" = 0 ] && command -v apt-get)

# The everyday tests run in one process per core, at most four; a file's tests stay in one process.
WORKERS := -n auto --maxprocesses 4 --no-loadscope-reorder

export DC_HPC_DATA := $(abspath $(DATA))

.PHONY: help env data demo test slow gpu cluster crash fuzz mutants lock audit results crate crate-check bench lint reference clean slurm-up slurm-down

help:
	@sed -n 's/^# make/make/p' Makefile

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dc_hpc needs Python 3.11 or newer; set PYTHON=python3.x"; exit 2; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { [ -n "$(APT)" ] && $(APT) update -qq && $(APT) install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); } \
	  || { echo "python3 has no venv module; install it, for example: sudo apt-get install python3-venv"; exit 2; }
	@echo "installing into $(VENV) (torch is large; a few minutes)"
	@if [ -n "$(LOCKED)" ]; then $(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock \
	    && $(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	  else $(BIN)/pip install -q --disable-pip-version-check -e '.[cpu,dev]'; fi
	@touch $@

data: env
	@$(BIN)/python -m dc_hpc.fetch fmnist \
	  || { [ -n "$(APT)" ] && $(APT) update -qq && $(APT) install -y -qq dataset-fashion-mnist && $(BIN)/python -m dc_hpc.fetch fmnist; }

demo: data
	$(BIN)/python -m dc_hpc.submit --grid jobs/fmnist_demo.yaml
	$(BIN)/python -m dc_hpc.aggregate

test: data
	$(BIN)/python -m pytest $(WORKERS) -m "not slow and not gpu and not crash and not fuzz"

slow: data
	$(BIN)/python -m pytest -m "slow and not gpu and not crash"

crash: data
	$(BIN)/python -m pytest -m "(crash or fuzz) and not gpu" -rA tests/crash tests/config/test_fuzz.py

gpu: data
	$(BIN)/python -m pytest -m gpu

cluster: data
	$(BIN)/python -m pytest -m "slurm and slow"

fuzz: env
	$(BIN)/python -m pytest -m fuzz tests/config/test_fuzz.py

mutants: data
	$(BIN)/python tests/mutants/run_mutants.py

slurm-up:
	@$(PYTHON) slurm/one_machine.py up

slurm-down:
	@$(PYTHON) slurm/one_machine.py down

results: env
	$(BIN)/python -m dc_hpc.aggregate --runs docs/results/tables/runs.csv --outputs docs/results --data nowhere \
	  --document docs/RESULTS.md --document docs/BEYOND.md --document README.md
	rm -f docs/results/figures/*.pdf

crate: env
	$(BIN)/python -m dc_hpc.aggregate --runs docs/results/tables/runs.csv --outputs outputs/results --crate outputs/crate

# roc-validator wants an older rich than the program, hence a venv of its own.
crate-check: crate
	$(PYTHON) -m venv outputs/crate-validator
	outputs/crate-validator/bin/python -m pip install -q "rocrate>=0.13" "roc-validator>=0.7"
	outputs/crate-validator/bin/python tests/support/crate_validator.py outputs/crate

bench: env
	$(BIN)/python -m dc_hpc.bench --json outputs/bench/bench.json --figure outputs/bench/bench.png

reference: env
	$(BIN)/python docs/reference.py

lock: env
	$(BIN)/pip install -q --disable-pip-version-check --dry-run --ignore-installed --report .lock.json '.[cpu,dev]'
	$(BIN)/python .ci/lock.py < .lock.json > requirements.lock; rm .lock.json

audit: env
	@$(BIN)/python -m pip_audit --version >/dev/null 2>&1 || $(BIN)/pip install -q --disable-pip-version-check pip-audit \
	  || { echo "audit needs pip-audit, which could not be installed; run it where there is internet"; exit 2; }
	@said=$$($(BIN)/python -m pip_audit --progress-spinner off --disable-pip --require-hashes -r requirements.lock 2>&1); \
	code=$$?; case "$$said" in \
	  *Connect*|*"Max retries"*|*"timed out"*|*ServiceError*|*"could not be audited"*) \
	    echo "audit needs the internet for its database of known vulnerabilities, and got no answer for some packages"; exit 2;; \
	  *) echo "$$said"; exit $$code;; esac

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
