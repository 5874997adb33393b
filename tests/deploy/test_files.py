"""What is shipped under deploy/ is what its readers take: each file by its own tool."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import gateway
from gateway.config.load import load

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "image-gateway"
GATEWAY = str(ROOT / ".venv" / "bin" / "gateway")
#: The one place where a container may write.
DATA = Path("/var/lib/gateway")

#: Everything that the chart can do, beside what it does by default.
ALL_ON = {
    "autoscaling": {"enabled": True},
    "serviceMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "authorization": {"credentials": {"name": "metrics", "key": "token"}},
    },
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "imagePullSecrets": [{"name": "registry"}],
    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "nodeSelector": {"pool": "general"},
    "tolerations": [{"operator": "Exists"}],
    "podAnnotations": {"team": "platform"},
    "serviceAccountName": "pictures",
    "networkPolicy": {
        "enabled": True,
        "operators": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
    },
}


def tool(name: str) -> str:
    """Return a program that checks; a laptop may go without."""
    found = shutil.which(name, path=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")  # noqa: TID251
    if found is None:
        _missing(f"there is no {name} here (make test-deploy)")
    return found


def library(name: str) -> ModuleType:
    """Return a module that checks; a laptop may go without."""
    try:
        return import_module(name)
    except ImportError:
        _missing(f"there is no {name} here (make test-deploy)")


def _missing(reason: str) -> Any:
    if os.environ.get("CI") == "true":  # noqa: TID251 - where everything is installed first
        raise RuntimeError(reason)
    pytest.skip(reason)


def run(*words: str | Path) -> str:
    """Run a program; what it prints is told when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_image_is_linted() -> None:
    """No warning of hadolint; not root; everything it copies is there."""
    dockerfile = DEPLOY / "Dockerfile"
    run(tool("hadolint"), dockerfile)
    text = dockerfile.read_text()

    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    copied = re.search(r"^COPY (pyproject.*) \./$", text, re.MULTILINE)
    assert copied is not None
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for name in (*copied[1].split(), "gateway"):
        assert (ROOT / name).exists()
        assert f"!{name}" in allowed


def test_the_image_starts_what_the_command_line_has() -> None:
    """Its command is one that `gateway serve` understands."""
    options = run(GATEWAY, "serve", "--help")
    text = (DEPLOY / "Dockerfile").read_text()
    command = re.search(r'^CMD \["serve", (.*)\]$', text, re.MULTILINE)
    assert command is not None

    for option in re.findall(r'"(--[a-z]+)"', command[1]):
        assert option in options


def compose() -> dict[str, Any]:
    """Return compose.yml."""
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    return read


def test_compose_is_what_compose_reads() -> None:
    """By the types of the Compose specification; every file it mounts is there."""
    spec = library("compose_spec")
    spec.models.ComposeSpecification.model_validate(compose())
    mounts = [
        volume.partition(":")[0]
        for service in compose()["services"].values()
        for volume in service.get("volumes", ())
    ]

    named = [mount for mount in mounts if not mount.startswith(".")]
    assert set(named) == set(compose()["volumes"])
    for mount in set(mounts) - set(named):
        assert (DEPLOY / mount).exists(), mount


def test_compose_stops_gateways_after_their_drain() -> None:
    """The grace of a container is `server.drain` and 15 s."""
    settings = tomllib.loads((DEPLOY / "compose" / "config.toml").read_text())
    grace = compose()["services"]["gateway-1"]["stop_grace_period"]

    assert "20s" == settings["server"]["drain"]
    assert "35s" == grace


def written_folders(config: Path) -> set[Path]:
    """Return the folders that settings have a gateway write to."""
    settings = load(config, {}).settings
    embedded = not settings.redis.url_env and settings.redis.url == "embedded"
    folders = {
        settings.references.spool_dir,
        settings.assets.folder,
        settings.redis.data_dir if embedded else None,
    }
    return {folder for folder in folders if folder is not None}


def test_the_settings_of_compose_are_right() -> None:
    """`gateway check` finds nothing in them, and all that is written goes to the volume."""
    config = DEPLOY / "compose" / "config.toml"
    run(GATEWAY, "check", config)

    assert all(folder.is_relative_to(DATA) for folder in written_folders(config))


def test_prometheus_takes_its_settings(tmp_path: Path) -> None:
    """With the rules where compose mounts them."""
    shutil.copy(DEPLOY / "compose" / "prometheus.yml", tmp_path / "compose.yml")
    for rules in ("recording.yml", "alerts.yml"):
        shutil.copy(DEPLOY / "prometheus" / rules, tmp_path)
    told = run(tool("promtool"), "check", "config", tmp_path / "compose.yml")

    assert "SUCCESS" in told


def test_caddy_takes_its_settings() -> None:
    """`caddy validate` adapts and provisions all of it."""
    caddyfile = DEPLOY / "proxy" / "Caddyfile"
    run(tool("caddy"), "validate", "--adapter", "caddyfile", "--config", caddyfile)
    run(tool("caddy"), "fmt", "--diff", caddyfile)


def test_the_service_is_hardened(tmp_path: Path) -> None:
    """Every line of it is read by systemd, which rates its exposure as low."""
    unit = tmp_path / "image-gateway.service"
    text = (DEPLOY / "systemd" / "image-gateway.service").read_text()
    unit.write_text(text.replace("/opt/image-gateway/bin/gateway", "/bin/true"))
    analyze = tool("systemd-analyze")
    assert "" == run(analyze, "verify", unit)
    told = run(analyze, "security", "--offline=yes", "--threshold=20", unit)

    assert "OK" in told.splitlines()[-1]


@cache
def rendered(values: str) -> Mapping[str, str]:
    """Return the chart's templates as Helm renders them with values (JSON)."""
    helm = library("helm_python")
    with helm.Chart.load(CHART) as chart:
        found: dict[str, str] = chart.render(values=json.loads(values), name="shop")
    return found


def documents(*, everything: bool, **values: object) -> Iterator[dict[str, Any]]:
    """Yield what Kubernetes is told."""
    chosen = rendered(json.dumps((ALL_ON if everything else {}) | values))
    texts = [text for name, text in chosen.items() if name.endswith(".yaml")]
    yield from filter(None, chain.from_iterable(map(yaml.safe_load_all, texts)))


def test_the_chart_is_linted() -> None:
    """No warning of Helm's linter; it is the chart of this version."""
    report = library("helm_python").lint(CHART, strict=True)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert [] == report["errors"]
    assert [] == [told for told in report["messages"] if told["severity"] > 1]
    assert gateway.__version__ == chart["appVersion"]


@pytest.mark.parametrize("everything", [False, True])
def test_kubernetes_knows_every_field(everything: bool) -> None:
    """Strictly by its own schemas; what operators bring has its kind and its name."""
    validate = library("kubernetes_validate")
    kinds = []
    for document in documents(everything=everything):
        kinds.append(document["kind"])
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            assert "shop" == document["metadata"]["name"]
            continue
        validate.validate(document, "1.37", strict=True)

    wanted = {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"}
    if everything:
        wanted |= {"HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule", "NetworkPolicy"}
    assert wanted == set(kinds)


@pytest.mark.parametrize("port", [8081, 0])
def test_operators_have_a_port_of_their_own(tmp_path: Path, port: int) -> None:
    """It is that of the settings, and where it is scraped; where there is none, all is on one."""
    shown = documents(everything=True, dashboards={"enabled": False}, operatorsPort=port)
    found = {document["kind"]: document for document in shown}
    [container] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    served = tomllib.loads(found["ConfigMap"]["data"]["config.toml"])["server"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    reached = [rule["ports"] for rule in found["NetworkPolicy"]["spec"]["ingress"]]

    assert served.get("admin_listen") == (f"0.0.0.0:{port}" if port else None)
    assert ports == ({"http": 8080, "operators": port} if port else {"http": 8080})
    assert [one["targetPort"] for one in found["Service"]["spec"]["ports"]] == list(ports)
    assert reached == [[{"port": name}] for name in ports]
    assert found["ServiceMonitor"]["spec"]["endpoints"][0]["port"] == list(ports)[-1]


def test_pods_have_time_to_hand_over() -> None:
    """The grace is the pause before the signal, `server.drain`, and 15 s."""
    [deployment] = [one for one in documents(everything=False) if one["kind"] == "Deployment"]

    assert 5 + 20 + 15 == deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_the_settings_of_the_chart_are_right(tmp_path: Path) -> None:
    """`gateway check` finds nothing in what is mounted."""
    [settings] = [
        document["data"]["config.toml"]
        for document in documents(everything=False)
        if document["kind"] == "ConfigMap"
    ]
    config = tmp_path / "config.toml"
    config.write_text(settings)
    run(GATEWAY, "check", config)

    assert "20s" == tomllib.loads(settings)["server"]["drain"]
    assert all(folder.is_relative_to(DATA) for folder in written_folders(config))


def test_the_chart_brings_the_rules_and_dashboards_of_the_product() -> None:
    """Those under deploy/, with nothing lost to templating."""
    found = list(documents(everything=True))
    [rules] = [document for document in found if document["kind"] == "PrometheusRule"]
    shipped = [
        group
        for name in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]
    ]
    boards = {
        name: text
        for document in found
        if document["kind"] == "ConfigMap"
        for name, text in document["data"].items()
        if name.endswith(".json")
    }

    assert shipped == rules["spec"]["groups"]
    paths = list((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    assert {path.name: path.read_text().strip() for path in paths} == {
        name: text.strip() for name, text in boards.items()
    }
    assert boards
