"""Writes what a job has come to: transitions, and for failures their error JSON and count."""

from __future__ import annotations

import logging
import random
from typing import Any, Final

from ampd_ray.config import AmpdRay
from ampd_ray.errors import AmpdError, DatabaseUnavailable
from ampd_ray.metadb import jobs
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.jobs import JobStatus
from ampd_ray.node.counters import Counters
from ampd_ray.node.events import Settle
from ampd_ray.node.job_errors import Attempt, error_class, error_json, final_status

_log: Final = logging.getLogger(__name__)
