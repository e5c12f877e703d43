#!/usr/bin/env bash
# Runs every check, a line per stage with its time. `scripts/test.sh lint` stops before the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTDOCFLAGS="-D warnings" CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
lines=()

stage() {
    local name=$1 started=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        lines+=("$(printf '%-40s %4d s' "$name" $((SECONDS - started)))")
    else
        printf '\nFAILED after %d s: %s\n' $((SECONDS - started)) "$name"
        exit 1
    fi
}

licences() {
    if command -v cargo-deny >/dev/null; then
        cargo deny --log-level error check licenses bans sources
    else
        echo "cargo-deny is missing; run: scripts/setup.sh test" >&2
        return 1
    fi
}

rules() {
    promtool check rules --lint=all --lint-fatal alerts/*.yml &&
        # One at a time would leave a processor idle for minutes: some of them are days long.
        printf '%s\n' alerts/tests/*.yml | xargs -P 2 -n 1 promtool test rules &&
        amtool check-config "$routes" >/dev/null &&
        is_told databases owner=databases severity=warning &&
        is_told databases-pager owner=databases severity=critical &&
        is_told streaming-pager owner=streaming severity=critical &&
        is_told network owner=network severity=warning &&
        is_told chat owner=network severity=info &&
        is_told operators owner=somebody severity=warning &&
        is_told operators-pager alertname=MidwatchDown severity=critical
}

# Whether alerts with these labels go to that receiver.
routes=alerts/alertmanager/alertmanager.yml
is_told() {
    local receiver=$1
    shift
    amtool config routes test --config.file "$routes" --verify.receivers="$receiver" "$@" >/dev/null 2>&1 || {
        echo "$routes does not send alerts with $* to $receiver" >&2
        return 1
    }
}

dashboards() {
    local written
    written=$(cat dashboards/*.json | sha256sum)
    python3 dashboards/generator
    if [ "$written" != "$(cat dashboards/*.json | sha256sum)" ]; then
        echo "dashboards/*.json are not what dashboards/generator writes; run: make dashboards" >&2
        return 1
    fi
    local linter
    linter=$(PATH=$PATH:${MIDWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/midwatch} command -v dashboard-linter) || {
        echo "dashboard-linter is not there; tests/it/shipped/lint.rs has its rules"
        return 0
    }
    local dashboard
    for dashboard in dashboards/*.json; do
        "$linter" lint --strict "$dashboard" >/dev/null 2>&1 || { "$linter" lint --strict "$dashboard"; return 1; }
    done
}

stage "formatting" cargo fmt --all --check
stage "licences" licences
stage "alert rules" rules
stage "dashboards" dashboards
stage "deployment" python3 -B scripts/deployment
stage "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
stage "clippy without default features" cargo clippy --locked --no-default-features --all-targets -- -D warnings
stage "rustdoc" cargo doc --locked --workspace --no-deps --document-private-items --quiet
if [ "${1:-}" != lint ]; then
    stage "lab" cargo test --locked -p lab
    stage "unit tests" cargo test --locked --lib --bins
    stage "integration tests" cargo test --locked --test it -- --skip starved --skip kafka::faults --skip kafka::moves --skip shipped::faults --skip shipped::night
    # All at once: they wait most of the time. Not beside the others, whose load would be told as faults.
    stage "faults and who is told" cargo test --locked --test it -- shipped::faults --skip of_mongodb --test-threads 4
    # By themselves: a member that lacks its CPU is compared with one that does not, rounds are counted while a broker hangs, and
    # the end of a move is foretold.
    stage "tests that need a quiet machine" \
        cargo test --locked --test it -- starved kafka::faults kafka::moves of_mongodb shipped::night --test-threads 1
fi

printf '\n'
printf '%s\n' "${lines[@]}"
