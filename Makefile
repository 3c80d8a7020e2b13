# `make help` says what each target is for.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
BIN := .venv/bin
TESTS ?= tests

.PHONY: help setup check test run fmt docs bench bench-catalogue clients conformance fuzz lock matrix soak tools

help: ## what each target is for
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: ## install everything locked into .venv; makes .venv/bin/portico
	@scripts/setup_python.sh

tools: setup ## install what the tests run beside Python: Node tools, PostgreSQL, Redis, Prometheus
	@scripts/install_node_tools.sh
	@scripts/install_postgresql.sh
	@scripts/install_redis.sh
	@scripts/install_prometheus.sh

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

conformance: tools ## the protocol's own conformance kit, with exact counts; PARTS=client for one part
	$(BIN)/python -m tests.conformance.run $(PARTS)

fuzz: setup ## inputs from outside made by the million; MINUTES=10 for all, TARGET=name for one
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
		|| $(BIN)/python -m pip install -q --require-hashes --only-binary :all: -r requirements-fuzz.lock \
		|| echo "atheris is not for this machine: inputs are made without looking at coverage."
	nice -n 10 $(BIN)/python -m tests.fuzz.run --minutes $(or $(MINUTES),10) $(if $(TARGET),--target $(TARGET))

matrix: tools ## every client with every upstream, each feature: docs/ERAS.md
	$(BIN)/pytest tests/matrix -n 2 --dist loadgroup

soak: setup ## 100 clients, upstreams that fail at random: memory, leaks, the record; MINUTES=15
	$(BIN)/python -m tests.soak.soak --minutes $(or $(MINUTES),15)

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
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group fuzz \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		$(if $(UPGRADE),--upgrade) --output-file requirements-fuzz.lock
