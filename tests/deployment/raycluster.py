"""What KubeRay 1.6 accepts as a ``RayCluster``: the fields of its custom resource that ours may use, and no others.

An API server refuses, or silently drops, a field that the resource does not have. What stands in a pod template is
Kubernetes' own and is checked by its own schemas.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Count = Annotated[int, Field(ge=0, lt=1 << 31)]


class Table(BaseModel):
    """Known fields, and values of just their type."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Table):
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class AuthOptions(Table):
    mode: Literal["disabled", "token"]
    secret_name: str


class AutoscalerOptions(Table):
    idle_timeout_seconds: Count


class Group(Table):
    ray_start_params: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(Group):
    group_name: str
    replicas: Count
    min_replicas: Count
    max_replicas: Count


class Spec(Table):
    ray_version: str
    auth_options: AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions
    head_group_spec: Group
    worker_group_specs: list[WorkerGroup]

    @property
    def groups(self) -> list[Group]:
        """All of them, the head's first."""
        return [self.head_group_spec, *self.worker_group_specs]


class RayCluster(Table):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: Spec
