# Pawl's work, one target for each thing that is done often. `make` alone lists them.
#
# Two are enough to begin with: `make race` shows the problem and the cure and needs Rust alone;
# `make test` runs every test and installs what it needs from Debian's packages first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Where the race takes its locks: memory, redis://…, redlock:a,b,c, postgres://…
BACKEND ?= memory
# More arguments for the race, such as `ARGS=--serve` or `ARGS='--act queue'`.
ARGS ?=
# Which fuzz target, all of them if none is named, and for how many seconds each.
TARGET ?=
SECONDS ?= 60
# How many compilers and tests run at once.
JOBS ?= $(shell nproc)

CARGO := cargo
PACKAGES := redis-server postgresql etcd-server prometheus pgbouncer chromium python3-venv iproute2 util-linux gcc
# What the test cluster is made of.
CLUSTER_PACKAGES := etcd-server containerd runc containernetworking-plugins iptables conntrack buildah iproute2 util-linux \
  redis-server postgresql prometheus curl musl-tools
# What its images are made from: static programs, as in a release but built in a third of the time.
STATIC := x86_64-unknown-linux-musl

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the sidecar and the demo (release)
	$(CARGO) build --release --locked -j $(JOBS) -p pawl-sidecar -p pawl-demo

.PHONY: race
race: build ## lose money without a lock, keep it with Pawl; BACKEND=memory|redis://…|redlock:a,b,c|postgres://…
	target/release/pawl-demo race --backend '$(BACKEND)' $(ARGS)

.PHONY: test
test: needs-test lint cluster-programs ## run every test, those in a cluster too; installs what it needs
	$(CARGO) build --locked -j $(JOBS) --workspace --all-targets
	scripts/run-tests

.PHONY: needs-cluster
needs-cluster: ## install what the test cluster needs (asks for root) and build its programs (needs Go)
	scripts/need-packages $(CLUSTER_PACKAGES)
	scripts/need-cluster

.PHONY: cluster-programs
cluster-programs: ## build the static programs of the test cluster's images
	rustup target add $(STATIC)
	$(CARGO) build --locked -j $(JOBS) --profile cluster --target $(STATIC) -p pawl-sidecar -p pawl-operator -p pawl-demo

.PHONY: cluster-up
cluster-up: needs-cluster cluster-programs ## start a one-node Kubernetes on this machine and give it the images
	$(CARGO) build --locked -j $(JOBS) -p pawl-e2e --bin pawl-cluster
	target/debug/pawl-cluster up
	target/debug/pawl-cluster images

.PHONY: cluster-down
cluster-down: ## end it, and take away all it left
	$(CARGO) build --locked -j $(JOBS) -p pawl-e2e --bin pawl-cluster
	target/debug/pawl-cluster down

.PHONY: cluster-test
cluster-test: needs-cluster cluster-programs ## run the cluster's tests in a cluster of their own, or in that of KUBECONFIG; ARGS=part-of-a-name
	PAWL_CLUSTER_KUBECONFIG="$${KUBECONFIG:-}" $(CARGO) test --locked -j $(JOBS) -p pawl-e2e --test cluster -- $(ARGS)

.PHONY: kind-test
kind-test: cluster-programs ## run the same tests on kind (needs Docker)
	e2e/kind/run $(ARGS)

.PHONY: unit
unit: ## run the tests that need no server
	$(CARGO) test --locked -j $(JOBS) -p pawl-crds -p pawl-lock -p pawl-kit

.PHONY: fuzz
fuzz: ## search for input that breaks a parser; TARGET=request|key|policy|review|reply, SECONDS=60
	scripts/need-packages g++
	scripts/need-cargo cargo-fuzz
	scripts/fuzz '$(SECONDS)' $(TARGET)

.PHONY: lint
lint: ## check formatting, clippy, documentation, licences and duplicate dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked -j $(JOBS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked -j $(JOBS) --workspace --no-deps
	scripts/need-cargo cargo-deny
	$(CARGO) deny --locked check bans licenses sources

.PHONY: audit
audit: ## check the dependencies against the RustSec advisories (fetches their database)
	scripts/need-cargo cargo-deny
	$(CARGO) deny --locked check advisories

.PHONY: fmt
fmt: ## format the code
	$(CARGO) fmt --all

.PHONY: bench
bench: needs-bench ## measure Pawl against other lock clients; writes target/bench/
	$(CARGO) build --release --locked -j $(JOBS) -p pawl-sidecar -p pawl-bench
	target/release/pawl-bench $(ARGS)

.PHONY: bless
bless: ## renew the golden files after a change that is meant
	PAWL_BLESS=1 $(CARGO) test --locked -j $(JOBS) --workspace golden

.PHONY: needs-test
needs-test: ## install what the tests need (asks for root) and build the programs of the test cluster (needs Go)
	scripts/need-packages $(sort $(PACKAGES) $(CLUSTER_PACKAGES))
	scripts/need-cluster

.PHONY: needs-bench
needs-bench: ## install what the measurements need (asks for root)
	scripts/need-packages redis-server

.PHONY: clean
clean: ## remove everything that was built
	$(CARGO) clean
