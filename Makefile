# `make demo` and `make test` do all set-up themselves. Everything is idempotent.

# PYTHON names another Python than python3 for the virtual environment, VENV another folder for it, and TORCH_INDEX an
# index that has torch's CPU build, where the configured one has none.
VENV := .venv
BIN := $(abspath $(VENV))/bin
DEMO_ARGS ?=

export PYTHON VENV TORCH_INDEX
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Set in many images: every process would compile torch and transformers anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

CONTRACTS := $(shell find contracts -name '*.sol')
PACKAGES := $(addsuffix /pyproject.toml,client_sdk operators gateway node verifier deploy) deploy/scripts/install.py \
	$(addprefix deploy/requirements/,$(addsuffix .txt,runtime torch-cpu torch-cuda))

# Steps of set-up that do not need one another run side by side.
side_by_side = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j4)

.PHONY: help demo check test test-long setup setup-dev demo-parts dev-parts model kernels \
	lint lint-python lint-contracts lint-workflows stale \
	gpu test-rest test-fast test-slow test-units test-e2e test-contracts test-js invariants mutants studies soak \
	faults abi vectors gas migration lock hooks docs examples tools audit prove consensus clean

help:
	@sed -nE 's/^##( |$$)//p' Makefile

## make demo        the whole protocol once, on a real model and a real chain
## make check       linters, types and the fast tests: seconds to two minutes
## make test        everything that a change must pass: linters, Solidity, Python, end to end
## make test-long   what takes longer: hundreds of thousands of random acts, studies, a soak of the network, faults
##
## make setup       only what `make demo` needs; `make setup-dev`: what `make test` needs. Both do it themselves
## make lint        the quick half of `make check`; `make hooks` runs it before every commit
## make test-fast | test-slow | test-units | test-e2e | test-contracts | test-js | invariants      one part of the tests
## make abi | vectors | gas       writes what is generated from the contracts and the protocol
## make migration M="what changed"      writes a revision for changed tables of the operators' stores
## make lock        writes deploy/requirements: exact versions and hashes (UPGRADE=1: the newest)
## make docs        the documentation as a site, in build/site
## make gpu         everything that is to be measured on a GPU, in a quarter of an hour (docs/gpu-day.md)
## make examples    docs/examples on a devnet, with LangChain, LiteLLM and the notebook
## make tools       a model that calls tools, on a devnet
## make audit | prove | consensus      Slither; Halmos; TOPLOC beside Trine
## make clean       removes everything that set-up and tests have made here
##
## PYTHON=python3.13   another Python     VENV=folder   another environment     TORCH_INDEX=url   has torch's CPU build

# An environment of another Python than the one that is asked for is not used silently.
fits = $(if $(PYTHON),bash deploy/scripts/setup-python.sh check)

setup:
	@$(fits)
	+@$(side_by_side) demo-parts

setup-dev:
	@$(fits)
	+@$(side_by_side) dev-parts

demo-parts: $(VENV)/.runtime node_modules/.runtime $(VENV)/.model $(VENV)/.kernels
	@:
dev-parts: $(VENV)/.ready node_modules/.ready $(VENV)/.model $(VENV)/.kernels
	@:

# First an environment with uv, and Node in it where the machine's is not new enough: then npm and uv can work at once.
$(VENV)/.node-runtime $(VENV)/.node-ready: $(VENV)/.node-%: deploy/requirements/uv.txt deploy/requirements/node.txt
	@bash deploy/scripts/setup-python.sh $*
	@touch $@

# What tests need includes what the demo needs.
$(VENV)/.runtime: $(PACKAGES) | $(VENV)/.node-runtime
	@python deploy/scripts/install.py runtime
	@touch $@

$(VENV)/.ready: $(PACKAGES) deploy/requirements/development.txt | $(VENV)/.node-ready
	@python deploy/scripts/install.py ready
	@touch $(VENV)/.runtime $@

node_modules/.runtime: package-lock.json | $(VENV)/.node-runtime
	@bash deploy/scripts/setup-node.sh runtime
	@touch $@

node_modules/.ready: package-lock.json | $(VENV)/.node-ready
	@bash deploy/scripts/setup-node.sh ready
	@touch node_modules/.runtime $@

build/.ready: $(CONTRACTS) hardhat.config.js node_modules/.ready
	@echo "==> contracts (npm's solc, nothing is downloaded)"
	@output=$$(npm run --silent build 2>&1) || { printf '%s\n' "$$output"; exit 1; }
	@touch $@

# In the user's cache folder: the model for all checkouts, kernels for this one. Operators would make them, too, when
# they start, but one after the other.
$(VENV)/.model $(VENV)/.kernels: | $(if $(filter dev-parts,$(MAKECMDGOALS)),$(VENV)/.ready,$(VENV)/.runtime)

$(VENV)/.model: client_sdk/trine/data/models/smollm2-135m-instruct/model.json
	@trine model prepare smollm2-135m-instruct >/dev/null
	@touch $@

$(VENV)/.kernels: $(wildcard node/trine_node/engines/kernels/*.py)
	@trine engine compile >/dev/null
	@touch $@

demo: setup
	@trine devnet demo $(DEMO_ARGS)

# One after the other, also under -j: an error at the end of the output is the one that stopped it.
check: setup-dev
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-fast

# Side by side: end-to-end tests wait for blocks and deadlines half of their time, so two cores have three lanes. Slow
# units take longest, by half.
test: setup-dev
	@$(MAKE) --no-print-directory -j3 test-e2e test-slow test-rest
	@echo "==> everything passed"

test-rest: build/.ready
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory stale
	@$(MAKE) --no-print-directory test-contracts
	@$(MAKE) --no-print-directory test-js
	@$(MAKE) --no-print-directory docs
	@$(MAKE) --no-print-directory test-fast

test-long: setup-dev
	@$(MAKE) --no-print-directory invariants
	@$(MAKE) --no-print-directory studies
	@$(MAKE) --no-print-directory soak
	@$(MAKE) --no-print-directory faults

lint: lint-python lint-contracts lint-workflows

lint-python: $(VENV)/.ready
	@echo "==> Python: style, format, types, imports"
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo

lint-contracts: node_modules/.ready
	@echo "==> Solidity: style"
	npm run --silent lint

lint-workflows: $(VENV)/.ready
	@echo "==> workflows: GitHub's schema"
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# What is generated from the contracts is in git, and must be what they give now.
stale: build/.ready
	@echo "==> what is generated is up to date"
	npm run --silent export -- --check
	python -m trine_devnet.addresses --check

test-fast: setup-dev
	@echo "==> fast Python tests"
	pytest tests/unit -m "not slow"

test-slow: setup-dev
	@echo "==> Python unit tests that load a model, or start processes or a chain"
	pytest tests/unit -m slow

test-units: setup-dev
	@echo "==> Python unit tests"
	pytest tests/unit

# One of them deploys by Ignition, with the compiler's output.
test-e2e: setup-dev build/.ready
	@echo "==> end-to-end tests"
	pytest tests/e2e --timeout 1200

# Hardhat also keeps and compares the gas of whole tests, in .gas-snapshot: that tells nothing here, so it is not in git
# and is emptied before a check, which fails without the file. A filter, even one that lets all tests pass, keeps the
# check from listing them.
test-contracts: build/.ready
	@echo "==> Solidity tests; gas is what snapshots/ says"
	@: > .gas-snapshot
	npm run --silent test -- --snapshot-check --grep .

# Certificates read in JavaScript, with the vectors that Python is tested with.
test-js: node_modules/.ready
	@echo "==> JavaScript"
	npm run --silent test-js

# 200,000 random acts of all roles; the short run of the same is among the tests.
invariants: build/.ready
	npm run --silent test -- --test-profile long tests/contracts/invariants/Protocol.t.sol

# Whether the Solidity tests notice when a contract is changed: a random sample of all changes, seconds to a minute of a
# core each; it may be stopped and goes on. MUTANTS="contracts/Finality.sol --all": those of one contract.
mutants: build/.ready
	python deploy/scripts/mutants.py $(MUTANTS) --minutes 120

# What the documents' figures come from, short enough for an hour.
studies: setup-dev
	trine-study majority --json build/majority.json
	trine-study tournament --json build/tournament.json --plot build/tournament.png
	trine-study billion --random 31623,31623
	trine-study calibrate smollm2-135m-instruct --prompts 20 --cheat-prompts 4 --tokens 32 --threads 2 --out build/study

# The demo's network again and again, with more and longer answers; each run must end as it should.
soak: setup-dev
	@for cheat in always-accept colluding never-reveal waiting; do \
		trine devnet demo --max-tokens 128 --cheating-verifier $$cheat \
			--prompt "Why is the sea salty?" --prompt "Name three rivers." --prompt "Tell me a fable." || exit 1; \
	done

# Kills, re-orgs, faulty RPC endpoints and the rest, and what must hold after them.
faults: setup-dev
	python benchmarks/faults.py --minutes 20 --json build/faults.json

# GPU_ARGS="--device cpu --reduced": the rehearsal. Minutes of set-up would be wasted on a machine without a GPU.
gpu:
	@test -n "$(findstring cpu,$(GPU_ARGS))" || nvidia-smi -L 2>/dev/null | grep -q GPU || { \
		echo "make gpu: no NVIDIA GPU here (\`nvidia-smi -L\` lists none), so nothing was begun; the rehearsal on a CPU is" \
			"\`make gpu GPU_ARGS='--device cpu --reduced'\`, and docs/gpu-day.md says how a machine with one is used" >&2; \
		exit 1; }
	+@$(MAKE) --no-print-directory setup-dev
	python benchmarks/gpu_day.py run $(GPU_ARGS)

gas: build/.ready
	npm run --silent test -- --snapshot
	@rm -f .gas-snapshot
	python benchmarks/gas.py

abi: build/.ready
	npm run --silent export
	python -m trine_devnet.addresses

vectors: $(VENV)/.ready
	for generator in tests/vectors/generate*.py; do python $$generator || exit 1; done

# Slither and Halmos want other versions of what we use, so they live in environments of their own.
.%-venv/.ready: deploy/requirements/%.txt | $(VENV)/.ready
	python -m venv --clear .$*-venv
	uv pip install --quiet --python .$*-venv/bin/python --require-hashes --no-deps --no-build -r $<
	@touch $@

# Pages and reference as a site that needs no server. A link or an anchor that leads nowhere is an error.
docs: .docs-venv/.ready
	@echo "==> documentation: pages, links, reference"
	@NO_MKDOCS_2_WARNING=1 .docs-venv/bin/mkdocs build --quiet --clean --config-file deploy/docs/mkdocs.yml
	@echo "open build/site/index.html"

audit: build/.ready .slither-venv/.ready
	@npm run --silent audit
	.slither-venv/bin/slither .

# A larger model, whose template knows tools: half a gigabyte to fetch, 2.5 on disk, 12 of memory for its network.
tools: setup-dev build/.ready
	@trine model prepare qwen2.5-coder-0.5b-instruct >/dev/null
	@echo "==> tools, on a devnet"
	pytest tests/e2e/test_tools_live.py

# The examples, those with libraries of others included: these live in an environment of their own, which `make
# test-e2e` uses where it is there.
examples: setup-dev build/.ready .examples-venv/.ready
	@echo "==> examples, on a devnet"
	pytest tests/e2e/test_examples.py

# Symbolic proofs. Halmos lets Forge, npm's build of it, compile with npm's solc. A claim of tests/contracts/proofs is
# tried for at most five minutes a query.
prove: node_modules/.ready .halmos-venv/.ready
	@test -x .halmos-venv/node_modules/.bin/forge || npm install --prefix .halmos-venv --no-save --no-fund --no-audit \
		--loglevel=error @foundry-rs/forge@1.7.1
	PATH="$(CURDIR)/.halmos-venv/node_modules/.bin:$$PATH" FOUNDRY_CONFIG="$(CURDIR)/tests/contracts/proofs/foundry.toml" \
		.halmos-venv/bin/halmos --root . --forge-build-out build/proofs/out --loop 20 --solver-timeout-assertion 300000

# TOPLOC's wheel was built for an older torch, so it is built here from its source package (a few minutes).
consensus: setup-dev
	@python -c "import toploc" 2>/dev/null || pip install --quiet --no-deps --no-binary toploc --no-build-isolation toploc==0.1.6
	python benchmarks/consensus.py --json build/consensus.json

migration: $(VENV)/.ready
	@python deploy/scripts/migration.py $(M)

lock: $(VENV)/.runtime
	@echo "==> exact versions and hashes"
	@python deploy/scripts/lock.py

hooks: $(VENV)/.ready
	prek install

clean:
	rm -rf $(VENV) .slither-venv .halmos-venv .docs-venv .examples-venv node_modules build .trine .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
