"""Where things are, how programs are run, and what they rendered as objects."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# As in scripts/setup.sh.
CACHE = pathlib.Path(
    os.environ.get("MIDWATCH_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "midwatch"
)
sys.path.insert(0, str(CACHE / "python"))

import yaml  # noqa: E402  it is in the cache folder

# The namespace that everything is rendered for.
NAMESPACE = "monitoring"


def program(name):
    """The path of a program that scripts/setup.sh installs."""
    found = shutil.which(name) or shutil.which(name, path=str(CACHE))
    if not found:
        sys.exit(f"{name} is missing; run: scripts/setup.sh test")
    return found


def run(name, *arguments, **more):
    """What a program printed. Fails with what it complained about."""
    done = subprocess.run([program(name), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **more)
    if done.returncode:
        raise Refused((done.stderr + done.stdout).strip())
    return done.stdout


class Refused(Exception):
    """A program that did not end well."""


class Strict(yaml.CSafeLoader):
    """YAML in which no key may be there twice, as Kubernetes reads it."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{sorted(twice)} more than once", node.start_mark)
        return super().construct_mapping(node, deep)


def objects(text):
    """The objects of a rendering by what identifies them: kind, namespace, name."""
    found = {}
    for each in yaml.load_all(text, Strict):
        if each is None:
            continue
        metadata = each["metadata"]
        # Where it goes if nothing else is said; kustomize says it, helm leaves it to who applies.
        metadata.setdefault("namespace", NAMESPACE)
        key = (each["kind"], metadata["namespace"], metadata["name"])
        assert key not in found, f"{key} is there twice"
        found[key] = each
    return found


@functools.cache
def chart(*settings, release="midwatch", version="1.34"):
    """What the chart renders with such `--set-json` settings."""
    flags = [flag for setting in settings for flag in ("--set-json", setting)]
    folder = DEPLOY / "chart"
    return objects(run("helm", "template", release, folder, "--namespace", NAMESPACE, "--kube-version", version, *flags))


@functools.cache
def base(*components):
    """What the base renders with such components, as an overlay of it."""
    overlay = {"namespace": NAMESPACE, "resources": ["base"], "components": [f"components/{each}" for each in components]}
    return built(overlay, lambda path: path, {})


def built(overlay, place, files):
    """What an overlay renders that has such files beside it; `place` tells what its paths are within deploy/."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder).resolve()
        up = os.path.relpath(DEPLOY, folder)
        paths = {key: [f"{up}/{place(path)}" for path in overlay[key]] for key in ("resources", "components")}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay | paths))
        for name, text in files.items():
            (folder / name).write_text(text)
        return objects(run("kustomize", "build", folder))


def read(path):
    """A file of the repository that is YAML, or JSON."""
    return yaml.load((ROOT / path).read_text(), Strict)
