# The commands of everyday work. Each is one line of cargo: nothing here is needed to build or use the program.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo build install test check fmt docs toolchain nextest

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: toolchain ## build the release binary, then fine-tune a real model on this machine's CPU
	$(CARGO) build --release --locked --package tunesmith
	@$(CARGO) run --quiet --release --locked --package tunesmith -- demo

build: toolchain ## build the release binary
	$(CARGO) build --release --locked --package tunesmith

install: toolchain ## build it and put it into cargo's bin folder
	$(CARGO) install --locked --path crates/cli

test: toolchain nextest ## run the whole test suite
	$(CARGO) nextest run --locked --workspace

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

toolchain:
	@scripts/toolchain

nextest:
	@scripts/nextest
