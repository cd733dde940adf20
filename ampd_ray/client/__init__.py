"""For notebooks, scripts and the command line: plan, run and watch jobs, over Postgres and without Ray.

>>> import ampd_ray as amp
>>> with amp.local(".amp") as client:
...     job = amp.backfill(rpc="http://localhost:8545", blocks="0:+1000")
...     job.wait()
...     client.scan("_/devnet", "logs").head(5)
"""

from ampd_ray.client.current import backfill, connect, inspect, local
from ampd_ray.client.job import Job
from ampd_ray.client.session import Client
from ampd_ray.client.summary import Summary

__all__ = ["Client", "Job", "Summary", "backfill", "connect", "inspect", "local"]
