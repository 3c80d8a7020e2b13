# `make help` says what each target is for.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
BIN := .venv/bin
TESTS ?= tests

.PHONY: help setup check test run fmt docs bench bench-catalogue clients lock tools

help: ## what each target is for
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: ## install everything locked into .venv; makes .venv/bin/portico
	@scripts/setup_python.sh

tools: setup ## install what the tests run beside Python: Node tools and PostgreSQL
	@scripts/install_node_tools.sh
	@scripts/install_postgresql.sh

check: setup ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test clients: export PYTHONWARNDEFAULTENCODING = 1
test: tools ## every test: two at a time, then by themselves those that measure time
	$(BIN)/pytest $(TESTS) -m "not alone" -n 2 --dist loadfile
	$(BIN)/pytest $(TESTS) -m alone || [[ $$? == 5 && $(TESTS) != tests ]] # 5: none among those asked for

clients: tools ## the real Claude Code and MCP Inspector against a running Portico
	$(BIN)/pytest tests/clients -v

run: setup ## Portico in front of the three upstreams of examples/quickstart, until Ctrl-C
	@$(BIN)/python examples/quickstart/run.py --serve

fmt: setup ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## write the generated documents anew
	$(BIN)/python scripts/write_docs.py

bench: setup ## what a call costs, against its floor
	$(BIN)/python bench/run.py

bench-catalogue: setup ## 10,000 tools for 1,000 principals: time and memory
	$(BIN)/python bench/catalogue.py

lock: setup ## resolve pyproject.toml into requirements.lock; UPGRADE=1 takes the newest
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --all-extras --group dev \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		$(if $(UPGRADE),--upgrade) --output-file requirements.lock
