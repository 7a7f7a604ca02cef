"""Manifests in deploy/: valid by the tools' own schemas, whole in themselves, and with settings that the node takes."""

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from trine_gateway.settings import GatewaySettings
from trine_node.settings import NodeSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = [DEPLOY / "compose" / name for name in ("compose.yaml", "several-nodes.yaml", "gateway.yaml")]
DOCKERFILES = sorted((DEPLOY / "images").glob("*.Dockerfile"))
VERSIONS = ("1.30", "1.37")
OBJECTS = [document for file in KUBERNETES for document in yaml.safe_load_all(file.read_text())]
PODS = [o for o in OBJECTS if o["kind"] in ("Deployment", "StatefulSet")]
# What node.yaml's first lines tell the operator to create.
GIVEN = {("ConfigMap", "trine-network"), *(("Secret", f"trine-{name}") for name in ("operator", "engine", "store"))}


def named(kind, name):
    return next(o for o in OBJECTS if (o["kind"], o["metadata"]["name"]) == (kind, name))


def containers(pod):
    spec = pod["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda o: f"{o['kind']}-{o['metadata']['name']}")
def test_kubernetes_takes_it(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_check_of_manifests_finds_what_is_wrong():
    wrong = yaml.safe_load(yaml.safe_dump(named("Deployment", "trine-node")))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[1], strict=True)


@pytest.mark.parametrize("pod", PODS, ids=lambda o: o["metadata"]["name"])
def test_what_a_pod_mounts_exists(pod):
    volumes = {volume["name"]: volume for volume in pod["spec"]["template"]["spec"]["volumes"]}
    for container in containers(pod):
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    own = {(o["kind"], o["metadata"]["name"]) for o in OBJECTS}
    for volume in volumes.values():
        wanted = {
            ("ConfigMap", volume.get("configMap", {}).get("name")),
            ("Secret", volume.get("secret", {}).get("secretName")),
            ("PersistentVolumeClaim", volume.get("persistentVolumeClaim", {}).get("claimName")),
        }
        assert all(name is None or (kind, name) in own | GIVEN for kind, name in wanted)


@pytest.mark.parametrize("pod", PODS, ids=lambda o: o["metadata"]["name"])
def test_every_container_has_resources_and_the_lasting_ones_are_probed(pod):
    assert all(container["resources"]["limits"]["memory"] for container in containers(pod))
    for container in pod["spec"]["template"]["spec"]["containers"]:
        assert {"startupProbe", "livenessProbe"} <= set(container)


def test_a_service_finds_its_pods():
    labels = [pod["spec"]["template"]["metadata"]["labels"] for pod in PODS]
    labels.append({"statefulset.kubernetes.io/pod-name": "vllm-0"})
    services = [o for o in OBJECTS if o["kind"] == "Service"]
    assert all(any(s["spec"]["selector"].items() <= found.items() for found in labels) for s in services)
    assert named("StatefulSet", "vllm")["spec"]["serviceName"] in [s["metadata"]["name"] for s in services]


def test_a_node_that_calibrates_is_reachable_and_is_not_killed_for_it():
    probes = containers(named("Deployment", "trine-node"))[0]
    assert probes["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert "httpGet" not in probes["livenessProbe"]
    assert named("Service", "trine-node")["spec"]["publishNotReadyAddresses"] is True


def settings_of(file, monkeypatch, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return NodeSettings.load(file)


def test_the_node_in_kubernetes_takes_its_settings(tmp_path, monkeypatch):
    file = tmp_path / "node.toml"
    file.write_text(named("ConfigMap", "trine-node")["data"]["node.toml"])
    container = containers(named("Deployment", "trine-node"))[0]
    assert "TRINE_NODE_STORE_URL" in [variable["name"] for variable in container["env"]]
    settings = settings_of(file, monkeypatch, TRINE_NODE_STORE_URL="postgresql+psycopg://trine@postgres/node")
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (settings.deployment, settings.keystore, settings.password_file, settings.engine_api_key_file):
        assert str(path.parent) in mounts
    assert settings.engine_url == "http://vllm:8000"
    assert settings.port == container["ports"][0]["containerPort"]


def test_the_nodes_in_compose_take_their_settings(monkeypatch):
    services = {name: s for file in COMPOSE for name, s in yaml.safe_load(file.read_text())["services"].items()}
    file = DEPLOY / "compose" / "node.toml"
    first = settings_of(file, monkeypatch)
    assert (first.engine, first.engine_url) == ("vllm", "http://vllm:8000")
    environment = {k: v for k, v in services["second"]["environment"].items() if k.startswith("TRINE_NODE_")}
    second = settings_of(file, monkeypatch, **environment)
    assert second.keystore != first.keystore
    assert second.store_url != first.store_url
    assert second.endpoint != first.endpoint


def test_the_gateway_in_compose_takes_its_settings():
    settings = GatewaySettings.load(DEPLOY / "compose" / "gateway.toml")
    service = yaml.safe_load((DEPLOY / "compose" / "gateway.yaml").read_text())["services"]["gateway"]
    mounts = [str(volume).split(":")[1] for volume in service["volumes"]]
    mounts += [f"/run/secrets/{name}" for name in service["secrets"]]
    assert {str(path) for path in (settings.deployment, settings.keystore, settings.password_file)} <= set(mounts)
    assert settings.store_url.removeprefix("sqlite:///").startswith("/data/")
    assert service["command"][-1] in mounts  # the file that is read is the one that is mounted
    assert service["ports"] == [f"127.0.0.1:8080:{settings.port}"]
    assert f":{settings.port}/healthz" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize("file", COMPOSE, ids=lambda f: f.name)
def test_compose_reads_it(file):
    PyCompose.from_yaml(file.read_text())


def test_the_check_of_compose_files_finds_what_is_wrong():
    with pytest.raises(ValueError, match="port"):
        PyCompose.from_yaml(COMPOSE[0].read_text().replace('"8000:8000"', '"8000:eight"'))


def test_what_compose_services_name_exists():
    files = [yaml.safe_load(file.read_text()) for file in COMPOSE]
    known = {part: {name for file in files for name in file.get(part) or {}} for part in ("services", "secrets")}
    volumes = {name for file in files for name in file.get("volumes") or {}}
    for service in (service for file in files for service in file["services"].values()):
        assert set(service.get("depends_on", {})) <= known["services"]
        assert set(service.get("secrets", [])) <= known["secrets"]
        mounted = [str(volume).partition(":")[0] for volume in service.get("volumes", [])]
        assert {source for source in mounted if not source.startswith(".")} <= volumes
        for bound in (source for source in mounted if source.startswith(".") and "deployment" not in source):
            assert (DEPLOY / "compose" / bound).exists()


def scripts():
    for pod in PODS:
        for container in containers(pod):
            probes = [container.get(name, {}).get("exec", {}) for name in ("startupProbe", "livenessProbe")]
            for shell, _, script in (c["command"] for c in (container, *probes) if c.get("command")):
                yield shell, script
    for file in COMPOSE:
        for service in yaml.safe_load(file.read_text())["services"].values():
            if "entrypoint" in service:
                yield service["entrypoint"][0], service["command"][0].replace("$$", "$")


@pytest.mark.parametrize(("shell", "script"), list(scripts()))
def test_scripts_in_manifests_are_of_their_shell(shell, script):
    checked = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda f: f.name)
def test_dockerfiles_pass_hadolint(file):
    checked = subprocess.run([shutil.which("hadolint"), str(file)], text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_image_copies_what_its_packages_are_made_of():
    copied = (DEPLOY / "images" / "trine.Dockerfile").read_text()
    allowed = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    for path in (
        "client_sdk",
        "operators",
        "gateway",
        "node",
        "verifier",
        "deploy/requirements",
        "deploy/scripts/install.py",
    ):
        assert f"COPY {path} {path}\n" in copied
        assert f"!{path}" in allowed
