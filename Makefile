# Every target sets up what it needs: a virtual environment in .venv with the versions of constraints.txt, made once.
# Python 3.11 or later is all that has to be there.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MOTO_STAMP := $(VENV)/.moto-installed
JOBS ?= auto
PYTEST_ARGS ?=
SOURCES = $(wildcard litestream_py tests tools benchmarks integration)

.DEFAULT_GOAL := help
.PHONY: help demo test lint type tidy bench soak docs venv clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */make \1\t/' | expand -t 14

demo: $(STAMP) ## replicate a live sample database to a folder, kill, restore, compare
	@$(BIN)/python tools/demo.py

test: $(STAMP) ## run all tests, those against a MinIO server among them
	@tools/s3-test-server $(BIN)/python || { [ -z "$$LSYNC_REQUIRE_MINIO" ] && $(MAKE) --no-print-directory $(MOTO_STAMP); }
	@$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 $(PYTEST_ARGS)

lint: $(STAMP) ## check style (ruff)
	@$(BIN)/ruff check $(SOURCES)

type: $(STAMP) ## check types (mypy --strict)
	@$(BIN)/mypy $(SOURCES)

tidy: $(STAMP) ## check the rules of this code base: layers, lengths, who may import what
	@$(BIN)/python -m pytest -q tests/test_tidy.py

bench: $(STAMP) ## measure speed, memory and latency; prints a table, writes JSON
	@$(BIN)/python -m benchmarks

soak: $(STAMP) ## the tests that take minutes: torture, kill -9, model
	@$(BIN)/python -m pytest -m soak --timeout 3600 $(PYTEST_ARGS)

docs: $(STAMP) ## write docs/metrics.md and docs/configuration.md again, from the code
	@PYTHONPATH=. $(BIN)/python tools/reference_docs.py

venv: $(STAMP) ## only set up .venv

clean: ## remove .venv and what tools and builds left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
	find litestream_py tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt tools/make-venv
	@tools/make-venv $(VENV)
	@rm -f $(MOTO_STAMP)
	@touch $@

$(MOTO_STAMP): $(STAMP) constraints-moto.txt
	@echo "setup: no MinIO to be had; installing moto's server for the S3 tests"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
		-c constraints.txt -c constraints-moto.txt --editable '.[moto]'
	@touch $@
