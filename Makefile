# The same few targets by hand and in CI. `make demo` and `make test` need nothing but Python 3.11 and a network.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo dev check page ui test fuzz chaos bench clean lock servers

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.run  ## .venv with eot and what the main job needs: no torch, every file checked by its hash

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## bring the weights and let three local models exchange their thoughts on a question
	$(BIN)/eot models pull council --config demo.toml
	$(BIN)/eot ask --config demo.toml --full "A shop sells pens in boxes of 12. Ann buys 3 boxes, gives 8 pens away and shares the rest equally among 4 friends. How many pens does each friend get?"

dev: $(VENV)/.dev

$(VENV)/.dev: $(VENV)/.run requirements/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint requirements/constraints.txt --group dev ".[all]"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

check: dev  ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

page: ui  ## build it, and say whether the built files in the repository are what it gives
	git diff --exit-code --stat -- api/page
	@test -z "$$(git status --porcelain -- api/page)"

ui:  ## build the chat page into api/page (Node 20; what is built lies in the repository)
	cd ui && npm ci --no-audit --no-fund && npm run check && npm test && npm run build

wanted = command -v $(1) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	&& { apt-get update -qq; apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }; } \
	|| { echo "the tests want $(1): apt-get install $(1)" >&2; exit 1; }

servers:
	@$(call wanted,redis-server)
	@$(call wanted,chromium)
	@if [ -d ui/node_modules/axe-core ]; then :; \
	elif command -v npm >/dev/null; then cd ui && npm ci --silent --no-audit --no-fund; \
	else echo "NO NPM: the chat page's accessibility is NOT checked (tests/test_page.py skips it); install Node 20 and npm" >&2; fi

test: dev servers  ## bring what the tests want (small models, redis-server, chromium), and run every test
	$(BIN)/eot models pull smollm2-135m qwen2.5-coder-0.5b all-minilm-l6-v2
	$(BIN)/python -m pytest

bench: dev  ## the figures of docs/results, each by its script
	$(BIN)/eot models pull qwen2.5-coder-0.5b
	$(BIN)/python benchmarks/orchestration.py
	$(BIN)/python benchmarks/vote.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/jobs.py
	$(BIN)/python benchmarks/service.py
	$(BIN)/python benchmarks/moe.py
	$(BIN)/python benchmarks/grafting.py

LOCK := $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: dev  ## renew the two locks, within the versions of requirements/constraints.txt
	$(BIN)/python -m pip install --quiet pip-tools
	$(LOCK) -c requirements/constraints.txt -o requirements/run.txt pyproject.toml
	$(LOCK) -c requirements/constraints.txt -o requirements/build.txt requirements/build.in

fuzz: dev  ## 10,000 requests drawn from the OpenAPI, none of which may be answered with a 500
	FUZZ_CASES=10000 $(BIN)/python -m pytest -s tests/test_service_fuzz.py

chaos: dev  ## 2,000 requests while workers, servers and Redis are killed, frozen and starved: none may be lost or doubled
	$(BIN)/python benchmarks/chaos.py
	$(BIN)/python benchmarks/chaos.py --embedded

clean:  ## remove what was built here; the weights stay in ~/.cache/eot
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
