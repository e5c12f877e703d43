"""Writes the parts of the base that are made from alerts/ and dashboards/: python3 deploy/generate.py

The chart links to what is written here, so there is one copy of each rule for Kubernetes, and one of each dashboard.
"""

import json
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE = ROOT / "deploy/base"
HEAD = "# Written by deploy/generate.py from {}.\n"


def rules():
    """The PrometheusRule: the groups of all files, with their comments."""
    text = HEAD.format("alerts/*.yml")
    text += "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: midwatch\nspec:\n  groups:\n"
    for file in sorted((ROOT / "alerts").glob("*.yml")):
        groups = file.read_text().split("groups:\n", 1)[1]
        text += "".join(f"  {line}\n" if line else "\n" for line in groups.splitlines())
    (BASE / "prometheusrule.yaml").write_text(text)


def dashboards():
    """A ConfigMap for each dashboard, in which it is as small as it can be."""
    folder = BASE / "dashboards"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    text = HEAD.format("dashboards/*.json")
    text += "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nconfigMapGenerator:\n"
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        small = json.dumps(json.loads(file.read_text()), ensure_ascii=False, separators=(",", ":"))
        (folder / f"midwatch-{file.name}").write_text(small + "\n")
        text += f"  - name: midwatch-dashboard-{file.stem}\n    files:\n      - midwatch-{file.name}\n"
    text += "generatorOptions:\n  disableNameSuffixHash: true\n  labels:\n    grafana_dashboard: \"1\"\n"
    (folder / "kustomization.yaml").write_text(text)


rules()
dashboards()
