# gst-face: face analytics for GStreamer. `make` alone lists the targets.

CARGO ?= cargo
# Directory of the built plugins and of facepipe.
BIN_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target)/release)
export BIN_DIR

.DEFAULT_GOAL := help
.PHONY: help setup build demo test bench check deny fuzz install uninstall clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install Debian packages; fetch ONNX Runtime, model weights and test media
	@bash scripts/setup.sh

# The whole workspace in one go, as `test` does: the two share every artifact.
build: setup ## build the plugins and facepipe
	@$(CARGO) build --release --workspace
	@echo "build: plugins and facepipe are in $(BIN_DIR)"
	@echo "build: to use them here:  export GST_PLUGIN_PATH=$(BIN_DIR)"

demo: build ## enroll a few people and annotate a real clip, into demo/
	@bash scripts/demo.sh

test: build ## run all tests, on the real models and clips
	@if GST_PLUGIN_PATH="$(BIN_DIR)$${GST_PLUGIN_PATH:+:$$GST_PLUGIN_PATH}" \
		$(CARGO) test --release --workspace --no-fail-fast; \
	then echo "test: PASSED"; else echo "test: FAILED" >&2; exit 1; fi

bench: build ## run the benchmarks against bare runtime and peers; writes benches/RESULTS.md
	@bash scripts/bench.sh

check: setup ## check formatting, lints and documentation
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

deny: ## check licences, duplicate versions and known vulnerabilities of all crates
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	@$(CARGO) deny check

# Each target runs for so many seconds.
FUZZ_SECONDS ?= 60

fuzz: ## fuzz every parser of foreign bytes (FUZZ_SECONDS=60 each)
	@bash scripts/fuzz.sh $(FUZZ_SECONDS)

install: build ## install for this user, below ~/.local
	@bash scripts/install.sh install

uninstall: ## remove what `make install` put there
	@bash scripts/install.sh uninstall

clean: ## remove build results and demo/
	@$(CARGO) clean
	@rm -rf demo

distclean: clean ## remove everything fetched by setup as well
	@rm -rf runtime media
	@rm -f $(patsubst %.json,%.onnx,$(wildcard models/*.json))
