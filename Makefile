# Everything a fresh machine with Python >= 3.11, Node >= 20 and make needs. `make help` lists the targets.

PYTHON ?= python3
PORT ?= 8000
DATA ?= data
BIN := .venv/bin
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -type f -print 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: run test lint bench fuzz clean help setup web requirements

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: setup web  ## build everything, start one node, print its URL (PORT=8123, DATA=folder)
	@$(BIN)/tutti serve --port $(PORT) --data-dir $(DATA)

test: setup web tests/node/node_modules/.stamp  ## run all tests (BROWSER=none leaves the browser out)
	@$(PYTHON) scripts/need.py chromium strace
	cd web && npm test --silent
	$(BIN)/pytest

lint: setup web/node_modules/.stamp  ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd web && npm run --silent check

bench: setup tests/node/node_modules/.stamp  ## CPU per delivery beside y-websocket's own server (ARGS="--help")
	$(BIN)/python -m loadtest.bench $(ARGS)

setup: .venv/.stamp

web: server/static/.stamp

.venv/.stamp: requirements/dev.txt pyproject.toml
	@$(PYTHON) scripts/need.py python
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

web/node_modules/.stamp: web/package.json web/package-lock.json
	@$(PYTHON) scripts/need.py node
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

server/static/.stamp: web/node_modules/.stamp $(WEB_SOURCES)
	cd web && npm run --silent build
	@touch $@

tests/node/node_modules/.stamp: tests/node/package.json tests/node/package-lock.json
	@$(PYTHON) scripts/need.py node
	cd tests/node && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

requirements: setup  ## pin the newest versions that requirements/*.in allow, with hashes
	cd requirements && for name in base dev; do ../$(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe \
		--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
		--output-file $$name.txt $$name.in; done

clean:  ## remove what was built (data/ stays)
	rm -rf .venv web/node_modules tests/node/node_modules server/static dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
