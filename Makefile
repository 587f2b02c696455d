# The main commands: `make demo` and `make test`.
PYTHON ?= $$(command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-annotate

# Most tests wait for servers and not for a processor, so there are more workers than processors.
WORKERS ?= $$(( $$(nproc) + 2 ))
PYTEST := $(BIN)/python -m pytest
COVERAGE :=

.PHONY: demo test test-quick coverage test-heavy test-all test-odd wheel lint locks schema docs docs-reference clean help

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: .venv/.forge ## Run the whole chain on this machine: compile, benchmark, sign, publish, install, serve
	@$(BIN)/python scripts/demo.py

test: .venv/.dev lint ## Run lint, the quick tests, and one real test of each slow class; 15 minutes
	@$(PYTEST) -n $(WORKERS) --group test
	@echo 'Not included: make test-heavy (builders, images, Dagger, kills), make test-all (all tests)'

test-quick: .venv/.dev ## Run the tests that install nothing and take seconds
	@$(PYTEST) -n $(WORKERS) --group quick $(COVERAGE)

coverage: COVERAGE := --cov --cov-report=term:skip-covered
coverage: test-quick ## Run test-quick with statement coverage; fails if it falls (pyproject.toml)

test-heavy: .venv/.dev ## Run the tests of NVIDIA's builders, images, Dagger, a sample of kills; 30 minutes
	@scripts/system-packages test-heavy
	@$(PYTEST) -n 3 --group heavy

test-all: .venv/.dev lint ## Run all tests and kills (hours); a part: FORGE_FAULTS_POINTS=30
	@scripts/system-packages test-heavy
	@FORGE_TEST_HYPOTHESIS=nightly FORGE_TEST_TRITON=real $(PYTEST) -n $(WORKERS) --group all

test-odd: .venv/.dev ## Run the unit tests under nohup, umask 077, without HOME, …: scripts/test-odd
	@scripts/test-odd

wheel: .venv/.forge ## Build the wheel of Forge in dist/ and print how to install it
	@scripts/wheel

lint: .venv/.dev ## Run ruff, mypy --strict, import-linter, codespell, deptry, words, schema
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@said=$$(PYTHONPATH=. $(BIN)/lint-imports 2>&1) || { echo "$$said"; exit 1; }
	@$(BIN)/codespell
	@$(BIN)/python scripts/check_words.py
	@said=$$($(BIN)/deptry . 2>&1) || { echo "$$said"; exit 1; }
	@$(BIN)/forge profile schema | diff -u artifacts/schema/profile.schema.json - \
		|| { echo 'The schema is outdated; run: make schema'; exit 1; }

schema: .venv/.dev ## Generate artifacts/schema/ from the code
	@$(BIN)/forge profile schema --write

docs: .venv/.forge ## Build the documentation as a site with search in dist/site; check its links
	@scripts/docs-site dist/site

docs-reference: .venv/.dev ## Generate the pages and diagrams of docs/ from the code
	@for page in command_reference python_reference diagrams; do \
		PYTHONPATH=.:scripts $(BIN)/python scripts/$$page.py || exit 1; done

locks: .venv/.dev ## Update every lock file
	$(LOCK) pyproject.toml --extra build --extra s3 --group build -o requirements.lock
	$(LOCK) pyproject.toml -c requirements.lock -o requirements-device.lock
	$(LOCK) pyproject.toml --extra s3 -c requirements.lock -o requirements-device-s3.lock
	$(LOCK) pyproject.toml --all-extras --group build --group dev -o requirements-dev.lock
	@for in in dockerfiles/*/requirements.in docs/requirements.in benchmarks/requirements.in benchmarks/aiperf/requirements.in \
		tests/clients/*/*.in; do \
		echo "$$in"; excludes=$$(dirname $$in)/excludes.txt; \
		$(LOCK) $$([ ! -e $$excludes ] || echo --excludes $$excludes) $$in -o $${in%.in}.lock; done
	@cd tests/clients/node && npm update --package-lock-only --ignore-scripts

clean: ## Delete what can be made again: environments, caches, results of the demo; never keys, never a store
	@[ ! -d .forge ] || chmod -R u+w .forge  # tool environments are read-only
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	[ ! -d .forge ] || find .forge -mindepth 1 -maxdepth 1 ! -name keys ! -name demo -exec rm -rf {} +
	[ ! -d .forge/demo ] || find .forge/demo -mindepth 1 -maxdepth 1 ! -name keys ! -name passphrase -exec rm -rf {} +
	@[ ! -e .forge/keys ] || echo 'To move the keys out of the checkout: forge keys move'
	@for kept in .forge/keys .forge/demo/keys artifacts/tuf; do [ ! -e $$kept ] || echo "Kept: $$kept"; done
	@[ ! -e artifacts/tuf ] || echo 'The keys and the store have no other copy here. To delete them: git clean -xdf .forge artifacts'

.venv/.base:
	@scripts/system-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Forge needs Python 3.11 or newer: apt-get install python3.11 python3.11-venv'; exit 1; }
	@echo "+ $(PYTHON) -m venv .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.forge: .venv/.base requirements.lock pyproject.toml
	@echo 'Installing the dependencies of Forge into .venv (requirements.lock, with hashes):'
	@echo '  tuf, securesystemslib, model-signing  signing and verification; boto3  S3 stores;'
	@echo '  starlette, uvicorn, httpx  the API in front of Triton; uv  tool environments; about 200 MB, a minute'
	@$(PIP_INSTALL) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.forge requirements-dev.lock
	@scripts/system-packages test
	@echo 'Installing the test tools into .venv (requirements-dev.lock)'
	@$(PIP_INSTALL) -r requirements-dev.lock
	@touch $@
