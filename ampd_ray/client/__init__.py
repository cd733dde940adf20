"""For notebooks, scripts and the command line: plan, run and watch jobs, over Postgres and without Ray.

>>> import ampd_ray as amp
>>> with amp.local(".amp") as client:
...     job = amp.backfill(client, rpc="http://localhost:8545", blocks="0:+1000")
...     job.wait()
"""

from ampd_ray.client.backfills import BackfillRequest, Summary, backfill, summarise
from ampd_ray.client.job import Job
from ampd_ray.client.session import Client, connect
from ampd_ray.client.solo import inspect, local

__all__ = ["BackfillRequest", "Client", "Job", "Summary", "backfill", "connect", "inspect", "local", "summarise"]
