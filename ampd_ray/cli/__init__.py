"""The command line: parse, call, print, exit code. What is slow to import, the command that needs it imports."""

import sys

INTERRUPTED = 130  # as shells say of what SIGINT has ended


def main() -> None:
    """The entry point of the console script. Ctrl-C is a line and no traceback from the first moment on."""
    try:
        from ampd_ray.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
