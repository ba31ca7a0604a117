# neurodeploy: make demo, make test. Needs Python 3.11, 3.12 or 3.13 with venv and pip, and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
EXTRAS := torch,tflite,spiking,crossbar,nir,train,dev
TORCH := torch==2.13.0
BIN := $(VENV)/bin
# Two test processes: what CI's machine has cores for. make test WORKERS=8
WORKERS ?= 2
# Several processes at once: one BLAS thread each.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test test-tflite-runtime lint bench clean

help: ## What can be made
	@echo "neurodeploy"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make the environment .venv (once; pip only)

demo: setup ## Compile the example networks for every kind of hardware, run them, write a report
	@$(BIN)/python examples/demo.py

test: lint ## Lint, types and all tests
	@echo "== pytest"
	@$(BIN)/python -m pytest -n $(WORKERS)

# LiteRT under its former name: its last wheel wants numpy 1, so it has an environment of its own.
RUNTIME := .venv-tflite-runtime
test-tflite-runtime: $(VENV)/.created ## Our .tflite files in tflite-runtime 2.14 with numpy 1.26 (Python 3.11)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "tflite-runtime 2.14 needs Python 3.11." >&2; exit 1; }
	@test -e $(RUNTIME)/.installed || { \
	  $(BIN)/python -m venv $(RUNTIME); \
	  $(RUNTIME)/bin/python -m pip install -qq --disable-pip-version-check --no-input numpy==1.26.4 \
	    tflite-runtime==2.14.0 'flatbuffers>=24' 'tflite-micro>=0.dev20260101,<1' -e '.[test]'; \
	  touch $(RUNTIME)/.installed; }
	@$(RUNTIME)/bin/python -m pytest -n $(WORKERS) -p no:cacheprovider tests/differential/test_litert.py

lint: setup ## ruff and pyright
	@echo "== ruff check"
	@$(BIN)/ruff check .
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "== pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python

bench: setup ## Count every cell on every emulated board, write docs/benchmarks.md (minutes)
	@$(BIN)/python -m benchmarks.bench

clean: ## Remove the environment and the caches
	@rm -rf $(VENV) .venv-core-* $(RUNTIME) .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that is new enough, not too new, and can make a virtual environment. PYTHON=... chooses another.
$(VENV)/.created:
	@fits='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'; \
	for python in $${PYTHON:-python3.11 python3.12 python3.13 python3}; do \
	  if "$$python" -c "$$fits" >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "No Python that fits: looked for $${PYTHON:-python3.11, python3.12, python3.13, python3}; needed: 3.11 to 3.13 with venv." >&2; \
	  echo "Install one (on Debian also python3-venv), or say which: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "== environment $(VENV) with $$("$$found" --version) ($$found)"; \
	"$$found" -m venv $(VENV); touch $@

# Exact versions are known for Python 3.11; newer ones take what pyproject.toml allows.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@install() { \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input "$$@" || { \
	  echo "pip could not install $${!#}: its own message stands above. A later 'make' goes on from here." >&2; exit 1; }; }; \
	pins=(); if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then pins=(-c constraints.txt); fi; \
	echo "== pip install $(TORCH) (the largest part; minutes the first time)"; \
	install $${pins[@]+"$${pins[@]}"} $(TORCH); \
	echo "== pip install neurodeploy[$(EXTRAS)]"; \
	install $${pins[@]+"$${pins[@]}"} -e '.[$(EXTRAS)]'; \
	touch $@
