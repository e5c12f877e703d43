#!/bin/sh
# Makes dist/: the stripped release binary, its SBOM, and checksums. deploy/Dockerfile runs the same.
set -eu
cd "$(dirname "$0")/.."

cargo build --release --locked -p midwatch
rm -rf dist
mkdir dist
strip --strip-all -o dist/midwatch "${CARGO_TARGET_DIR:-target}/release/midwatch"
python3 scripts/sbom.py >dist/midwatch.cdx.json
cd dist
sha256sum midwatch midwatch.cdx.json >SHA256SUMS
# That what was stripped still runs, and what it is.
./midwatch --version
cat SHA256SUMS
