# One command per job. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Programs that tests and checks need are kept here, outside the work tree.
LBEX_CACHE ?= $(HOME)/.cache/lbex
export LBEX_CACHE

# What `make static`, `deb`, `tarball` and `image` build for: x86_64 or aarch64.
MACHINE ?= x86_64

# Which benchmarks `make bench` runs: all but those that take long.
BENCH ?= latency memory plan_and_render planner start throughput

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(LBEX_CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: quickstart
quickstart: ## See LBEX balance TCP and UDP on this machine: no root, no cluster, nothing to install
	$(CARGO) build --bin lbex --example quickstart
	$(CARGO) run --quiet --example quickstart

.PHONY: test
test: test-tools ## Install what the tests need (as root, on Debian) and run all of them
	$(CARGO) test --workspace --no-fail-fast

.PHONY: test-long
test-long: test-tools ## The tests that take minutes: 50,000 UDP clients over three minutes beside 2,000 held TCP connections; 10,000 endpoint changes; LBEX stopped for a minute
	LBEX_TEST_LONG=1 $(CARGO) test --test manifests -- capacity pushed::storm
	LBEX_TEST_LONG=1 $(CARGO) test --test supervised -- paused

# How many random schedules `make test-faults` runs, and for how long `make soak` goes on.
FAULT_SEEDS ?= 200
LBEX_SOAK_SECONDS ?= 600

.PHONY: test-faults
test-faults: test-tools ## Each fault alone and FAULT_SEEDS=200 random schedules of several under traffic, as root (15 minutes); LBEX_FAULT_SEED=17 replays one
	LBEX_FAULT_SEEDS=$(FAULT_SEEDS) $(CARGO) test --test faults -- --nocapture

.PHONY: soak
soak: ## 300 changes a minute at 200 connections a second: nobody fails, nothing grows; LBEX_SOAK_SECONDS=600, as root
	LBEX_SOAK_SECONDS=$(LBEX_SOAK_SECONDS) $(CARGO) test --test faults -- --nocapture soak

# How many schedules `make simulate` runs, and for how long `make fuzz` runs each target.
SEEDS ?= 100000
FUZZ_SECONDS ?= 60

.PHONY: simulate
simulate: ## The deterministic simulation of the loop, optimized; SEEDS=100000 schedules
	LBEX_SIM_SEEDS=$(SEEDS) $(CARGO) test --profile simulate --no-default-features --features backend-nginx --lib simulation_ -- --nocapture

.PHONY: leaks
leaks: ## An hour of churn at 5,000 Services in simulated time: nothing grows
	LBEX_LEAK_SERVICES=5000 $(CARGO) test --profile simulate --no-default-features --features backend-nginx --test leaks -- --nocapture

.PHONY: fuzz
fuzz: ## Fuzz all that reads what others wrote; FUZZ_SECONDS=60 for each target, FUZZ=state for one of them
	fuzz/run $(FUZZ_SECONDS) $(FUZZ)

.PHONY: manifests
manifests: ## Render deploy/manifests from the chart in deploy/helm (HELM=helm)
	deploy/manifests/render

.PHONY: test-tools
test-tools: ## Install and build the programs that the tests run: etcd, NGINX, kube-apiserver and others
	tests/tools/install.sh

.PHONY: packaging-tools
packaging-tools: ## Install what builds releases and tries them (as root, on Debian)
	tests/tools/install.sh packaging

.PHONY: static
static: ## Build LBEX as one file that needs no libc, its NGINX included; MACHINE=aarch64 for another machine than x86_64
	packaging/static/build $(MACHINE)

.PHONY: deb
deb: ## Build the Debian package into dist/
	packaging/deb/build $(MACHINE) "$$(packaging/static/build $(MACHINE))" dist

.PHONY: tarball
tarball: ## Build the tarball for other distributions into dist/
	packaging/tarball/build $(MACHINE) "$$(packaging/static/build $(MACHINE))" dist

.PHONY: image
image: ## Build the container image into dist/, as an OCI archive: no daemon, no registry (as root)
	packaging/image/build dist "$(MACHINE)=$$(packaging/static/build $(MACHINE))"

.PHONY: release-dry-run
release-dry-run: packaging-tools ## All of a release into dist/VERSION, but for tag, upload and push; offline once its tools are there
	packaging/release/release --dry-run

.PHONY: release
release: packaging-tools ## Release the version of Cargo.toml: build, sign, tag, upload, push (GITHUB_TOKEN, SIGNING_KEY, IMAGE)
	packaging/release/release

.PHONY: test-install
test-install: packaging-tools ## Install what is released where it runs: empty root, systemd, container (as root, on Debian; minutes)
	LBEX_STATIC="$$(packaging/static/build $$(uname -m))" $(CARGO) test --test install -- --test-threads=1 --skip release::

.PHONY: test-release
test-release: test-tools packaging-tools ## Make a dry run of a release, unpack and run all of it, also for aarch64, and release to stand-ins (as root; minutes)
	LBEX_DIST="$$(packaging/release/release --dry-run)" $(CARGO) test --test install -- --test-threads=1 release::

.PHONY: reproduce
reproduce: packaging-tools ## Build this commit's release for MACHINE in two folders and compare each file, byte by byte (two builds)
	packaging/release/reproduce $(MACHINE)

.PHONY: bench
bench: ## Run the benchmarks (10 minutes after the build); BENCH=latency runs one: see benches/README.md
	nice $(CARGO) bench --workspace $(BENCH:%=--bench '%') --no-run
	$(CARGO) bench --workspace $(BENCH:%=--bench '%')

.PHONY: bench-push
bench-push: test-tools ## Measure API write to traffic, pushed and reloaded, with up to 5,000 Services (10 minutes)
	$(MAKE) bench BENCH=push

.PHONY: sizes
sizes: ## Build LBEX with several sets of features and tell how large it is; PROFILE=release
	benches/sizes $(or $(PROFILE),release)

# Sets of Cargo features that LBEX is checked with, beside all of them, which the rest of `make lint` has; `none`: no feature at all.
FEATURES ?= none backend-nginx backend-nginx-plus embedded-nginx plugins
# Those that `make test-features` runs tests with.
TEST_FEATURES ?= none backend-nginx plugins
feature_set = --package lbex --no-default-features --features '$(filter-out none,$(1))'

.PHONY: features
features: ## Check LBEX with each Cargo feature alone and with none, as somebody builds it; FEATURES='none plugins' checks some
	$(foreach set,$(FEATURES),$(CARGO) clippy $(call feature_set,$(set)) --lib --bins -- -D warnings;)

.PHONY: test-features
test-features: ## The tests of LBEX's library and of its command line with some Cargo features only (minutes); TEST_FEATURES='none plugins'
	$(foreach set,$(TEST_FEATURES),$(CARGO) clippy $(call feature_set,$(set)) --all-targets -- -D warnings;)
	$(foreach set,$(TEST_FEATURES),$(CARGO) test $(call feature_set,$(set)) --lib --bins --test slim;)

.PHONY: lint
lint: $(CARGO_DENY) ## Check formatting, lints, dependencies and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --test install -- -D warnings
	$(CARGO_DENY) check bans licenses sources
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps --workspace
	$(MAKE) features

# Unoptimized: built in a third of the time, and it runs for a second.
$(CARGO_DENY):
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --locked --debug --quiet \
	    --root $(LBEX_CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION) \
	    --version $(CARGO_DENY_VERSION) cargo-deny
