"""For notebooks, scripts and the command line: plan, run and watch jobs, over Postgres and without Ray.

>>> import ampd_ray as amp
>>> with amp.local(".amp") as client:
...     run = amp.backfill(client, rpc="http://localhost:8545", blocks="0:+1000")
...     run.wait()
...     client.scan("_/devnet", "logs").head(5)
"""

from ampd_ray.client.backfills import Backfill, backfill
from ampd_ray.client.job import Job
from ampd_ray.client.session import Client, connect
from ampd_ray.client.solo import inspect, local
from ampd_ray.client.summary import Summary

__all__ = ["Backfill", "Client", "Job", "Summary", "backfill", "connect", "inspect", "local"]
