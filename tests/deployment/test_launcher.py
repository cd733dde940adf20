"""``cluster.yaml`` is what Ray's cluster launcher reads, what AWS takes, and what starts a Ray that is locked."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.deployment.start import Started, started
from tests.docs.pages import DOCS, fences
from tests.fakes.places import REPO

SECRET = "postgresql://amp:hunter2@db.internal/amp"


@pytest.fixture(scope="module")
def prepared() -> dict[str, Any]:
    """The file with all that Ray adds to it."""
    return checked(yaml.safe_load((REPO / "cluster.yaml").read_text()))


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """A file as ``ray up`` reads it; raises what that says of it."""
    ready: dict[str, Any] = prepare_config(given)
    validate_config(ready)
    return ready


def test_ray_takes_it(prepared: dict[str, Any]) -> None:
    types = prepared["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["amp_node"]["resources"]["amp_node"] == 1
    assert types["extract"]["min_workers"] == 0 < types["extract"]["max_workers"]
    assert sum(types[name]["max_workers"] for name in ("amp_node", "extract")) <= prepared["max_workers"]


def test_a_key_that_ray_does_not_know_is_found() -> None:
    given = yaml.safe_load((REPO / "cluster.yaml").read_text())
    with pytest.raises(Exception, match="idle_timeout_mins"):
        checked(given | {"idle_timeout_mins": 5})


def test_what_to_change_for_gcp_makes_a_file_that_ray_takes() -> None:
    (change,) = fences(DOCS / "how-to" / "cluster.md", "yaml")
    given = yaml.safe_load((REPO / "cluster.yaml").read_text())
    aws = given["available_node_types"]
    gcp = yaml.safe_load(change.text)
    types = checked(given | gcp)["available_node_types"]
    assert {name: of["resources"] for name, of in types.items()} == {name: of["resources"] for name, of in aws.items()}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """An account in which Ray's own role and the one of ``cluster.yaml`` are there; yields a client of EC2."""
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray makes a key pair
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with mock_aws():
        iam = boto3.client("iam")
        for name in ("ray-autoscaler-v1", "ampd-ray"):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
            iam.create_instance_profile(InstanceProfileName=name)
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        yield boto3.client("ec2", "us-east-1")


def test_aws_starts_its_machines(prepared: dict[str, Any], aws: Any) -> None:
    """Ray's own AWS code, against an AWS that checks the fields of requests and does nothing else."""
    config = bootstrap_aws(copy.deepcopy(prepared))  # type: ignore[no-untyped-call]
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])  # type: ignore[no-untyped-call]
    for name, machine in config["available_node_types"].items():
        provider.create_node(machine["node_config"], {"ray-node-type": "worker", "ray-user-node-type": name}, 1)
    found = {}
    for reservation in aws.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            assert instance["MetadataOptions"]["HttpTokens"] == "required"
            found[instance["InstanceType"]] = instance
    for name, machine in config["available_node_types"].items():
        instance = found[machine["node_config"]["InstanceType"]]
        assert (instance.get("InstanceLifecycle") == "spot") is (name == "extract")
        assert instance.get("IamInstanceProfile", {}).get("Arn", "").endswith("/ampd-ray") is (name != "head")
        (kind,) = aws.describe_instance_types(InstanceTypes=[instance["InstanceType"]])["InstanceTypes"]
        assert machine["resources"]["CPU"] in {kind["VCpuInfo"]["DefaultVCpus"], 0}


def commands(prepared: dict[str, Any], which: str, home: Path) -> Started:
    """What ``<which>_start_ray_commands`` make of a machine with our files."""
    (home / "amp").mkdir()
    (home / "amp" / "secrets.env").write_text(f"AMP_CONFIG_METADATA_DB_URL='{SECRET}'\nRPC_TOKEN=abc\n")
    stop, command = prepared[f"{which}_start_ray_commands"]
    assert stop == "ray stop"
    return started(command, home, {"RAY_HEAD_IP": "10.0.0.5"})


def test_the_head_keeps_its_dashboard_to_itself(prepared: dict[str, Any], tmp_path: Path) -> None:
    head = commands(prepared, "head", tmp_path)
    assert (head.options["head"], head.options["dashboard_host"]) == (True, "127.0.0.1")
    assert head.options["autoscaling_config"] == str(tmp_path / "ray_bootstrap_config.yaml")
    assert head.options["ray_client_server_port"] is None  # 10001, where it asks for the token


@pytest.mark.parametrize("which", ["head", "worker"])
def test_ray_inherits_the_secrets_and_is_not_told_them(prepared: dict[str, Any], which: str, tmp_path: Path) -> None:
    ray = commands(prepared, which, tmp_path)
    assert (ray.env["AMP_CONFIG_METADATA_DB_URL"], ray.env["RPC_TOKEN"]) == (SECRET, "abc")
    assert SECRET not in str(ray.options)


def test_workers_join_the_head(prepared: dict[str, Any], tmp_path: Path) -> None:
    assert commands(prepared, "worker", tmp_path).options["address"] == "10.0.0.5:6379"


def test_its_containers_find_the_token_and_the_configuration_among_the_mounted_files(prepared: dict[str, Any]) -> None:
    docker = prepared["docker"]
    told = dict(option.removeprefix("--env ").split("=", 1) for option in docker["run_options"] if "--env" in option)
    (mounted,) = prepared["file_mounts"]
    assert told == {"RAY_AUTH_TOKEN_PATH": f"{mounted}/auth_token", "AMP_CONFIG": f"{mounted}/amp.toml"}
