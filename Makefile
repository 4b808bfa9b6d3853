# `make demo` shows a MAP network at work, `make test` runs the tests. Both want root and Debian 12 or Ubuntu.
SHELL := bash
DEMO ?= map-t
IN_VENV = PATH="$(CURDIR)/.cache/$(1)/bin:$$PATH"

.PHONY: help test faults demo demo-down lint docs sanity unit build molecule bench-br clean
help:
	@echo "make demo       a MAP-T network in containers: deployed, shown at work, left running"
	@echo "                (DEMO=map-e: a MAP-E network with two border relays)"
	@echo "make demo-down  stops it"
	@echo "make test       the tests; or one of: make lint, docs, sanity, unit, build, molecule"
	@echo "                (make docs also leaves the documentation as a site in .cache/docs/html)"
	@echo "make faults     routers that are killed, cut off and starved during a deployment, up to an hour more"
	@echo "make bench-br   what a packet costs at a border relay, see docs/benchmarks.md"

test: .cache/tests/ready
	@$(call IN_VENV,tests) tests/run

lint docs sanity unit build molecule: .cache/tests/ready
	@$(call IN_VENV,tests) tests/run $@

faults: .cache/tests/ready
	@$(call IN_VENV,tests) tests/run molecule-faults

bench-br: .cache/tests/ready
	@$(call IN_VENV,tests) tests/bench/br/run

demo: .cache/demo/ready
	@$(call IN_VENV,demo) tests/demo $(DEMO)

demo-down: .cache/demo/ready
	@$(call IN_VENV,demo) tests/demo down

.cache/tests/ready: tests/requirements.txt tests/bootstrap
	@tests/bootstrap .cache/tests tests/requirements.txt

.cache/demo/ready: requirements.txt tests/bootstrap
	@tests/bootstrap .cache/demo requirements.txt

clean:
	rm -rf .cache
