"""``deploy/kuberay.yaml`` is what Kubernetes and Ray's autoscaler read, and it is locked."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from pydantic import ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.dashboard.modules.job.cli import submit as submitted

from ampd_ray.config import load_settings
from tests.deployment.raycluster import RayCluster, Spec
from tests.deployment.start import understood
from tests.fakes.command_line import parse_script
from tests.fakes.places import REPO

KUBERNETES = "1.34"
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all((REPO / "deploy" / "kuberay.yaml").read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return copy.deepcopy(found)


@pytest.fixture
def spec() -> Spec:
    return RayCluster.model_validate(of_kind("RayCluster")).spec


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_kubernetes_takes_it(document: dict[str, Any]) -> None:
    if document["kind"] != "RayCluster":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    for group in RayCluster.model_validate(document).spec.groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **group.template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_fields_that_it_does_not_know_are_found() -> None:
    cluster = of_kind("RayCluster")
    cluster["spec"]["authOption"] = {}
    with pytest.raises(ValidationError, match="authOption"):
        RayCluster.model_validate(cluster)
    policy = of_kind("NetworkPolicy")
    policy["spec"]["ingres"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="ingres"):
        kubernetes_validate.validate(policy, KUBERNETES, strict=True)


def test_rays_autoscaler_reads_the_same_node_types_as_from_cluster_yaml() -> None:
    cluster = of_kind("RayCluster")
    cluster["metadata"]["namespace"] = "default"  # as the API server adds it
    read = _derive_autoscaling_config_from_ray_cr(cluster)
    launched = yaml.safe_load((REPO / "cluster.yaml").read_text())
    types = {name: of["resources"] | {"memory": None} for name, of in read["available_node_types"].items()}
    assert types == {
        name: launched["available_node_types"][of]["resources"] | {"memory": None}
        for name, of in {"headgroup": "head", "amp-node": "amp_node", "extract": "extract"}.items()
    }
    assert read["idle_timeout_minutes"] == launched["idle_timeout_minutes"]
    assert (read["available_node_types"]["extract"]["min_workers"], read["max_workers"]) == (0, launched["max_workers"])


def test_ray_start_understands_its_parameters(spec: Spec) -> None:
    for group in spec.groups:
        line = " ".join(f"--{name}={value}" for name, value in group.ray_start_params.items())
        understood(shlex.split(line))  # a shell's words: KubeRay makes a command line of them
    head = understood([f"--{name}={value}" for name, value in spec.head_group_spec.ray_start_params.items()])
    assert head["dashboard_host"] == "127.0.0.1"
    assert spec.ray_version == ray.__version__


def test_all_pods_have_the_token_and_extractors_no_database(spec: Spec) -> None:
    assert (spec.auth_options.mode, spec.auth_options.secret_name) == ("token", "ampd-ray-token")
    secrets = [
        {source["secretRef"]["name"] for source in group.template["spec"]["containers"][0]["envFrom"]}
        for group in spec.groups
    ]
    both = {"ampd-database", "ampd-providers"}
    assert secrets == [both, both, {"ampd-providers"}]
    assert not [document for document in DOCUMENTS if document["kind"] == "Secret"]


def test_no_container_has_rights_that_it_does_not_need(spec: Spec) -> None:
    for group in spec.groups:
        assert group.template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in group.template["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_its_configuration_is_valid(spec: Spec, tmp_path: Path) -> None:
    ((name, text),) = of_kind("ConfigMap")["data"].items()
    (tmp_path / name).write_text(text)
    settings = load_settings(tmp_path / name, {"AMP_CONFIG_METADATA_DB_URL": "postgresql://amp@db.internal/amp"})
    assert settings.data_dir.startswith("s3://")
    (extract,) = [group for group in spec.worker_group_specs if group.group_name == "extract"]
    assert set(settings.ampd_ray.extractor_resources) <= set(
        json.loads(extract.ray_start_params["resources"][1:-1].replace("\\", ""))
    )
    for group in spec.groups:
        container = group.template["spec"]["containers"][0]
        (mount,) = container["volumeMounts"]
        assert {"name": "AMP_CONFIG", "value": f"{mount['mountPath']}/{name}"} in container["env"]


def test_the_fleet_is_started_as_the_command_lines_allow(spec: Spec) -> None:
    """Ray's for the submission, ours for what is submitted."""
    keeper = spec.head_group_spec.template["spec"]["containers"][1]
    *_, submit = keeper["args"][0].split(";")
    exec_, ray_, job, verb, *words = shlex.split(submit)
    assert (exec_, ray_, job, verb) == ("exec", "ray", "job", "submit")
    python, script, *arguments = submitted.make_context("ray job submit", words).params["entrypoint"]
    assert (python, Path(script).parent.as_posix()) == ("python", "/opt/ampd-ray/jobs")
    parse_script(Path(script).name, *arguments)
