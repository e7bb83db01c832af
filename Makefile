# Everything runs from .venv, which `make venv` sets up from the hashed lock file.
# Override the interpreter with `make venv PYTHON=/path/to/python3.11`.

BIN := .venv/bin
WORKERS ?= 2
PYTHON ?=

.PHONY: help venv devnet test check verifier format sim soak bench lock clean

help:
	@echo "make devnet   start four nodes, settle a sample payment, stay in the foreground"
	@echo "make test     check, then all tests"
	@echo "make check    lint, formatting, types, dependency direction"
	@echo "make venv     set-up alone; afterwards .venv/bin/nostro is the command"
	@echo "make verifier build/nostro-verify.pyz: the verifier as one file that any Python runs; and"
	@echo "              build/verify.html: as a page that any browser opens from disk"
	@echo "make sim      the ledger against its model, 50,000 steps; every bit of a file of evidence of"
	@echo "              each kind; the consensus simulator, 20,000 seeds and more: or of that alone"
	@echo "              ARGS='--seeds 0..999 --n 7'"
	@echo "make soak     every scenario of load and faults in full, on real processes, and judged"
	@echo "make bench    figures of this machine: ARGS='--catch-up', '--scale', … ('--help')"
	@echo "make format   reformat the code"
	@echo "make lock     resolve the dependencies anew (needs uv)"
	@echo "make clean    remove .venv, caches and the default devnet"

venv:
	@sh .ci/venv "$(PYTHON)"

devnet: venv
	@$(BIN)/nostro devnet up $(ARGS)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One line of pytest for everything, so that its last line counts every test that ran. Those in a
# browser are never skipped: where there is none and none can be installed, they fail.
test: check
	@sh .ci/chromium || true
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --durations=10

verifier: venv
	@$(BIN)/python -m node.audit.standalone.archive build/nostro-verify.pyz
	@$(BIN)/python -m node.audit.page build/verify.html

sim: venv
	$(if $(ARGS),,$(BIN)/python -m tests.support.settlement_machine --steps 50000)
	$(if $(ARGS),,$(BIN)/python -m tests.support.evidence_flips --jobs $(WORKERS))
	$(BIN)/python -m devnet.sim $(or $(ARGS),--suite --jobs $(WORKERS))

soak: venv
	$(BIN)/nostro devnet scenario --all $(ARGS)

bench: venv
	$(BIN)/python -m devnet.bench $(ARGS)

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# No address of a package index goes into the file: it installs from whichever index is set up.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade \
	  --quiet --output-file requirements.lock

clean:
	@if [ -x $(BIN)/nostro ] && [ -e .devnet/devnet.json ]; then $(BIN)/nostro devnet down; fi
	rm -rf .venv .devnet build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
