"""The kustomize base and the Helm chart."""

import copy
import functools
import json
import re
import subprocess
import sys

from tools import CACHE, DEPLOY, NAMESPACE, ROOT, Refused, base, built, chart, read, run, yaml

import jsonschema
import kubernetes_validate

# From the oldest version that the chart allows, to the newest one that the validator knows.
VERSIONS = [f"1.{minor}" for minor in range(27, 38)]
# A ConfigMap may have 1 MiB, but what `kubectl apply` notes of it 256 KiB.
DASHBOARD_BYTES = 200 * 1024
SOURCE = 'kubernetesSource={"enabled":true,"namespaces":[]}'
SHARDED = ("sharded=true", "replicas=3")
# Each setting of the chart that changes what is rendered, in some combination.
VARIANTS = [
    (),
    SHARDED,
    (SOURCE,),
    ('kubernetesSource={"enabled":true,"namespaces":["databases","archive"]}', *SHARDED),
    ("replicas=2", 'topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"}]'),
    ("serviceMonitor.enabled=false", "prometheusRule.enabled=false", "dashboards.enabled=false", "secret.create=false"),
    ("networkPolicy.enabled=false", "podDisruptionBudget.enabled=false", "ping=true", 'secret.name="kept-elsewhere"'),
    ('web={"tls":true,"login":true}', 'serviceMonitor.endpoint={"tlsConfig":{"serverName":"midwatch"}}', *SHARDED),
    ("serviceMonitor.nativeHistograms=false", 'serviceMonitor.labels={"release":"prometheus"}', 'web={"tls":true,"login":false}'),
    ('prometheusRule.runbooks="https://wiki.example/"', 'prometheusRule.grafana="https://grafana.example"'),
    ('config="[server]\\nlisten = \\"0.0.0.0:9817\\"\\n"', 'fragments={"team-a.toml":"# empty\\n"}', 'dashboards.annotations={"folder":"a"}'),
    ('image={"repository":"registry.example/midwatch","tag":"x","pullPolicy":"Always","pullSecrets":[{"name":"pull"}]}', 'state.storageClass="fast"'),
    ('env=[{"name":"A","value":"b"}]', 'volumes=[{"name":"dumps","emptyDir":{}}]', 'volumeMounts=[{"name":"dumps","mountPath":"/dumps"}]'),
    ('nodeSelector={"disk":"ssd"}', 'tolerations=[{"operator":"Exists"}]', 'affinity={"nodeAffinity":{}}', 'priorityClassName="high"'),
    ('podLabels={"team":"a"}', 'podAnnotations={"note":"b"}', 'networkPolicy.from=[{"podSelector":{}}]', 'state.size="500Mi"'),
]
# What the chart must refuse, and a part of what it says then.
WRONG = {
    "replica=1": "replica",
    "replicas=-1": "replicas",
    'replicas="1"': "replicas",
    'sharded="yes"': "sharded",
    'image.pulPolicy="Always"': "pulPolicy",
    'image.pullPolicy="Sometimes"': "pullPolicy",
    'image.repository=""': "repository",
    "image=null": "image",
    "config={}": "config",
    'fragments={"midwatch.toml":""}': "midwatch.toml",
    'fragments={"a/b.toml":""}': "a/b.toml",
    'secret.name="Not_A_Name"': "name",
    'web.tls="true"': "tls",
    'state.size="1"': "size",
    "resources.limit={}": "limit",
    "env=[{}]": "name",
    'serviceMonitor.interval="15"': "interval",
    'serviceMonitor.labels={"a":1}': "labels",
    "dashboards.enable=false": "enable",
    "networkPolicy.from=[]": "from",
    "networkPolicy.ingress=[]": "ingress",
    'kubernetesSource.namespaces=["a","a"]': "namespaces",
}


def generated():
    """what deploy/generate.py writes is what is committed"""
    files = [DEPLOY / "base/prometheusrule.yaml", *(DEPLOY / "base/dashboards").iterdir()]
    before = {file: file.read_bytes() for file in files}
    subprocess.run([sys.executable, DEPLOY / "generate.py"], check=True)
    files = [DEPLOY / "base/prometheusrule.yaml", *(DEPLOY / "base/dashboards").iterdir()]
    if before != {file: file.read_bytes() for file in files}:
        yield "deploy/base was out of date; it has just been written anew, by: make deploy"


def lint():
    """helm lint"""
    run("helm", "lint", "--strict", "--quiet", "--kube-version", "1.34", DEPLOY / "chart")
    return []


def same():
    """the chart renders to the same objects as the base, with and without components"""
    for components, settings in {
        (): (),
        ("sharded",): SHARDED,
        ("kubernetes-source",): (SOURCE,),
        ("sharded", "kubernetes-source"): (SOURCE, *SHARDED),
    }.items():
        ours, theirs = base(*components), chart(*settings)
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                yield f"{'/'.join(key)} differs with {components}: {difference(ours.get(key), theirs.get(key))}"


def difference(one, other, path=""):
    """The first place where two values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        key = next(key for key in [*one, *other] if one.get(key) != other.get(key))
        return difference(one.get(key), other.get(key), f"{path}.{key}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        index = next(index for index, each in enumerate(one) if each != other[index])
        return difference(one[index], other[index], f"{path}[{index}]")
    return f"at {path or 'all of it'}: base {str(one)[:120]}, chart {str(other)[:120]}"


def valid():
    """every object is valid for Kubernetes 1.27 to 1.37 and two versions of the Prometheus Operator, unknown fields refused"""
    seen = set()
    renderings = [(base("sharded", "kubernetes-source"), VERSIONS), (base(), VERSIONS)]
    # It takes its time: of variants only the oldest and the newest version.
    renderings += [(chart(*settings), [VERSIONS[0], VERSIONS[-1]]) for settings in VARIANTS]
    for each, versions in ((each, versions) for rendering, versions in renderings for each in rendering.values()):
        # Most objects are the same in most variants.
        if (text := json.dumps(each, sort_keys=True)) in seen:
            continue
        seen.add(text)
        yield from problems_of(each, versions)


def problems_of(each, versions):
    """What these versions of Kubernetes, or the operator, would say of an object."""
    name = f"{each['kind']} {each['metadata']['name']}"
    if each["apiVersion"].startswith("monitoring.coreos.com/"):
        for schema in operator_schemas(each["kind"]):
            for error in jsonschema.Draft202012Validator(schema).iter_errors(each):
                yield f"{name}: {error.json_path}: {error.message[:200]}"
        return
    for version in versions:
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{name} in Kubernetes {version}: {str(error)[:200]}"


@functools.cache
def operator_schemas(kind):
    """What each version of the operator defines that kind by."""
    files = sorted(CACHE.glob(f"operator-*/monitoring.coreos.com_{kind.lower()}s.yaml"))
    assert len(files) >= 2, "the operator's definitions are missing; run: scripts/setup.sh test"
    definitions = [yaml.load(file.read_text(), yaml.CSafeLoader) for file in files]
    return [closed(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]) for definition in definitions]


def closed(schema):
    """The same in JSON Schema, with unknown fields refused: Kubernetes drops them otherwise, and says so at best."""
    schema = copy.copy(schema)
    if "properties" in schema:
        schema["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            schema[inner] = closed(schema[inner])
    return schema


def refused():
    """values.schema.json refuses wrong values, and knows every value there is"""
    for setting, said in WRONG.items():
        try:
            chart(setting)
            yield f"{setting} is accepted"
        except Refused as refusal:
            if "values don't meet the specifications of the schema" not in str(refusal) or said not in str(refusal):
                yield f"{setting}: {str(refusal)[-200:]}"
    schema, values = read("deploy/chart/values.schema.json"), read("deploy/chart/values.yaml")
    if schema["properties"].keys() - {"global"} != values.keys():
        yield f"in one of schema and values only: {sorted(schema['properties'].keys() ^ values.keys())}"


def dashboards():
    """each dashboard is a small ConfigMap of its own, and says what dashboards/ says"""
    sources = {f"midwatch-{file.name}": json.loads(file.read_text()) for file in (ROOT / "dashboards").glob("*.json")}
    for (kind, _, name), each in base().items():
        if kind != "ConfigMap" or "-dashboard-" not in name:
            continue
        [(file, text)] = each["data"].items()
        if sources.pop(file, None) != json.loads(text):
            yield f"{file} is not the dashboard of that name"
        if each["metadata"]["labels"].get("grafana_dashboard") != "1":
            yield f"{name} has not the label that the sidecar of Grafana looks for"
        if (size := len(json.dumps(each))) > DASHBOARD_BYTES:
            yield f"{name} has {size} bytes"
        if len(text) > len(json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)) + 1:
            yield f"{name} is not minified"
    for missing in sources:
        yield f"{missing} is in no ConfigMap"


def rules():
    """the PrometheusRule has the groups of alerts/, and the chart makes addresses of its paths"""
    groups = [group for file in sorted((ROOT / "alerts").glob("*.yml")) for group in read(file)["groups"]]
    if base()["PrometheusRule", NAMESPACE, "midwatch"]["spec"]["groups"] != groups:
        yield "the groups differ"
    settings = ('prometheusRule.runbooks="https://wiki.example/"', 'prometheusRule.grafana="https://grafana.example"')
    for group in chart(*settings)["PrometheusRule", NAMESPACE, "midwatch"]["spec"]["groups"]:
        for rule in (rule for rule in group["rules"] if "alert" in rule):
            annotations = rule["annotations"]
            runbook = annotations["runbook_url"].removeprefix("https://wiki.example/")
            if not (ROOT / runbook).is_file():
                yield f"{rule['alert']}: there is no {runbook}"
            if not re.match(r"https://grafana\.example/d/midwatch-\w+", annotations["dashboard_url"]):
                yield f"{rule['alert']}: {annotations['dashboard_url']}"


def releases():
    """releases of other names are apart from each other, and their names are not too long"""
    for release in ("midwatch-a", "b", "c" * 53):
        for kind, _, name in chart(release=release):
            if (kind, "", name) in {(kind, "", name) for kind, _, name in chart()}:
                yield f"{kind} {name} of the release {release} has the name of another's"
            if kind in ("Service", "StatefulSet") and len(name) > {"Service": 63, "StatefulSet": 52}[kind]:
                yield f"{kind} {name}"


def documented():
    """the overlay and the values that docs/DEPLOY.md shows are accepted, and do what it says"""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/DEPLOY.md").read_text(), re.S)
    [overlay] = [yaml.safe_load(block) for block in blocks if "kind: Kustomization" in block]
    overlay["components"] = [component for block in blocks if block.startswith("components:") for component in yaml.safe_load(block)["components"]]
    [values] = [yaml.safe_load(block) for block in blocks if block.startswith("image:")]
    rendered = built(overlay, lambda path: path.removeprefix("../midwatch/deploy/"), {"midwatch.toml": "# mine\n"})
    pods = [rendered, chart(*(f"{key}={json.dumps(value)}" for key, value in values.items()))]
    for objects in pods:
        image = objects["StatefulSet", NAMESPACE, "midwatch"]["spec"]["template"]["spec"]["containers"][0]["image"]
        if not image.startswith("registry.example/midwatch:"):
            yield f"the image is {image}"
    if rendered["ConfigMap", NAMESPACE, "midwatch"]["data"] != {"midwatch.toml": "# mine\n"}:
        yield "the overlay's configuration is not the one that is mounted"
    if rendered["StatefulSet", NAMESPACE, "midwatch"]["spec"]["replicas"] != 3:
        yield "the component is not applied"


CHECKS = [generated, lint, same, valid, refused, dashboards, rules, releases, documented]
