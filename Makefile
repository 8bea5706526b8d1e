# Everything a contributor needs, from a clean clone. `make help` lists it.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help build run demo test soak lint test-tools policies-check bench compare curves compare-tools clean

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
	$(CARGO) build --release
	$(CARGO) test -- --skip faults:: --skip redis_layers::
	$(CARGO) test --test it -- --test-threads 1 --nocapture faults:: redis_layers::

soak: test-tools ## the long forms: faults of 30 s (tables in target/faults.md), 100,000 requests over slots, 5 min of outages
	cd loadtest && $(CARGO) build --release
	$(CARGO) build --release
	RATEKEEPER_SOAK=1 $(CARGO) test --test it -- --test-threads 1 --nocapture faults:: redis_parts:: redis_memory:: redis_layers:: layers_model::

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	cd loadtest && $(CARGO) fmt --check && $(CARGO) clippy --all-targets -- -D warnings

test-tools: ## install what the tests need and this machine lacks
	scripts/install-test-tools.sh

policies-check: ## the example policies must load without an error
	$(CARGO) run --quiet -- check examples/policies

bench: ## instructions of a request's way, against those in benches/instructions.toml; wall-clock ones: cargo bench --bench path
	scripts/bench.sh

compare: compare-tools ## side by side with a server that decides nothing, 15 min; QUICK=1: 90 s, ARGS='--server …': more options
	cd loadtest && target/release/rk-compare servers $(if $(QUICK),--quick) $(ARGS)

curves: compare-tools ## a request's cost by rules, depth, keys and so on, 10 min; QUICK=1: 40 s, ARGS='--only keys': more options
	cd loadtest && target/release/rk-compare curves $(if $(QUICK),--quick) $(ARGS)

compare-tools:
	$(CARGO) build --release
	cd loadtest && $(CARGO) build --release

clean: ## remove target/, with the tools installed there
	$(CARGO) clean
