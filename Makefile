# `make demo` shows a MAP-T network at work, `make test` runs every test. Both want root and Debian 12 or Ubuntu.
SHELL := bash
VENV := .cache/venv
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: help test demo demo-down lint sanity unit build molecule clean
help:
	@echo "make demo       a MAP-T network in containers: deployed, shown at work, left running"
	@echo "make demo-down  stops it"
	@echo "make test       every test; or one of: make lint, sanity, unit, build, molecule"

test: $(VENV)/ready
	@$(IN_VENV) tests/run

lint sanity unit build molecule: $(VENV)/ready
	@$(IN_VENV) tests/run $@

demo: $(VENV)/ready
	@$(IN_VENV) tests/demo

demo-down: $(VENV)/ready
	@$(IN_VENV) tests/demo down

$(VENV)/ready: tests/requirements.txt tests/bootstrap
	@tests/bootstrap $(VENV)

clean:
	rm -rf .cache
