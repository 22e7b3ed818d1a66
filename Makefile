# make report   set everything up, run the default pair on this machine, write the report
# make test     set everything up, run the tests
# make check    lint, types, import contract
# make gpu-evidence minutes=9   measure the GPU here by a plan and pack what comes of it; again to go on (docs/evidence.md)
# make fuzz     read hostile inputs: FUZZ_INPUTS=10000 generated ones, then FUZZ_SECONDS=60 guided by coverage

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_STAMP := $(VENV)/.fuzz
FUZZ_INPUTS ?= 10000
FUZZ_SECONDS ?= 60
RUN ?=

.PHONY: report test check fuzz gpu-evidence format clean help

help:
	@sed -n 's/^# //p' Makefile | head -5

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

report: $(STAMP)
	$(BIN)/analyzer $(RUN)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check analyzer tests benchmarks fuzz
	$(BIN)/ruff format --check analyzer tests benchmarks fuzz
	$(BIN)/mypy
	$(BIN)/lint-imports

$(FUZZ_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[fuzz]"
	touch $(FUZZ_STAMP)

fuzz: $(FUZZ_STAMP)
	$(BIN)/python -m fuzz.generate $(FUZZ_INPUTS)
	$(BIN)/python -m fuzz.reader $(FUZZ_SECONDS)

# a machine with a GPU mostly has a torch of its own, and perhaps no network: only without one a venv is made
minutes ?= 9
out ?= evidence
device ?= auto
only ?=
dry_run ?= false

gpu-evidence:
	@if [ -x $(BIN)/python ]; then python=$(BIN)/python; \
	elif $(PYTHON) -c "import torch" 2>/dev/null; then python=$(PYTHON); \
	else $(MAKE) $(STAMP) && python=$(BIN)/python || exit 1; fi; \
	exec $$python -m benchmarks.evidence minutes=$(minutes) out=$(out) device=$(device) only=$(only) dry_run=$(dry_run)

format: $(STAMP)
	$(BIN)/ruff check --fix analyzer tests benchmarks fuzz
	$(BIN)/ruff format analyzer tests benchmarks fuzz

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
