"""ops/deploy/kubernetes: the numbers of the design, and every name and port that the product has."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import yaml
from kit.deployment import DEPLOY, MARGIN_S, PATHS, SECRETS, image_settings, runs, settings, stop_s

from callboard.actors.delivery.department import DeliverySettings
from callboard.ops.config.configuration import load

KUBERNETES = DEPLOY / "kubernetes"


@cache
def resources() -> dict[tuple[str, str], dict[str, Any]]:
    """Every resource, by its kind and name."""
    found = {}
    for path in KUBERNETES.glob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            found[each["kind"], each.get("metadata", {}).get("name", "")] = each
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for (kind, name), each in resources().items():
        if kind in ("Deployment", "Job"):
            yield name, each["spec"]["template"]


def environment_of(container: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = image_settings()
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= resources()["ConfigMap", source["configMapRef"]["name"]]["data"]
        else:
            names = resources()["Secret", source["secretRef"]["name"]]["stringData"]
            assert set(names.values()) == {""}, "a secret is in the repository"
            found |= {name: SECRETS[name] for name in names}
    return found | {each["name"]: each["value"] for each in container.get("env", [])}


def test_every_pod_runs_a_command_of_ours_with_settings_that_a_start_accepts() -> None:
    commands = {}
    for name, pod in pods():
        [container] = pod["spec"]["containers"]
        commands[name] = runs(container["args"])
        config = settings(environment_of(container))
        ports = {each["name"]: each["containerPort"] for each in container.get("ports", [])}
        assert ports in ({}, {"operators": config.ops_port}, {"http": config.http_port, "operators": config.ops_port})
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if commands[name] == "serve":
                get = container[probe]["httpGet"]
                assert get["path"] == ("/ready" if probe == "readinessProbe" else "/health")
                assert get["path"] in PATHS
                assert get["port"] == ("http" if "http" in ports else "operators")
        if commands[name] == "serve":
            assert pod["spec"]["terminationGracePeriodSeconds"] >= stop_s(config) + MARGIN_S
            probe = container["readinessProbe"]
            assert (
                config.shutdown_delay_s > probe["periodSeconds"] * probe.get("failureThreshold", 3)
                or "http" not in ports
            )
    assert commands == {"callboard-api": "serve", "callboard-worker": "serve", "callboard-migrate": "migrate"}


def test_every_pod_is_confined() -> None:
    for _, pod in pods():
        spec = pod["spec"]
        [container] = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_numbers_of_the_deployment_are_those_of_the_design() -> None:
    deployment = resources()["Deployment", "callboard-api"]["spec"]
    [container] = deployment["template"]["spec"]["containers"]
    assert deployment["replicas"] == 3
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }
    service = resources()["Service", "callboard"]["spec"]
    assert [(each["port"], each["targetPort"]) for each in service["ports"]] == [(80, 8000)]
    scaler = resources()["HorizontalPodAutoscaler", "callboard-api"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
    targets = {each["resource"]["name"]: each["resource"]["target"]["averageUtilization"] for each in scaler["metrics"]}
    assert targets == {"cpu": 70, "memory": 80}


def test_what_names_another_resource_names_one_that_is_there() -> None:
    found = resources()
    labels = [pod["metadata"]["labels"] for _, pod in pods()]

    def selects(selector: Mapping[str, str]) -> bool:
        return any(selector.items() <= each.items() for each in labels)

    for (kind, name), each in found.items():
        spec = each.get("spec", {})
        if kind == "Service":
            assert selects(spec["selector"])
        if kind in ("Deployment", "PodDisruptionBudget"):
            assert selects(spec["selector"]["matchLabels"]), name
        if kind == "HorizontalPodAutoscaler":
            assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) in found
        if kind == "Ingress":
            backend = spec["rules"][0]["http"]["paths"][0]["backend"]["service"]
            ports = found["Service", backend["name"]]["spec"]["ports"]
            assert backend["port"]["name"] in {port["name"] for port in ports}
    listed = set(found["Kustomization", ""]["resources"])
    assert listed == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}


def test_the_network_policy_lets_in_and_out_what_the_settings_need() -> None:
    spec = resources()["NetworkPolicy", "callboard"]["spec"]
    deployment = resources()["Deployment", "callboard-api"]["spec"]["template"]["spec"]
    environment = environment_of(deployment["containers"][0])
    config = settings(environment)
    incoming = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
    assert incoming == {config.http_port, config.ops_port}
    outgoing = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    addresses = (config.database_url, config.redis_url, f"kafka://{config.kafka_brokers}")
    needed = {urlsplit(each).port for each in addresses} | {load(environment).settings(DeliverySettings).smtp_port}
    assert outgoing == needed | {53, 443}
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
