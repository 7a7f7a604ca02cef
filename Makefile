# `make demo` and `make test` do all set-up themselves. Everything is idempotent.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# Where to find torch's CPU build if the configured index has none: `make setup TORCH_INDEX=<url>`.
TORCH_INDEX ?=
DEMO_ARGS ?=

export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CONTRACTS := $(shell find contracts -name '*.sol')
# The tests that measure gas; what they measure is in snapshots/.
GAS_TESTS := $(addprefix tests/contracts/,EntryPoints.t.sol Gas.t.sol SortitionGas.t.sol CertificateVerifier.t.sol)

.PHONY: help setup model demo test lint test-python test-contracts invariants gas abi vectors audit prove constraints consensus clean

help:
	@echo "make demo     run the whole protocol once, on a real model and a real chain"
	@echo "make test     linters, Solidity tests, Python tests, one end-to-end run"
	@echo "make setup    only what the two need: Python and JS packages, contracts, model"
	@echo "make lint | test-python | test-contracts | invariants | gas | abi | vectors | audit | prove | consensus | clean"

setup: $(VENV)/.ready node_modules/.ready build/.ready model

$(VENV)/.ready: pyproject.toml constraints.txt deploy/scripts/setup-python.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH_INDEX="$(TORCH_INDEX)" bash deploy/scripts/setup-python.sh
	@touch $@

node_modules/.ready: package-lock.json $(VENV)/.ready
	@echo "==> JavaScript packages (npm ci)"
	@npm ci --no-fund --no-audit --loglevel=error
	@touch $@

build/.ready: $(CONTRACTS) hardhat.config.js node_modules/.ready
	@echo "==> contracts (npm's solc, nothing is downloaded)"
	@npm run --silent build
	@touch $@

model: $(VENV)/.ready
	@trine model prepare smollm2-135m-instruct >/dev/null

demo: setup
	@trine devnet demo $(DEMO_ARGS)

# Side by side: compiling Solidity keeps one core busy, the Python tests mostly another.
test: setup lint
	@$(MAKE) --no-print-directory -j2 test-contracts test-python

lint: $(VENV)/.ready node_modules/.ready build/.ready
	@echo "==> linters"
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	npm run --silent lint
	npm run --silent export -- --check
	python -m trine_devnet.addresses --check

test-contracts: build/.ready
	@echo "==> Solidity tests"
	npm run --silent test
	@echo "==> gas is what snapshots/ says"
	@: > .gas-snapshot
	npm run --silent test -- --snapshot-check $(GAS_TESTS)

# 200,000 random acts of all roles; the short run of the same is among the tests.
invariants: build/.ready
	npx hardhat test solidity --test-profile long tests/contracts/invariants/Protocol.t.sol

test-python: setup
	@echo "==> Python tests"
	pytest

# Hardhat also keeps and compares the gas of whole tests, in .gas-snapshot: that tells nothing here, so it is not in git
# and is emptied before a check, which fails without the file.
gas: build/.ready
	npm run --silent test -- --snapshot $(GAS_TESTS)
	@rm -f .gas-snapshot
	python benchmarks/gas.py

abi: build/.ready
	npm run --silent export
	python -m trine_devnet.addresses

vectors: $(VENV)/.ready
	for generator in tests/vectors/generate*.py; do python $$generator || exit 1; done

# Slither wants an older web3 than ours, so it lives in an environment of its own.
audit: build/.ready
	@test -x .slither-venv/bin/slither || ($(PYTHON) -m venv .slither-venv && .slither-venv/bin/pip install -q slither-analyzer==0.11.6)
	@npm run --silent audit
	.slither-venv/bin/slither .

# Symbolic proofs. Halmos lets Forge, npm's build of it, compile with npm's solc; both live in an environment of their
# own. A claim of tests/contracts/proofs is tried for at most five minutes a query.
prove: node_modules/.ready
	@test -x .halmos-venv/bin/halmos || ($(PYTHON) -m venv .halmos-venv && .halmos-venv/bin/pip install -q halmos==0.3.3)
	@test -x .halmos-venv/node_modules/.bin/forge || npm install --prefix .halmos-venv --no-save --no-fund --no-audit \
		--loglevel=error @foundry-rs/forge@1.7.1
	PATH="$(CURDIR)/.halmos-venv/node_modules/.bin:$$PATH" FOUNDRY_CONFIG="$(CURDIR)/tests/contracts/proofs/foundry.toml" \
		.halmos-venv/bin/halmos --root . --forge-build-out build/proofs/out --loop 20 --solver-timeout-assertion 300000

# TOPLOC's wheel was built for an older torch, so it is built here from its source package (a few minutes).
consensus: setup
	@python -c "import toploc" 2>/dev/null || pip install --quiet --no-deps --no-binary toploc --no-build-isolation toploc==0.1.6
	python benchmarks/consensus.py --json build/consensus.json

constraints: $(VENV)/.ready
	@bash deploy/scripts/freeze-constraints.sh

clean:
	rm -rf $(VENV) .slither-venv .halmos-venv node_modules build .trine .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
