# `make unit` tests a change, on any machine and without root; `make test` runs everything, as root on Debian 12 or Ubuntu.
# `make demo` shows a MAP network at work, as root, too.
SHELL := bash
DEMO ?= map-t
IN_VENV = PATH="$(CURDIR)/.cache/$(1)/bin:$$PATH"

.PHONY: help test unit kernel verifier lint docs sanity build install molecule faults kills programs bench-packet demo demo-down clean
help:
	@echo "make unit       the tests that need no root and no network"
	@echo "make lint       linters and formatters; make sanity what Ansible asks of a collection; make build the artifact"
	@echo "make docs       the documentation, left as a site in .cache/docs/html"
	@echo "make kernel     the tests that need root and the kernel: BPF, nftables, namespaces, servers"
	@echo "make verifier   the BPF objects on Debian's kernels from 5.10 to 6.12, each in a virtual machine; needs root"
	@echo "make install    the README's own commands on a machine with nothing on it; needs a Python package index"
	@echo "make molecule   a MAP-T network in containers, with real packets; needs root"
	@echo "make test       all of these, and a MAP-E network"
	@echo "make faults     routers that are killed, cut off and starved during a deployment, up to an hour more"
	@echo "make kills      routers that are killed at 200 random moments of a deployment, more than an hour"
	@echo "make programs   the BPF objects beside their sources, compiled anew; on Debian 12"
	@echo "make demo       a MAP-T network in containers: deployed, shown at work, left running"
	@echo "                (DEMO=map-e: a MAP-E network with two border relays)"
	@echo "make demo-down  stops it"
	@echo "make bench-packet   what a packet costs at a border relay and at a customer edge, see docs/benchmarks.md"

test: .cache/tests/ready
	@tests/bootstrap packages tests
	@$(call IN_VENV,tests) tests/run

unit lint docs sanity verifier build install: .cache/tests/ready
	@$(call IN_VENV,tests) tests/run $@

# Without root the tests of the kernel are skipped, and say so.
kernel: .cache/tests/ready
	@[ $$(id -u) != 0 ] || tests/bootstrap packages tests
	@$(call IN_VENV,tests) tests/run $@

molecule: .cache/tests/ready
	@tests/bootstrap packages tests
	@$(call IN_VENV,tests) tests/run $@

faults: .cache/tests/ready
	@tests/bootstrap packages tests
	@$(call IN_VENV,tests) tests/run molecule-faults

kills: .cache/tests/ready
	@tests/bootstrap packages tests
	@$(call IN_VENV,tests) tests/run molecule-kills

programs:
	@[ $$(id -u) != 0 ] || tests/bootstrap packages tests
	@python3 tests/helpers/bpf_objects.py

bench-packet: .cache/tests/ready
	@tests/bootstrap packages tests
	@$(call IN_VENV,tests) tests/bench/packet/run

demo: .cache/demo/ready
	@tests/bootstrap packages demo
	@$(call IN_VENV,demo) tests/demo $(DEMO)

demo-down: .cache/demo/ready
	@$(call IN_VENV,demo) tests/demo down

.cache/tests/ready: tests/requirements.txt tests/bootstrap
	@tests/bootstrap python .cache/tests tests/requirements.txt

.cache/demo/ready: requirements.txt tests/bootstrap
	@tests/bootstrap python .cache/demo requirements.txt

clean:
	rm -rf .cache
