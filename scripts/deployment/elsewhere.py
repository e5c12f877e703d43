"""Without Kubernetes: systemd, Docker Compose, and what is in a release."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

from tools import CACHE, DEPLOY, ROOT, read, run

import jsonschema
import referencing

# What `systemd-analyze security` may find at most, in tenths: what is left are the network, and calls that programs of sources make.
EXPOSURE = 17


def systemd():
    """the unit is one that systemd understands, and hardened"""
    with tempfile.TemporaryDirectory() as folder:
        unit = pathlib.Path(folder) / "midwatch.service"
        # The program of the unit must exist.
        text = (DEPLOY / "systemd/midwatch.service").read_text()
        unit.write_text(text.replace("/usr/local/bin/midwatch", "/bin/true"))
        verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        # What it ignores it only mentions.
        if verified.returncode or verified.stderr:
            yield verified.stderr
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)


def compose():
    """compose.yaml is one that Compose loads; it publishes to this machine only, and mounts what is there"""
    project = json.loads(run("compose-spec", "-format", "json", "compose.yaml", cwd=DEPLOY / "compose"))
    for name, service in project["services"].items():
        if not re.search(r":v?\d+\.\d", service["image"]):
            yield f"{name}: {service['image']} is of no version"
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                yield f"{name} publishes {port['published']} to everybody"
        for volume in service["volumes"]:
            if volume["type"] == "bind" and not pathlib.Path(volume["source"]).is_dir():
                yield f"{name} mounts {volume['source']}, which is no directory"
    build = project["services"]["midwatch"]["build"]
    if not (pathlib.Path(build["context"]) / build["dockerfile"]).is_file():
        yield f"{build['dockerfile']} is not there"


def mounts():
    """in compose.yaml, each program finds its files where it looks for them"""
    services = read("deploy/compose/compose.yaml")["services"]
    places = {name: dict(reversed(each.split(":")[:2]) for each in service["volumes"]) for name, service in services.items()}
    grafana = places["grafana"]
    [provider] = read("deploy/compose/grafana/dashboards/midwatch.yaml")["providers"]
    home = pathlib.PurePath(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    if grafana.get(provider["options"]["path"]) != "../../dashboards" or not (ROOT / "dashboards" / home.name).is_file():
        yield "Grafana does not find the dashboards"
    if str(home.parent) != provider["options"]["path"] or grafana.get("/etc/grafana/provisioning") != "./grafana":
        yield "Grafana does not find what provisions it"
    [source] = read("deploy/compose/grafana/datasources/midwatch.yaml")["datasources"]
    prometheus = read("deploy/compose/prometheus/prometheus.yml")
    [[alertmanager]] = [each["targets"] for each in prometheus["alerting"]["alertmanagers"][0]["static_configs"]]
    [[scraped]] = [each["targets"] for each in prometheus["scrape_configs"][0]["static_configs"]]
    for address in (source["url"].removeprefix("http://"), alertmanager, scraped):
        host, port = address.split(":")
        if not any(each.endswith(f":{port}") for each in services.get(host, {}).get("ports", [])):
            yield f"nobody listens at {address}"
    if places["prometheus"].get("/etc/midwatch/alerts") != "../../alerts" or prometheus["rule_files"] != ["/etc/midwatch/alerts/*.yml"]:
        yield "Prometheus does not find the rules"


def configurations():
    """promtool and amtool accept the configurations for compose.yaml"""
    text = (DEPLOY / "compose/prometheus/prometheus.yml").read_text().replace("/etc/midwatch/alerts", str(ROOT / "alerts"))
    # Debian's promtool is too old for these two.
    text = re.sub(r" +(scrape_native_histograms|always_scrape_classic_histograms): true\n", "", text)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "prometheus.yml"
        file.write_text(text)
        run("promtool", "check", "config", file)
    run("amtool", "check-config", DEPLOY / "compose/alertmanager/alertmanager.yml")
    return []


def sbom():
    """the SBOM is CycloneDX 1.6, and has what is linked into the program and nothing else"""
    text = subprocess.run([sys.executable, ROOT / "scripts/sbom.py"], capture_output=True, text=True, check=True).stdout
    bom = json.loads(text)
    folder = CACHE / "python/cyclonedx/schema/_res"
    schemas = {name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text()) for name in ("bom-1.6", "spdx", "jsf-0.82")}
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas.values()
    )
    for error in jsonschema.Draft7Validator(schemas["bom-1.6"], registry=registry).iter_errors(bom):
        yield f"{error.json_path}: {error.message[:200]}"
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    locked = {(each["name"], each["version"]): each.get("checksum") for each in lock}
    names = {each["name"] for each in bom["components"]}
    for each in bom["components"]:
        if (each["hashes"][0]["content"] if "hashes" in each else None) != locked[each["name"], each["version"]]:
            yield f"{each['name']} has another checksum than in Cargo.lock"
    for name, expected in {"tokio": True, "rdkafka-sys": True, "kube": True, "lab": False, "proptest": False, "thiserror-impl": False}.items():
        if (name in names) != expected:
            yield f"{name} is {'not ' if expected else ''}in it"
    program = bom["metadata"]["component"]["bom-ref"]
    if {each["ref"] for each in bom["dependencies"]} != {program, *(each["bom-ref"] for each in bom["components"])}:
        yield "what is used and what is listed are not the same"


CHECKS = [systemd, compose, mounts, configurations, sbom]
