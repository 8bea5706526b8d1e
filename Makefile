# Everything a contributor needs, from a clean clone. `make help` lists it.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help build run demo test lint test-tools policies-check bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the release binary, target/release/ratekeeper
	$(CARGO) build --release

run: ## serve examples/policies from memory; needs nothing else installed
	$(CARGO) run --release -- serve --policies examples/policies

demo: ## two instances with a real Redis behind a real Envoy, with curl lines to try
	scripts/demo.sh

test: test-tools lint ## install what is missing, then formatting, clippy and all tests
	cd loadtest && $(CARGO) test && $(CARGO) build --release
	$(CARGO) test

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	cd loadtest && $(CARGO) fmt --check && $(CARGO) clippy --all-targets -- -D warnings

test-tools: ## install what the tests need and this machine lacks
	scripts/install-test-tools.sh

policies-check: ## the example policies must load without an error
	$(CARGO) run --quiet -- check examples/policies

bench: ## the micro-benchmarks
	$(CARGO) bench --bench path

clean: ## remove target/, with the tools installed there
	$(CARGO) clean
