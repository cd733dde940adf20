"""The command line: parse, call, print, exit code. What is slow to import, the command that needs it imports."""

from ampd_ray.cli.app import main

__all__ = ["main"]
