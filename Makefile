# What one does with kiln from a checkout. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 300
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
export CARGO

.PHONY: help build release release-aarch64 install uninstall demo test bench bench-step bench-trace fuzz lint fmt deps deps-build deps-demo deps-bench clean

help: ## List these
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 20

build: ## Build kiln for development
	$(CARGO) build --workspace

release: deps-build ## Build the static release binary, target/dist/kiln
	@scripts/release

release-aarch64: ## Cross-build the static release binary for aarch64, target/dist/kiln-aarch64
	@scripts/release aarch64

install: ## Install the release binary to PREFIX (/usr/local), below DESTDIR if given
	@test -x $(TARGET_DIR)/dist/kiln || scripts/release
	install -D -m 0755 $(TARGET_DIR)/dist/kiln $(DESTDIR)$(PREFIX)/bin/kiln

uninstall: ## Remove what `make install` put there
	rm -f $(DESTDIR)$(PREFIX)/bin/kiln

demo: deps-demo release ## Build the example project twice, and show what came of it
	@scripts/demo

test: deps ## Run all tests
	@scripts/test

bench: deps-bench release ## Time kiln against buildah, its compressor, and what tracing costs; BENCH="--runs 3 a d" chooses
	KILN_BIN=$(abspath $(TARGET_DIR)/dist/kiln) $(CARGO) bench --package kiln-tests --bench compare -- $(BENCH)
	$(if $(BENCH),,$(CARGO) bench --package kiln-cache && $(MAKE) bench-trace)

bench-trace: ## Time commands that are traced against the same untraced; BENCH="grep npm" chooses
	$(CARGO) test --release --package kiln-executor --test sandbox -- --bench-trace $(BENCH)

bench-step: ## Tell which part of a step takes how long
	$(CARGO) test --release --package kiln-executor --test sandbox -- --bench

fuzz: ## Fuzz the parser, FUZZ_SECONDS (300) for each target; takes a nightly compiler
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

lint: ## Formatting, clippy, and what cargo-deny can check offline
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version > /dev/null 2>&1; then \
		$(CARGO) deny --offline check bans licenses sources; \
	else \
		echo 'cargo-deny is not installed: licenses, bans and sources were not checked'; \
	fi

fmt: ## Format everything
	$(CARGO) fmt --all

# What each task needs beside a Rust toolchain and a C compiler, as Debian packages.
DEPS_BUILD := musl-tools
DEPS_DEMO := mmdebstrap busybox-static uidmap
DEPS_BENCH := $(DEPS_DEMO) buildah skopeo docker-registry npm=npm
# Commands that are observed: executor/tests/sandbox/trace/table. Node.js has its npm with it where it is not Debian's.
DEPS_COMMANDS := make patch rsync cpio zip unzip sqlite3 cmake ninja-build python3-pip python3-setuptools npm=npm
DEPS_TEST := $(DEPS_BENCH) git passt slirp4netns iproute2 podman crun umoci dockerd=docker.io ctr=containerd runc=runc qemu-user-static bzip2 xz-utils attr procps util-linux python3 openssh-client $(DEPS_COMMANDS)

deps: ## Install what the tests need
	@scripts/install-packages $(DEPS_TEST)

deps-build:
	@scripts/install-packages --optional $(DEPS_BUILD)

deps-demo:
	@scripts/install-packages $(DEPS_DEMO)

deps-bench:
	@scripts/install-packages $(DEPS_BENCH)

clean: ## Remove everything that was built
	$(CARGO) clean
