# The two commands that matter: `make demo` and `make test`.
PYTHON ?= $$(command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-annotate

HEAVY := builders or images or dagger

.PHONY: demo test test-heavy test-faults test-quick lint locks schema clean help

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: .venv/.forge ## The whole chain on this machine: compile, measure, sign, publish, pull, serve, ask
	@$(BIN)/python scripts/demo.py

test: .venv/.dev lint ## Lint, types, import rules, schema, and every test but the exhaustive ones
	@scripts/system-packages test-heavy
	@$(BIN)/python scripts/test.py -m 'not exhaustive'
	@echo 'Not run here, every kill and not some of them: make test-faults'

test-heavy: .venv/.dev ## Only the groups with gigabytes of tools: NVIDIA's builders, images, Dagger
	@scripts/system-packages test-heavy
	@$(BIN)/python -m pytest -m '$(HEAVY)'

test-faults: .venv/.dev ## Every kill, power cut and ill disk; hours, or a part: FORGE_FAULTS_POINTS=30
	@$(BIN)/python -m pytest -m exhaustive -s

test-quick: .venv/.dev ## The tests that take seconds
	@$(BIN)/python -m pytest -m 'not slow and not network and not exhaustive and not ($(HEAVY))' tests

lint: .venv/.dev ## ruff, mypy --strict, import-linter, codespell, schema
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@said=$$(PYTHONPATH=. $(BIN)/lint-imports 2>&1) || { echo "$$said"; exit 1; }
	@$(BIN)/codespell
	@$(BIN)/forge profile schema | diff -u artifacts/schema/profile.schema.json - \
		|| { echo 'The schema is not what the code says; run: make schema'; exit 1; }

schema: .venv/.dev ## Write artifacts/schema/ anew from the code
	@$(BIN)/forge profile schema --write

locks: .venv/.dev ## Pin every requirements file anew
	$(LOCK) pyproject.toml --group build -o requirements.lock
	$(LOCK) pyproject.toml --extra dagger --group build --group dev -o requirements-dev.lock
	@for in in dockerfiles/*/requirements.in benchmarks/requirements.in; do \
		echo "$$in"; $(LOCK) $$in -o $${in%.in}.lock; done

clean: ## Delete what was built here: environment, store, caches (not your keys elsewhere)
	rm -rf .venv .forge .mypy_cache .ruff_cache .pytest_cache
	find artifacts -mindepth 1 -maxdepth 1 ! -name README.md ! -name schema -exec rm -rf {} +

.venv/.base:
	@scripts/system-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Forge needs Python 3.11 or newer: apt-get install python3.11 python3.11-venv'; exit 1; }
	@echo "+ $(PYTHON) -m venv .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.forge: .venv/.base requirements.lock pyproject.toml
	@echo 'Installing what Forge itself needs into .venv (requirements.lock, every file checked by its hash):'
	@echo '  tuf, securesystemslib, model-signing  to sign and to believe; boto3  S3 stores;'
	@echo '  fastapi, uvicorn, httpx  the API in front of Triton; uv  tool environments; about 200 MB, a minute'
	@$(PIP_INSTALL) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.forge requirements-dev.lock
	@scripts/system-packages test
	@echo 'Installing the test tools into .venv (requirements-dev.lock)'
	@$(PIP_INSTALL) -r requirements-dev.lock
	@touch $@
