"""Prints what the release binary of midwatch is made of, as CycloneDX in JSON: python3 scripts/sbom.py

The crates that are linked into it, by `cargo tree`; their checksums, by Cargo.lock. The same for the same commit, hence no time. Not in
it: what is linked dynamically (OpenSSL, zlib), and librdkafka within rdkafka-sys, whose version is that crate's.
"""

import json
import pathlib
import re
import subprocess
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]
TREE = ["cargo", "tree", "--locked", "--package", "midwatch", "--edges", "normal,no-proc-macro"]
TREE += ["--prefix", "depth", "--format", "\t{p}\t{l}\t{r}"]
LINE = re.compile(r"(\d+)\t(\S+) v(\S+)[^\t]*\t([^\t]*)\t(\S*)")


def crates():
    """All crates, and for each of them those that it uses. The first one is midwatch."""
    found, uses, above = {}, {}, []
    for line in subprocess.run(TREE, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        depth, name, version, licence, repository = LINE.match(line).groups()
        crate = f"pkg:cargo/{name}@{version}"
        del above[int(depth):]
        if above:
            uses[above[-1]].add(crate)
        above.append(crate)
        found.setdefault(crate, (name, version, licence, repository))
        uses.setdefault(crate, set())
    return found, uses


def component(crate, described, checksums):
    """What is said of a crate."""
    name, version, licence, repository = described
    said = {"type": "library", "bom-ref": crate, "name": name, "version": version, "purl": crate}
    if licence:
        # The slash is how Cargo once wrote it.
        said["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", licence)}]
    if checksum := checksums.get((name, version)):
        said["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if repository:
        said["externalReferences"] = [{"type": "vcs", "url": repository}]
    return said


def main():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(each["name"], each["version"]): each.get("checksum") for each in lock["package"]}
    found, uses = crates()
    binary, *libraries = (component(crate, described, checksums) for crate, described in found.items())
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": binary | {"type": "application"}},
        "components": sorted(libraries, key=lambda library: library["bom-ref"]),
        "dependencies": [{"ref": crate, "dependsOn": sorted(uses[crate])} for crate in sorted(uses)],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom))
    print(json.dumps(bom | {"serialNumber": number.urn}, indent=1, ensure_ascii=False))


main()
