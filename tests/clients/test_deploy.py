"""What deploy/ has for Kubernetes and Compose: it loads, it fits together, and Osprey takes the
configurations. No cluster and no container is needed."""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

import conftest
import harness

DEPLOY = harness.ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def load(path):
    return list(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def objects():
    """The objects of deploy/kubernetes by their kind."""
    files = load(KUBERNETES / "kustomization.yaml")[0]["resources"]
    found = [document for name in files for document in load(KUBERNETES / name)]
    return {document["kind"]: document for document in found}


def pod(objects):
    return objects["Deployment"]["spec"]["template"]


def test_every_file_is_yaml():
    files = [*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")]
    assert len(files) > 12
    for path in files:
        assert all(document is not None for document in load(path)), path


def test_selectors_find_the_pods(objects):
    labels = pod(objects)["metadata"]["labels"].items()
    spread = pod(objects)["spec"]["topologySpreadConstraints"]
    monitor = load(KUBERNETES / "monitoring" / "servicemonitor.yaml")[0]
    selectors = [
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ]
    for selector in selectors:
        assert selector and selector.items() <= labels
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= objects["Service"]["metadata"]["labels"].items()


def test_ports_have_the_names_that_are_used(objects):
    (container,) = pod(objects)["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    settings = tomllib.loads((KUBERNETES / "osprey.toml").read_text())
    assert settings["listen"]["addresses"] == [f"0.0.0.0:{ports['postgres']}"]
    assert settings["observe"]["metrics"] == f"0.0.0.0:{ports['metrics']}"
    for probe, path in [("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/healthz")]:
        request = container[f"{probe}Probe"]["httpGet"]
        assert request == {"path": path, "port": "metrics"}
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} == set(ports)
    rules = objects["NetworkPolicy"]["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == set(ports)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def test_pods_may_drain_and_do_nothing_else(objects):
    limits = tomllib.loads((KUBERNETES / "osprey.toml").read_text())["limits"]
    needed = seconds(limits["pre_drain_delay"]) + seconds(limits["drain_timeout"])
    spec = pod(objects)["spec"]
    assert spec["terminationGracePeriodSeconds"] > needed
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 65532
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]


@pytest.mark.parametrize("components", [[], ["monitoring", "autoscaling"]])
def test_kustomize_puts_them_together(tmp_path, components):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("NOT RUN, for want of kubectl")
    copied = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copied)
    with (copied / "kustomization.yaml").open("a") as file:
        if components:
            file.write("components:\n" + "".join(f"  - {name}\n" for name in components))
    made = list(yaml.safe_load_all(harness.run([kubectl, "kustomize", str(copied)])))
    kinds = {document["kind"]: document for document in made}
    volume = kinds["Deployment"]["spec"]["template"]["spec"]["volumes"][0]
    assert volume["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"]
    assert "osprey.toml" in kinds["ConfigMap"]["data"]
    scaled = "autoscaling" in components
    assert ("replicas" in kinds["Deployment"]["spec"]) != scaled
    assert ("HorizontalPodAutoscaler" in kinds) == scaled
    assert ("ServiceMonitor" in kinds) == ("monitoring" in components)


def test_osprey_takes_the_configuration():
    conftest.need_osprey()
    command = [harness.osprey_binary(), "check-config", "--config", KUBERNETES / "osprey.toml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


def test_compose_mounts_what_is_there():
    compose = load(DEPLOY / "compose" / "compose.yaml")[0]
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / "compose" / source).exists(), source
            else:
                assert source in compose["volumes"]
        # Nothing is offered to the network around.
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    build = compose["services"]["osprey"]["build"]
    context = DEPLOY / "compose" / build["context"]
    assert (context / build["dockerfile"]).exists()
    known = (harness.ROOT / "README.md").read_text() + (DEPLOY / "Dockerfile").read_text()
    known += (harness.ROOT / "config" / "osprey.toml").read_text()
    for name in compose["services"]["osprey"]["environment"]:
        assert name in known, name
    prometheus = load(DEPLOY / "compose" / "prometheus.yml")[0]
    mounted = [volume.split(":")[1] for volume in compose["services"]["prometheus"]["volumes"]]
    for rules in prometheus["rule_files"]:
        assert f"/etc/prometheus/{rules}" in mounted
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert [target.split(":")[0] for target in targets] == ["osprey"]
