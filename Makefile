# `make quickstart` and `make test` are all a fresh Debian machine needs; `make help` lists the rest.
SHELL := /bin/bash
CARGO ?= cargo
TEMPLATE ?= templates/quickstart.toml
# Bases, downloads and images of the tests are kept here between runs.
TEST_CACHE := $(or $(DSIMG_TEST_CACHE),/var/tmp/dsimg-tests)
# The provisioners' tests mount and chroot.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help quickstart build test test-team test-frozen test-endurance test-aws test-aws-every-fault test-aws-machines lint host-packages host-packages-test bench deny

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 22

quickstart: host-packages ## install what is missing, build dsimg, build templates/quickstart.toml
	# Without the part for AWS, whose SDK takes minutes to compile.
	$(CARGO) build --release --locked -p dsimg --no-default-features
	target/release/dsimg build --force $(TEMPLATE)

build: ## the release binary, target/release/dsimg
	$(CARGO) build --release --locked -p dsimg

# Always the same packages: with others, cargo compiles the AWS SDK once more.
CRATES_TEST = $(CARGO) test --locked --workspace --exclude dsimg-tests

test: host-packages-test lint ## everything: format, lints, unit, snapshot and fake tests, real boots
	tests/ec2/test.sh fast
	$(CRATES_TEST)
	$(CRATES_TEST) --test sbom --test cli -- --ignored
	$(CARGO) test --locked -p dsimg-tests -- --nocapture --test-threads=1
	$(AS_ROOT) env UV=$$(ls $(TEST_CACHE)/cache/tools/uv-*) tests/provisioners/run.sh

test-team: host-packages-test ## builds templates/team.toml and runs a notebook of each language in its image
	$(CARGO) build --locked -p dsimg
	$(CARGO) test --locked -p dsimg-tests --test team -- --ignored --nocapture

test-frozen: host-packages-test ## a large image from a bundle, with no network and an empty cache; an hour
	$(CARGO) test --locked -p dsimg-qemu the_same_packages_are_the_same_base -- --ignored
	$(CARGO) build --locked -p dsimg
	$(CARGO) test --locked -p dsimg-tests --test frozen -- --ignored --nocapture

test-endurance: host-packages-test ## builds killed at 200 moments, a cache with a flipped bit in 100 places; an hour
	$(CARGO) build --locked -p dsimg
	$(CARGO) test --locked -p dsimg-tests --test endurance -- --ignored --nocapture --test-threads=1

test-aws: host-packages-test ## AWS builders and publishers against the EC2 rig, a fault at each call; its tests are part of `test`
	tests/ec2/test.sh fast
	$(CARGO) test --locked -p dsimg-aws

test-aws-every-fault: host-packages-test ## the same with every fault at every call, and 1,000 throttled builds; an hour
	DSIMG_EVERY_FAULT=yes DSIMG_THROTTLED_RUNS=1000 $(CARGO) test --locked -p dsimg-aws

test-aws-machines: host-packages-test ## the quickstart as an AMI, from an instance and from the disk, booted (needs coldsnap)
	$(CARGO) build --locked -p dsimg
	$(CARGO) test --locked -p dsimg-tests --test aws -- --ignored --nocapture --test-threads=1
	# On the base that these made.
	$(CARGO) test --locked -p dsimg-aws --test machine -- --ignored --nocapture

lint: ## format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	shellcheck --severity=warning scripts/*.sh tests/*.sh tests/*/*.sh

bench: host-packages-test build ## dsimg beside Packer, see tests/bench
	tests/bench/run.sh

deny: ## licences, advisories and sources of the dependencies (needs cargo-deny)
	cargo deny check

host-packages:
	scripts/install-host-packages.sh build

host-packages-test:
	scripts/install-host-packages.sh test
