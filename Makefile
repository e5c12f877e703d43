# Every entry a person needs. `make` lists them.

CARGO ?= cargo
export MIDWATCH_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/midwatch

.PHONY: help setup demo demo-night test bench lint soak fuzz dashboards deploy docs dist

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup:  ## installs what the demo needs and this machine lacks: Debian packages, a mongod in the cache folder
	@scripts/setup.sh

demo: setup  ## a real replica set, a real Prometheus and midwatch watching; ends with Ctrl-C
	$(CARGO) build --release --locked -p midwatch -p lab
	target/release/lab demo --midwatch target/release/midwatch --config config/midwatch.toml

demo-night: setup  ## the night that midwatch exists for, in some minutes: a backup starves a member, an alert names both; ends by itself
	$(CARGO) build --release --locked -p midwatch -p lab
	target/release/lab demo-night --midwatch target/release/midwatch

test:  ## formatting, lints, documentation and all tests
	@scripts/setup.sh test
	@scripts/test.sh

bench: setup  ## measures what docs/PERFORMANCE.md records
	$(CARGO) bench --locked --bench midwatch

lint:  ## formatting, clippy, rustdoc, licences
	@scripts/setup.sh test
	@scripts/test.sh lint

soak: setup  ## an hour of reloads, scrapes and faults; MINUTES=n for another length
	MIDWATCH_SOAK_MINUTES=$(or $(MINUTES),60) $(CARGO) test --locked --release --test it -- soak --nocapture

fuzz:  ## fuzzes every parser of network bytes, a minute each; needs cargo-fuzz and a nightly toolchain
	for target in authorization ikev2_response kafka_response kubernetes_watch manifest negotiation op_msg openvpn_packet pbm_document ping repository_listing runs_query s3_answer scram textfile tls_vpn_answer vpn_inside wireguard; do \
		mkdir -p fuzz/corpus/$$target && \
		$(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target tests/fixtures/$$target -- -max_total_time=60 || exit 1; \
	done

dashboards:  ## writes dashboards/*.json anew from dashboards/generator
	python3 dashboards/generator

deploy: dashboards  ## writes what deploy/ has of alerts/ and dashboards/ anew, and dashboards/
	python3 deploy/generate.py

docs:  ## writes docs/METRICS.md anew from the catalogue
	$(CARGO) run --quiet --locked -- metrics > docs/METRICS.md

dist:  ## writes dist/: the stripped program, its SBOM, checksums; what deploy/Dockerfile runs
	@scripts/dist.sh
