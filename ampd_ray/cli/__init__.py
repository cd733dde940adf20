"""The command line: parse, call, print, exit code. Whatever is slow to import is imported by the command that needs it."""

from ampd_ray.cli.app import main

__all__ = ["main"]
