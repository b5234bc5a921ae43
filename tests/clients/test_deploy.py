"""What deploy/ has for Kubernetes and Compose: it loads, it fits together, and Osprey takes the
configurations. The Helm chart is rendered by helm itself. No cluster and no container is needed."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

import conftest
import harness
import vendor

DEPLOY = harness.ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm" / "osprey"


def load(path):
    return list(yaml.safe_load_all(path.read_text()))


def named(documents):
    """Objects by what they are; that one of Prometheus' own apart from the clients' Service."""
    found = {}
    for document in documents:
        suffix = "/metrics" if document["metadata"]["name"].endswith("-metrics") else ""
        assert found.setdefault(document["kind"] + suffix, document) is document
    return found


@pytest.fixture(scope="module")
def objects():
    """The objects of deploy/kubernetes by their kind."""
    files = load(KUBERNETES / "kustomization.yaml")[0]["resources"]
    return named(document for name in files for document in load(KUBERNETES / name))


@pytest.fixture(scope="module")
def tools():
    """The directory of helm and kubectl."""
    done = subprocess.run([harness.ROOT / "tests" / "kubernetes" / "tools"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"NOT RUN, for want of helm: {done.stderr[-200:]}")
    return pathlib.Path(done.stdout.strip())


@pytest.fixture(scope="module")
def helm(tools, tmp_path_factory):
    """Renders the chart with values; gives its objects by their kind. What helm says instead raises."""
    work = tmp_path_factory.mktemp("helm")

    def render(values, release="osprey"):
        (work / "values.yaml").write_text(yaml.safe_dump(values))
        command = [tools / "helm", "template", release, CHART, "--values", work / "values.yaml"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": str(work)})
        assert "warning" not in done.stderr, done.stderr
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return named(filter(None, yaml.safe_load_all(done.stdout)))

    return render


UPSTREAM = {"config": {"upstream": {"address": "holo:80"}}}
# As much as can be said.
RICH = {
    "config": {
        "listen": None,
        "listener": [
            {
                "addresses": ["[::]:7432", "0.0.0.0:7433"],
                "upstream": "dw",
                "rule": [{"database": "etl_*", "upstream": "etl"}],
            }
        ],
        "upstream": [
            {
                "name": "dw",
                "address": "dw:80",
                "tls": {"mode": "require"},
                "catalog": {"refresh": "1h"},
                "protect": {"project": [{"name": "enc_*", "encryption": "kms"}]},
            },
            {"name": "etl", "addresses": ["etl:8080", "[fd00::1]:80"], "max_sessions": 1000000},
        ],
        "route": {"retry_writes": False},
        "catalog": {"user": 'svc "osprey" \\ <&>'},
        "observe": {"metrics": "0.0.0.0:9999"},
        "limits": {"pre_drain_delay": "1500ms", "drain_timeout": "5m", "max_sessions": 10000000},
    },
    "catalogPassword": {"secret": "catalog"},
    "image": {"repository": "registry.example/osprey", "digest": "sha256:" + "0" * 64},
    "serviceAccount": {"name": "proxy", "annotations": {"a": "b"}},
    "rrsa": {"role": "osprey-keys"},
    "service": {"type": "LoadBalancer", "port": 80, "loadBalancerSourceRanges": ["10.0.0.0/8"]},
    "autoscaling": {"enabled": True},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
    },
    "networkPolicy": {"clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    "podAnnotations": {"c": "d"},
    "podLabels": {"e": "f"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"operator": "Exists"}],
    "priorityClassName": "high",
    "extraEnv": [{"name": "OSPREY_LOG", "value": "debug"}],
    "extraVolumes": [{"name": "keys", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "keys", "mountPath": "/var/lib/osprey"}],
}


def pod(objects):
    return objects["Deployment"]["spec"]["template"]


def test_every_file_is_yaml():
    files = [*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")]
    # Those of the chart are YAML once they are rendered.
    files = [path for path in files if CHART / "templates" not in path.parents]
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
        objects["Service/metrics"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ]
    for selector in selectors:
        assert selector and selector.items() <= labels
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= objects["Service/metrics"]["metadata"]["labels"].items()
    assert not wanted <= objects["Service"]["metadata"]["labels"].items()


def test_ports_have_the_names_that_are_used(objects):
    (container,) = pod(objects)["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    settings = tomllib.loads((KUBERNETES / "osprey.toml").read_text())
    assert settings["listen"]["addresses"] == [f"0.0.0.0:{ports['postgres']}"]
    assert settings["observe"]["metrics"] == f"0.0.0.0:{ports['metrics']}"
    for probe, path in [("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/healthz")]:
        request = container[f"{probe}Probe"]["httpGet"]
        assert request == {"path": path, "port": "metrics"}
    # What can be reached from outside is the clients' port alone.
    for service, port in [("Service", "postgres"), ("Service/metrics", "metrics")]:
        assert [offered["targetPort"] for offered in objects[service]["spec"]["ports"]] == [port]
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
def test_kustomize_puts_them_together(tmp_path, tools, components):
    copied = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copied)
    with (copied / "kustomization.yaml").open("a") as file:
        if components:
            file.write("components:\n" + "".join(f"  - {name}\n" for name in components))
    kinds = named(yaml.safe_load_all(harness.run([tools / "kubectl", "kustomize", copied])))
    volume = kinds["Deployment"]["spec"]["template"]["spec"]["volumes"][0]
    assert volume["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"]
    assert "osprey.toml" in kinds["ConfigMap"]["data"]
    scaled = "autoscaling" in components
    assert ("replicas" in kinds["Deployment"]["spec"]) != scaled
    assert ("HorizontalPodAutoscaler" in kinds) == scaled
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert (kind in kinds) == ("monitoring" in components)
    # Kustomize names the image.
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    (image,) = load(KUBERNETES / "kustomization.yaml")[0]["images"]
    assert container["image"] == f"{image['newName']}:{image['newTag']}"


def test_the_manifests_are_those_of_the_chart(tmp_path, tools):
    """deploy/kubernetes/render writes them anew."""
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    harness.run([KUBERNETES / "render", tmp_path / "made"], env=environment)
    made = [path.relative_to(tmp_path / "made") for path in (tmp_path / "made").rglob("*") if path.is_file()]
    by_hand = {"README.md", "render", "values.yaml", "kustomization.yaml"}
    there = [path for path in KUBERNETES.rglob("*") if path.is_file() and path.name not in by_hand]
    assert sorted(made) == sorted(path.relative_to(KUBERNETES) for path in there)
    for name in made:
        text = (tmp_path / "made" / name).read_text()
        assert text == (KUBERNETES / name).read_text(), f"{name}: run deploy/kubernetes/render"


def test_the_chart_has_the_version_of_the_crate():
    version = tomllib.loads((harness.ROOT / "Cargo.toml").read_text())["package"]["version"]
    chart = load(CHART / "Chart.yaml")[0]
    assert chart["version"] == chart["appVersion"] == version


@pytest.mark.parametrize("values", [UPSTREAM, RICH], ids=["least", "rich"])
def test_helm_lints_it(tmp_path, tools, values):
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    command = [tools / "helm", "lint", "--strict", CHART, "--values", tmp_path / "values.yaml"]
    said = harness.run(command, env={**os.environ, "HOME": str(tmp_path)})
    assert "[WARNING]" not in said and "[ERROR]" not in said, said


def test_the_schema_has_every_value():
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values, properties, path):
        assert set(values) <= set(properties), path
        # None of the schema's either is without its default.
        assert set(properties) - set(values) <= {"global"}, path
        for key, value in values.items():
            of = properties[key]
            if isinstance(value, dict) and of.get("additionalProperties") is False and f"{path}{key}" != "config":
                compare(value, of["properties"], f"{path}{key}.")

    compare(load(CHART / "values.yaml")[0], schema["properties"], "")
    # A section of osprey.toml is one that the shipped file has.
    shipped = (harness.ROOT / "config" / "osprey.toml").read_text()
    sections = set(re.findall(r"^(?:#e\.g\. |#or: )?\[+(\w+)[\].]", shipped, flags=re.M))
    assert set(schema["properties"]["config"]["properties"]) == sections


@pytest.mark.parametrize(
    "values, words",
    [
        ({}, "config.upstream.address: where is Hologres?"),
        ({"config": {"upstream": None}}, "config.upstream.address: where is Hologres?"),
        ({"config": {"upstream": {"name": "dw"}}}, "config.upstream.address: where is Hologres?"),
        ({"config": {"upstream": []}}, "/config/upstream"),
        ({**UPSTREAM, "replicas": 3}, "'replicas' not allowed"),
        ({**UPSTREAM, "service": {"port": 0}}, "/service/port"),
        ({**UPSTREAM, "replicaCount": "two"}, "/replicaCount"),
        ({**UPSTREAM, "image": {"digest": "latest"}}, "/image/digest"),
        ({"config": {**UPSTREAM["config"], "limits": {"drain_timeout": "1 minute"}}}, "/config/limits/drain_timeout"),
        ({"config": {**UPSTREAM["config"], "limit": {}}}, "'limit' not allowed"),
        ({"config": {**UPSTREAM["config"], "listen": {"addresses": []}}}, "/config/listen/addresses"),
        ({**UPSTREAM, "serviceAccount": {"create": False}}, "serviceAccount.name: which account"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_named(helm, values, words):
    with pytest.raises(RuntimeError) as failed:
        helm(values)
    assert words in str(failed.value)


def configuration(objects):
    return tomllib.loads(objects["ConfigMap"]["data"]["osprey.toml"])


def test_the_configuration_is_what_the_values_say(helm, tmp_path):
    conftest.need_osprey()
    said = {key: value for key, value in RICH["config"].items() if value is not None}
    rich = helm(RICH)
    defaults = load(CHART / "values.yaml")[0]["config"]
    expected = {
        **said,
        "observe": {**defaults["observe"], **said["observe"]},
        "reload": defaults["reload"],
    }
    assert configuration(rich) == expected
    least = helm({**UPSTREAM, "tls": {"secret": "osprey-tls"}})
    tls = {"certificate": "/run/osprey/tls/tls.crt", "key": "/run/osprey/tls/tls.key"}
    assert configuration(least) == {
        **defaults,
        "listen": {**defaults["listen"], "tls": tls},
        "upstream": {"address": "holo:80"},
    }
    (container,) = pod(least)["spec"]["containers"]
    assert {"name": "tls", "mountPath": "/run/osprey/tls", "readOnly": True} in container["volumeMounts"]
    # And Osprey takes it.
    config = tmp_path / "osprey.toml"
    for made, environment in [(rich, {"OSPREY_CATALOG_PASSWORD": "x"}), (helm(UPSTREAM), {})]:
        config.write_text(made["ConfigMap"]["data"]["osprey.toml"])
        command = [harness.osprey_binary(), "check-config", "--config", config]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


def test_the_values_of_the_documentation_are_taken(helm, tools, tmp_path):
    conftest.need_osprey()
    page = (harness.ROOT / "docs" / "installation.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.S | re.M)
    values = yaml.safe_load(text)
    made = helm(values)
    assert configuration(made)["listen"]["tls"]["key"] == "/run/osprey/tls/tls.key"
    assert {"HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule"} <= set(made)
    # The certificate is not here.
    del values["tls"]
    config = tmp_path / "osprey.toml"
    config.write_text(helm(values)["ConfigMap"]["data"]["osprey.toml"])
    command = [harness.osprey_binary(), "check-config", "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, env={"OSPREY_CATALOG_PASSWORD": "x"})
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    # And those on the command line of the page.
    said = re.findall(r"--set (\S+)", page)
    assert len(said) == 2
    command = [tools / "helm", "template", "osprey", CHART, *(f"--set={value}" for value in said)]
    assert "REGISTRY/osprey:" in harness.run(command, env={**os.environ, "HOME": str(tmp_path)})


def test_other_values_reach_the_objects(helm):
    rich = helm(RICH, release="blue")
    assert {made["metadata"]["name"] for made in rich.values()} == {"blue-osprey", "blue-osprey-metrics", "proxy"}
    spec = pod(rich)["spec"]
    (container,) = spec["containers"]
    # 1.5 s, rounded up, five minutes, and ten seconds.
    assert spec["terminationGracePeriodSeconds"] == 2 + 300 + 10
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"postgres": 7432, "metrics": 9999}
    assert container["image"] == "registry.example/osprey@sha256:" + "0" * 64
    (password, level) = container["env"]
    assert password["valueFrom"]["secretKeyRef"] == {"name": "catalog", "key": "password"}
    assert level == RICH["extraEnv"][0]
    annotations = rich["ServiceAccount"]["metadata"]["annotations"]
    assert annotations == {"a": "b", "pod-identity.alibabacloud.com/role-name": "osprey-keys"}
    assert spec["serviceAccountName"] == rich["ServiceAccount"]["metadata"]["name"] == "proxy"
    service = rich["Service"]["spec"]
    assert (service["type"], service["ports"][0]["port"]) == ("LoadBalancer", 80)
    assert service["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert rich["NetworkPolicy"]["spec"]["ingress"][0]["from"] == RICH["networkPolicy"]["clients"]
    assert "replicas" not in rich["Deployment"]["spec"]
    assert rich["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "blue-osprey"
    assert rich["ServiceMonitor"]["metadata"]["labels"]["release"] == "prometheus"
    assert rich["PrometheusRule"]["spec"] == load(DEPLOY / "prometheus" / "alerts.yml")[0]
    assert spec["volumes"][-1] == RICH["extraVolumes"][0] and spec["priorityClassName"] == "high"
    assert pod(rich)["metadata"]["labels"]["e"] == "f" and spec["nodeSelector"] == RICH["nodeSelector"]
    # Another configuration makes other pods.
    checksum = [pod(helm(values))["metadata"]["annotations"]["checksum/config"] for values in (RICH, UPSTREAM)]
    assert len(set(checksum)) == 2
    # The least has none of what is not asked for.
    assert not {"HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule"} & set(helm(UPSTREAM))


def test_osprey_reaches_what_its_configuration_names(helm):
    config = {
        "upstream": RICH["config"]["upstream"],
        "observe": {"traces": "http://otel:4318/"},
        "replicas": {"redis": ["redis:6380", "redis2"]},
    }
    for values, ports in ((UPSTREAM, [80, 443]), ({"config": config}, [80, 443, 8080, 6380, 6379, 4318])):
        egress = helm(values)["NetworkPolicy"]["spec"]["egress"][-1]["ports"]
        assert [port["port"] for port in egress] == ports


def test_kubernetes_knows_every_field(helm, tmp_path):
    """By the schemas of its own interface, of the oldest version that the chart is for and of a new one."""
    python = vendor.environment("schemas") / "python"
    (oldest,) = re.findall(r">=(\d+\.\d+)\.", load(CHART / "Chart.yaml")[0]["kubeVersion"])
    custom = ("ServiceMonitor", "PrometheusRule")
    made = [made for values in (UPSTREAM, RICH) for kind, made in helm(values).items() if kind not in custom]
    assert len(made) > 12
    (tmp_path / "objects.json").write_text(json.dumps(made))
    script = """if True:
        import json, sys, kubernetes_validate
        objects = json.load(open(sys.argv[1]))
        for version in sys.argv[2:]:
            for made in objects:
                kubernetes_validate.validate(made, version, strict=True)
        wrong = dict(objects[0], spec={"nonsense": 1})
        try:
            kubernetes_validate.validate(wrong, sys.argv[2], strict=True)
        except kubernetes_validate.ValidationError:
            print("checked", len(objects))
    """
    said = harness.run([python, "-c", script, tmp_path / "objects.json", oldest, "1.35"])
    assert said.strip() == f"checked {len(made)}"


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


def test_the_containers_root_has_all_that_osprey_needs(cluster, database, tmp_path):
    """What the image is made of, as a root directory: Osprey runs in it as its user, and finds hosts by name."""
    conftest.need_osprey()
    root = tmp_path / "image"
    harness.run([DEPLOY / "container-root", harness.osprey_binary(), root])
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert {"usr/local/bin/osprey", "etc/osprey/osprey.toml", "etc/ssl/certs/ca-certificates.crt"} <= files
    assert not any(name in file for file in files for name in ("/bash", "/sh", "/dpkg", "/apt"))
    if os.geteuid() != 0:
        pytest.skip("NOT RUN, for want of root: it alone may change its root directory")
    # What a container's runtime adds.
    for name in ("hosts", "resolv.conf"):
        shutil.copy(f"/etc/{name}", root / "etc" / name)
    root.chmod(0o755)
    osprey = harness.Osprey(cluster.port)
    inside = ["/usr/sbin/chroot", "--userspec=65532:65532", root, "/usr/local/bin/osprey"]
    command = [f"localhost:{cluster.port}" if word == f"127.0.0.1:{cluster.port}" else word for word in osprey.command[1:]]
    assert f"localhost:{cluster.port}" in command
    osprey.command = [*inside, *command]
    with osprey:
        with osprey.endpoint(database).connect() as client:
            assert client.execute("SELECT count(*) FROM items").fetchone() == (50,)
        ready = [*inside, "ready", "--metrics", f"127.0.0.1:{osprey.metrics_port}"]
        assert subprocess.run(ready, timeout=20).returncode == 0
