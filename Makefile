# The commands of everyday work. Each is one line of cargo: nothing here is needed to build or use the program.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo build install setup-dev test test-unit test-arm64 test-cuda test-mps test-vulkan test-web test-studio test-sources test-trackers check fmt docs \
	wave llmstudio web screenshots bench-train bench-curves bench-studio toolchain nextest pages

help: ## show this list
	@grep -E '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9 -]+):.*## (.*)/  make \1\t\2/' | expand -t 26

demo: toolchain ## build the release binary, then fine-tune a real model on this machine's CPU
	$(CARGO) build --release --locked --package tunesmith
	@$(CARGO) run --quiet --release --locked --package tunesmith -- demo

build: toolchain pages ## build the release binary
	$(CARGO) build --release --locked --package tunesmith

install: toolchain pages ## build it and put it into cargo's bin folder
	$(CARGO) install --locked --path crates/cli

setup-dev: toolchain nextest ## install what development needs: the compiler, the test runner
	@echo "ready: $$($(CARGO) --version), $$($(CARGO) nextest --version | head -1)"

test test-unit: toolchain nextest ## run the whole test suite
	$(CARGO) nextest run --locked --workspace

test-arm64: toolchain nextest ## the tests on ARM64, under an emulator on other machines
	@scripts/test-arm64

test-vulkan: toolchain nextest ## the tests of a Vulkan device, a software one where there is no other
	@scripts/test-vulkan

test-cuda: toolchain nextest ## the tests of a CUDA device, which has to be there
	TUNESMITH_REQUIRE_DEVICE=cuda $(CARGO) nextest run --locked --package tunesmith-ops --package tunesmith-models \
		--package tunesmith-generate --package tunesmith-train --features tunesmith-ops/cuda -E 'test(/arm64_cuda::/)'

test-mps: toolchain nextest ## the tests of Apple's Metal
	TUNESMITH_REQUIRE_DEVICE=metal $(CARGO) nextest run --locked --package tunesmith-ops --package tunesmith-models \
		--package tunesmith-generate --package tunesmith-train --features tunesmith-ops/metal -E 'test(/arm64_mps::/)'

wave llmstudio: toolchain pages ## start the studio: the web app at http://localhost:10101
	$(CARGO) build --release --locked --package tunesmith
	@$(CARGO) run --quiet --release --locked --package tunesmith -- studio $(STUDIO_OPTIONS)

web: web/node_modules ## build the studio's web app (Node 20): web/dist
	cd web && npm run build

test-web: web ## check, unit tests and browser flows of the web app; STUDIO_URL=… for flows on a running studio
	cd web && npm run check && npm test && CHROMIUM="$$(../scripts/chromium)" npm run test:flows

test-studio: toolchain web ## browser flows of the web app on the real program
	$(CARGO) build --locked --workspace --bin tunesmith
	cd web && TUNESMITH_BINARY="$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/tunesmith" CHROMIUM="$$(../scripts/chromium)" \
		TUNESMITH_SOURCE_SERVERS="$$(../scripts/source-servers)" npm run test:studio

test-sources: toolchain nextest ## imports from servers of S3, Azure and Google Cloud, on this machine
	TUNESMITH_SOURCE_SERVERS="$$(scripts/source-servers)" TUNESMITH_REQUIRE_SOURCE_SERVERS=1 \
		$(CARGO) nextest run --locked --workspace -E 'package(tunesmith-sources) and test(/^(s3|azure|google)::/)'

screenshots: web ## pictures of every page of the web app: web/screenshots
	cd web && CHROMIUM="$$(../scripts/chromium)" npm run screenshots

test-trackers: toolchain nextest ## a run followed by real trackers from PyPI, which are installed once
	TUNESMITH_TRACKER_SERVERS="$$(scripts/tracker-servers)" TUNESMITH_REQUIRE_TRACKER_SERVERS=1 \
		$(CARGO) nextest run --locked --workspace -E 'package(tunesmith) and test(tracking::)'

web/node_modules: web/package-lock.json
	cd web && npm ci --no-fund --no-audit && touch node_modules

check: toolchain ## what CI checks besides the tests: format, lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fmt: toolchain ## format the source
	$(CARGO) fmt --all

docs: toolchain ## write the pages of docs/ that are made from the program
	$(CARGO) run --quiet --locked --package tunesmith -- reference cli > docs/cli.md.new
	$(CARGO) run --quiet --locked --package tunesmith -- reference config > docs/config.md.new
	mv docs/cli.md.new docs/cli.md
	mv docs/config.md.new docs/config.md

bench-train: $(if $(BINARY),,build) ## compare speed and memory with a PyTorch loop: bench/README.md
	@python3 bench/train/run.py $(BENCH) $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(PEER_PRELOAD),--peer-preload $(PEER_PRELOAD))

bench-curves: $(if $(BINARY),,build) ## compare loss curves with a PyTorch loop's: bench/README.md
	@python3 bench/train/curves.py $(BENCH)

bench-studio: $(if $(BINARY),,build) ## first visit to first answer in a browser; training while others watch and upload
	cd web && TUNESMITH_BINARY="$(abspath $(RELEASE))" CHROMIUM="$$(../scripts/chromium)" node tests/measure-first-run.mjs
	@python3 bench/studio/load.py --binary $(RELEASE) $(BENCH_OPTIONS)

# What both comparisons are told.
DATA ?= $(if $(TUNESMITH_SHARED),$(TUNESMITH_SHARED)/data/gsm8k/train.jsonl,train.jsonl)
RELEASE = $(or $(BINARY),$(or $(CARGO_TARGET_DIR),target)/release/tunesmith)
BENCH = --binary $(RELEASE) \
	--peer-python $(or $(PEER_PY),$(error PEER_PY is missing: see bench/README.md)) \
	--peer-model $(or $(PEER_MODEL),$(error PEER_MODEL is missing: see bench/README.md)) \
	--data $(DATA) $(if $(MODEL),--model $(MODEL)) $(if $(STEPS),--steps $(STEPS)) $(if $(JSON),--json) $(BENCH_OPTIONS)

pages:
	@scripts/web-pages

toolchain:
	@scripts/toolchain

nextest:
	@scripts/nextest
