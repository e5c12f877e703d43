"""Nothing of anybody in what is shipped."""

import ipaddress
import re
import subprocess

from tools import ROOT

# What is shipped, and how it is made and used. Tests and the lab need addresses and passwords, of their own making.
SHIPPED = ["*.md", "Makefile", "alerts", "config", "dashboards", "deploy", "docs", "scripts"]
# Hosts that may be named: of examples (RFC 2606), of a cluster's own names, of standards and of projects that are spoken of.
HOSTS = re.compile(
    r"(.*\.)?(example(\.com|\.net|\.org)?|github\.com|amazonaws\.com|docs\.percona\.com|healthchecks\.io|hc-ping\.com|json-schema\.org|prometheus\.io|grafana\.com|crates\.io"
    r"|k8s\.io|kubernetes\.io|coreos\.com|helm\.sh|cyclonedx\.org|svc\.cluster\.local|host\.docker\.internal|keepachangelog\.com|semver\.org)"
)
NAME = re.compile(r"\b(?:[a-z0-9][a-z0-9-]*\.)+(?:com|net|org|io|dev|cloud|app|local|internal|corp|lan|intra|eu|us|uk|de|fr|ru|cn|in)\b(?![.\w(-]*\()", re.I)
SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token": r"\b(gh[pousr]_[A-Za-z0-9]{20,}|xox[abp]-[A-Za-z0-9-]{10,}|glpat-[A-Za-z0-9_-]{15,}|eyJ[A-Za-z0-9_-]{15,}\.eyJ)",
    "a hash of a password": r"\$2[aby]\$\d\d\$(?!ThisIsNotAHash)[./A-Za-z0-9]{53}",
    "a password": r"(?i)\b(password|passwd|secret|token|api_?key)\s*[:=]\s*[\"'][^\"'$<{%/ ][^\"' ]{5,}[\"']",
    "a login in an address": r"://[^/\s:@\"'{}$<>]+:[^/\s@\"'{}$<>]+@",
    "somebody's folder": r"(?<![\w$}])/(home|Users|root)/[.a-z]",
}


def addresses(text):
    """Those in a text that belong to somebody."""
    for word in re.findall(r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]*(?::[0-9a-fA-F]*){2,7})(?![\w.:-])", text):
        try:
            address = ipaddress.ip_address(word)
        except ValueError:
            continue
        if address.is_global:
            yield str(address)


def scan():
    """no credential, host or address of anybody in any shipped file"""
    listed = subprocess.run(["git", "ls-files", "-z", "--", *SHIPPED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in filter(None, listed.split("\0")):
        if (ROOT / path).is_symlink():
            continue
        text = (ROOT / path).read_text()
        for address in addresses(text):
            yield f"{path}: {address}"
        for host in {name.group() for name in NAME.finditer(text)}:
            if not HOSTS.fullmatch(host.lower()):
                yield f"{path}: {host}"
        for what, pattern in SECRETS.items():
            for match in re.finditer(pattern, text):
                yield f"{path}: {what}: {match.group()[:40]}"


CHECKS = [scan]
