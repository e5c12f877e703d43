# A part of scripts/setup.sh: what comes through Go's module proxy. It has the variables and functions of that one.
# shellcheck shell=sh

# A program a line: its name, and what Go builds it from. Go's own checksums see to it that this is what was published.
GO_PROGRAMS="versitygw github.com/versity/versitygw/cmd/versitygw@v1.8.0
helm helm.sh/helm/v3/cmd/helm@v3.19.5
kustomize sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
compose-spec github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
# Versions of the Prometheus Operator whose resources are what ours are compared with: the first one that knows native histograms, and a
# later one. scripts/deployment reads their definitions.
OPERATORS="v0.88.0 v0.90.1"
OPERATOR_MODULE=github.com/prometheus-operator/prometheus-operator

# Prints the lines of the Go programs that tests need and this machine lacks.
missing_go_programs() {
    [ "$purpose" = test ] || return 0
    echo "$GO_PROGRAMS" | while read -r name package; do
        if [ "$name" = versitygw ] && [ -n "${MIDWATCH_VERSITYGW:-}" ]; then continue; fi
        have "$name" || [ -x "$cache/$name" ] || echo "$name $package"
    done
}

# Not every module proxy hands out all that this is built from. Its rules are in tests/it/shipped/lint.rs as well, so tests do without it
# where it cannot be had.
DASHBOARD_LINTER=github.com/grafana/dashboard-linter@v0.2.0

# Prints the versions of the operator whose definitions tests need and this machine lacks.
missing_operators() {
    [ "$purpose" = test ] || return 0
    for version in $OPERATORS; do
        [ -e "$cache/operator-$version" ] || echo "$version"
    done
}

# Asked before anything is installed. Older versions cannot fetch the toolchain that these programs want.
check_go() {
    if [ -z "$(missing_go_programs)$(missing_operators)" ]; then return 0; fi
    have go || fail 'to build what no package has, a Go toolchain of version 1.21 or newer is needed'
    minor=$(go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')
    [ "$minor" -ge 21 ] || fail "to build what no package has, Go 1.21 or newer is needed, and this is $(go env GOVERSION)"
}

# Runs Go in folders of its own, because nobody else needs what is downloaded for this, and where there is room for 2 GB. They are kept
# from one program to the next, which have much in common.
go_apart() {
    GOPATH=$build/go GOCACHE=$build/cache GOTMPDIR=$build GOFLAGS=-modcacherw GOBIN=$build/bin go "$@"
}

install_from_go() {
    missing_go_programs >"$temporary/programs"
    missing_operators >"$temporary/operators"
    if [ ! -s "$temporary/programs" ] && [ ! -s "$temporary/operators" ] && ! lacks_dashboard_linter; then return 0; fi
    mkdir -p "$cache"
    build=$(mktemp -d "$cache/.build.XXXXXX")
    while read -r name package; do
        install_go_program "$name" "$package"
    done <"$temporary/programs"
    while read -r version; do
        install_operator "$version"
    done <"$temporary/operators"
    install_dashboard_linter
    rm -rf "$build"
    build=
}

lacks_dashboard_linter() { [ "$purpose" = test ] && ! have dashboard-linter && [ ! -x "$cache/dashboard-linter" ] && have go; }

install_dashboard_linter() {
    if ! lacks_dashboard_linter; then return 0; fi
    say "building $DASHBOARD_LINTER (some minutes, once) to $cache"
    go_apart install -trimpath -ldflags '-s -w' "$DASHBOARD_LINTER" >"$temporary/go.log" 2>&1 || {
        say "without dashboard-linter: $(tail -n 1 "$temporary/go.log")"
        return 0
    }
    keep "$build/bin/dashboard-linter" 755
}

install_go_program() {
    say "building $1 from $2 (some minutes, once) to $cache"
    go_apart install -trimpath -ldflags '-s -w' "$2" >"$temporary/go.log" 2>&1 </dev/null || {
        cat "$temporary/go.log" >&2
        fail "Go could not build $1"
    }
    # The one file there, whatever Go calls it.
    keep "$build"/bin/* 755 "$1"
    rm -rf "$build/bin"
}

# Fetches what defines the resources of that version of the operator.
install_operator() {
    say "downloading what defines the resources of the Prometheus Operator $1 to $cache"
    folder=$(cd "$build" && go_apart mod download -json "$OPERATOR_MODULE@$1" </dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])') || fail "Go could not fetch the Prometheus Operator $1"
    begin_folder
    for kind in prometheusrules servicemonitors; do
        cp "$folder/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$part"
    done
    end_folder "operator-$1"
}
