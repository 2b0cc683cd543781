# The two commands of the README: `make dev` and `make test`. The others are for those who work on the product.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
GRAPHIQL := app/web/graphiql/static/index.html
GRAPHIQL_SOURCES := $(wildcard app/web/graphiql/page/*.* app/web/graphiql/page/src/*)

.PHONY: dev graphiql test bench bench-growth bench-batch bench-memory bench-workers bench-dashboard bench-export bench-retrieval bench-recall bench-ingest lint format lock sdl clean

dev: $(RUN_STAMP) $(GRAPHIQL)  ## A running server with a database and sample data in it
	@$(BIN)/konstruct dev $(ARGS)

graphiql: $(RUN_STAMP)  ## GraphiQL's page, from its sources, with the system's Node or PyPI's
	@$(BIN)/python -m app.web.graphiql.build

test: $(DEV_STAMP)  ## The whole test suite, on a real PostgreSQL
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

bench: $(DEV_STAMP)  ## Speed beside two peers, into benchmarks/RESULTS.md (needs wrk and Node 22 or later)
	npm ci --prefix benchmarks/peers --no-audit --no-fund
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-growth bench-batch bench-memory bench-workers bench-dashboard bench-export bench-retrieval bench-recall bench-ingest: bench-%: $(DEV_STAMP)  ## One more measurement (CONTRIBUTING.md)
	$(BIN)/python -m benchmarks.$* $(ARGS)

lint: $(DEV_STAMP)  ## Style, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)  ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

sdl: $(DEV_STAMP)  ## Write graphql_schema/schema.graphql from the code
	$(BIN)/python -c "from graphql_schema.schema import print_sdl; print(print_sdl(), end='')" > graphql_schema/schema.graphql

lock: $(DEV_STAMP)  ## Pin the newest versions that pyproject.toml allows, with hashes
	$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --strip-extras --allow-unsafe --extra embedded -o requirements.lock pyproject.toml
	$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --strip-extras --allow-unsafe --extra embedded --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --strip-extras --allow-unsafe --only-build-deps --build-deps-for wheel -o requirements-build.lock pyproject.toml

clean:  ## Remove what `make` made, the development database too
	rm -rf app/web/graphiql/static app/web/graphiql/page/node_modules
	rm -rf $(VENV) .konstruct .mypy_cache .ruff_cache .pytest_cache

# Whatever keeps it from being built, such as no way to the npm registry, does not keep the server from running.
$(GRAPHIQL): $(GRAPHIQL_SOURCES) | $(RUN_STAMP)
	@$(BIN)/python -m app.web.graphiql.build || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("konstruct: Python 3.11 or later is needed, this is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# Compiled on all cores after the installation, which would do it on one.
$(RUN_STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Konstruct and what it needs ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(DEV_STAMP): requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing Konstruct, what it needs and the tools to test it ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
