# The commands of this repository; each sets up its own virtual environment first.
#   make demo ARGS=--once    the product on this machine, with a simulated upstream
#   make test ARGS="-k e2e"  the tests (ARGS go to pytest); ARGS="-m slow" those of half a minute each
#   make test-stores         what speaks to the store, on every kind of it (STORES=redis7,cluster TESTS=…)
#   make test-deploy        what is under deploy/, each file by its own tool
#   make chaos               200 rounds of faults; ARGS="--seed 7 --round 13" replays one (docs/chaos.md)
#   make observe             alerts and dashboards against a live gateway; needs Debian's prometheus
#   make faults              what breaks × what callers see; ARGS="store-down disk-full" chooses
#   make pause               a replica that stands still for a minute between winning a picture and ordering it
#   make stall               stores that stand still for ten seconds, or say no for a minute, under load
#   make bench               what the books take per second on this machine
#   make bench-polling       how soon ends are noticed, and for how many polls, by schedule
#   make clients             stock clients, each in an environment of its own, against the product
#   make fuzz                the document at /openapi.json, calls, forms and upstreams: tried for minutes each
#   make bench-memory        what large answers and large uploads take in memory, over idle
#   make bench-tasks         what 5,000 tasks at once cost one gateway, and how late it polls
#   make bench-traces        what traces cost, side by side
#   make check               format, lint, types, floors, mirror, lengths; changes nothing

.PHONY: demo test test-stores test-deploy clients fuzz stall pause chaos faults observe observe-short check bench bench-memory bench-polling bench-tasks bench-traces

STORES ?= redis7,redis8,sentinel,cluster
TESTS ?= tests/integration

demo: .venv/.demo
	@.venv/bin/gateway demo $(ARGS)

test: .venv/.dev
	@scripts/test $(ARGS)

test-stores: .venv/.dev
	@scripts/test -n 4 --stores=$(STORES) $(TESTS) $(ARGS)

test-deploy: .venv/.dev .venv/.deploy
	@scripts/test tests/deploy $(ARGS)

fuzz: .venv/.dev
	@scripts/test -m fuzz $(ARGS)

stall: .venv/.dev
	@scripts/test -m stall tests/e2e/test_store_stall.py tests/e2e/test_store_of_pictures_down.py $(ARGS)

pause: .venv/.dev
	@scripts/test -m pause tests/e2e/test_recovery.py $(ARGS)

clients: .venv/.dev
	@.venv/bin/python -m tests.clients.run $(ARGS)

chaos: .venv/.dev
	@.venv/bin/python -m tests.chaos.run $(ARGS)

faults: .venv/.dev
	@.venv/bin/python -m tests.faults.run $(ARGS)

observe: .venv/.observe
	@.venv/bin/python -m tests.observe.run $(ARGS)

observe-short: .venv/.dev
	@.venv/bin/python -m tests.observe.run --short $(ARGS)

check: .venv/.dev
	@scripts/check

bench: .venv/.dev
	@.venv/bin/python scripts/bench_ledger.py

bench-polling: .venv/.dev
	@.venv/bin/python scripts/bench_polling.py

bench-memory: .venv/.dev
	@.venv/bin/python scripts/bench_memory.py $(ARGS)

bench-tasks: .venv/.dev
	@.venv/bin/python scripts/bench_tasks.py $(ARGS)

bench-traces: .venv/.dev
	@.venv/bin/python scripts/bench_traces.py $(ARGS)

.venv/.demo: pyproject.toml constraints.txt scripts/install
	@scripts/install demo

.venv/.observe: pyproject.toml constraints.txt scripts/install
	@scripts/install observe

.venv/.dev: pyproject.toml constraints.txt scripts/install
	@scripts/install dev

.venv/.deploy: pyproject.toml constraints.txt scripts/install
	@scripts/install deploy
