"""Writes what the base and the chart have of alerts and dashboards: python3 deploy/generate.py"""

import json
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE, FILES = ROOT / "deploy/base", ROOT / "deploy/chart/files"
LABELS = "  labels:\n    grafana_dashboard: \"1\"\n"


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main():
    alerts, boards = fresh(FILES / "alerts"), fresh(FILES / "dashboards")
    rules = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: midwatch\nspec:\n  groups:\n"
    for file in sorted((ROOT / "alerts").glob("*.yml")):
        text = file.read_text()
        (alerts / file.name).write_text(text)
        groups = text.split("groups:\n", 1)[1]
        rules += "".join(f"  {line}\n" if line else "\n" for line in groups.splitlines())
    (BASE / "prometheusrule.yaml").write_text(rules)
    maps = []
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        small = json.dumps(json.loads(file.read_text()), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        (boards / file.name).write_text(small + "\n")
        head = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: midwatch-dashboard-{file.stem}\n{LABELS}"
        maps.append(f"{head}data:\n  midwatch-{file.name}: {json.dumps(small, ensure_ascii=False)}\n")
    (BASE / "dashboards.yaml").write_text("---\n".join(maps))
    shutil.copy(BASE / "midwatch.toml", FILES / "midwatch.toml")


main()
