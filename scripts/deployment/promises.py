"""What the objects for Kubernetes must hold together, whatever the values."""

import re
import tomllib

from kubernetes import SHARDED, SOURCE, VARIANTS
from tools import NAMESPACE, ROOT, base, chart, read

# As Kubernetes' Pod Security Standard "restricted" wants it, and a read-only root besides.
CONTAINER = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def renderings():
    """Everything that is rendered."""
    return [base(), base("sharded", "kubernetes-source"), *(chart(*settings) for settings in VARIANTS)]


def of_kind(objects, kind):
    """The objects of a kind."""
    return [each for (which, _, _), each in objects.items() if which == kind]


def pod_of(objects):
    """The Pod that the StatefulSet makes, and its one container."""
    [stateful] = of_kind(objects, "StatefulSet")
    pod = stateful["spec"]["template"]
    [container] = pod["spec"]["containers"]
    return stateful, pod, container


def matches(selector, labels):
    """Whether labels are what a selector wants."""
    return selector.items() <= labels.items()


def hardened():
    """the Pod runs as nobody, may do nothing but open connections, and has a token only for the Kubernetes source"""
    for objects in renderings():
        _, pod, container = pod_of(objects)
        context = pod["spec"]["securityContext"]
        if container["securityContext"] != CONTAINER:
            yield f"the container's context is {container['securityContext']}"
        if not context["runAsNonRoot"] or not context["runAsUser"] or context["seccompProfile"] != {"type": "RuntimeDefault"}:
            yield f"the Pod's context is {context}"
        for sysctl in context.get("sysctls", []):
            # The only ones that Pod Security allows for pings.
            if sysctl["name"] != "net.ipv4.ping_group_range":
                yield f"sysctl {sysctl['name']}"
        if {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys():
            yield "something of the host is shared"
        with_token = pod["spec"]["automountServiceAccountToken"]
        if with_token != bool(of_kind(objects, "Role")):
            yield "a token without a Role, or a Role without a token"
        if of_kind(objects, "ClusterRole") or of_kind(objects, "ClusterRoleBinding"):
            yield "there is a cluster role"
        for role in of_kind(objects, "Role"):
            if {verb for rule in role["rules"] for verb in rule["verbs"]} != {"list", "watch"}:
                yield f"the Role allows more than looking: {role['rules']}"


def reload():
    """a changed ConfigMap or Secret arrives: whole directories are mounted, and their names stay as they are"""
    for objects in renderings():
        _, pod, container = pod_of(objects)
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for name in ("config", "secrets"):
            if "subPath" in mounts[name] or "items" in str(volumes[name]):
                yield f"{name} is not mounted as a directory"
        config = volumes["config"]["configMap"]["name"]
        if ("ConfigMap", NAMESPACE, config) not in objects:
            yield f"there is no ConfigMap {config}"
        path = f"{mounts['config']['mountPath']}/midwatch.toml"
        if path not in container["args"]:
            yield f"{path} is not what midwatch reads: {container['args']}"
        secret = volumes["secrets"]["secret"]["secretName"]
        if of_kind(objects, "Secret") and ("Secret", NAMESPACE, secret) not in objects:
            yield f"the Secret {secret} is not the one that is made"
        state = next(each["value"] for each in container["env"] if each["name"] == "STATE_DIRECTORY")
        if state != mounts["state"]["mountPath"]:
            yield f"state is kept at {state}, which is no volume"


def found():
    """services, policies and the monitor select the Pod and its port, and each replica is scraped once"""
    for objects in renderings():
        stateful, pod, container = pod_of(objects)
        labels = pod["metadata"]["labels"]
        [port] = container["ports"]
        text = objects["ConfigMap", NAMESPACE, stateful["metadata"]["name"]]["data"]["midwatch.toml"]
        if tomllib.loads(text)["server"]["listen"] != f"0.0.0.0:{port['containerPort']}":
            yield "midwatch listens at another port than the container's"
        services = of_kind(objects, "Service")
        selectors = [service["spec"]["selector"] for service in services]
        selectors += [stateful["spec"]["selector"]["matchLabels"]]
        selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(objects, "PodDisruptionBudget")]
        selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(objects, "NetworkPolicy")]
        for selector in selectors:
            if not matches(selector, labels):
                yield f"{selector} does not select {labels}"
        headless = {service["metadata"]["name"] for service in services if service["spec"].get("clusterIP") == "None"}
        if headless != {stateful["spec"]["serviceName"]}:
            yield f"the StatefulSet's service is {stateful['spec']['serviceName']}, and headless are {headless}"
        for monitor in of_kind(objects, "ServiceMonitor"):
            wanted = monitor["spec"]["selector"]["matchLabels"]
            if sum(matches(wanted, service["metadata"]["labels"]) for service in services) != 1:
                yield "the ServiceMonitor selects none of the services, or more than one"
        for policy in of_kind(objects, "NetworkPolicy"):
            if policy["spec"]["egress"] != [{}]:
                yield "probes may not leave"
            [rule] = policy["spec"]["ingress"]
            if not rule["from"] or [each["port"] for each in rule["ports"]] != [port["name"]]:
                yield "more may come in than scrapes and messages"


def probes():
    """the kubelet asks for pages that midwatch serves"""
    routes = (ROOT / "src/http/routes.rs").read_text()
    for objects in renderings():
        _, _, container = pod_of(objects)
        for probe in (container["readinessProbe"], container["livenessProbe"]):
            if "httpGet" in probe and f'("{probe["httpGet"]["path"]}", ' not in routes:
                yield f"no page {probe['httpGet']['path']}"
    _, _, container = pod_of(chart('web={"tls":true,"login":true}'))
    if "httpGet" in container["readinessProbe"]:
        yield "the kubelet has no password"


def shards():
    """shards are counted and find each other, and there are none unless asked for"""
    for components, settings in {(): (SOURCE,), ("sharded",): SHARDED}.items():
        for objects in (base(*components), chart(*settings)):
            stateful, _, container = pod_of(objects)
            environment = {each["name"]: each.get("value") for each in container["env"]}
            if not components:
                if {"MIDWATCH_SHARD", "MIDWATCH_PEERS"} & environment.keys():
                    yield "shards without being asked for"
                continue
            if environment["MIDWATCH_SHARD"] != f"auto/{stateful['spec']['replicas']}":
                yield f"{environment['MIDWATCH_SHARD']} of {stateful['spec']['replicas']} replicas"
            peers = re.fullmatch(r"http://(.*)-\{shard\}\.(.*)\.\$\(POD_NAMESPACE\)\.svc:9817", environment["MIDWATCH_PEERS"])
            if not peers or peers.groups() != (stateful["metadata"]["name"], stateful["spec"]["serviceName"]):
                yield f"the peers are {environment['MIDWATCH_PEERS']}"
            # $(NAME) means only what comes before it.
            names = [each["name"] for each in container["env"]]
            if names.index("POD_NAMESPACE") > names.index("MIDWATCH_PEERS"):
                yield "the namespace is not known yet when the peers are named"


def versions():
    """image, chart and package have the same version, and the image is built by the compiler that the package asks for"""
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    _, _, container = pod_of(base())
    about = read("deploy/chart/Chart.yaml")
    image = f"midwatch:{package['version']}"
    for said in (
        container["image"] == image,
        about["version"] == about["appVersion"] == package["version"],
        read("deploy/compose/compose.yaml")["services"]["midwatch"]["image"] == image,
        f"--tag {image} " in (dockerfile := (ROOT / "deploy/Dockerfile").read_text()),
        f"FROM rust:{package['rust-version']}-" in dockerfile,
    ):
        if not said:
            yield f"something is not of {package['version']}, or not of Rust {package['rust-version']}"


CHECKS = [hardened, reload, found, probes, shards, versions]
