"""``python -m ampd_ray`` is ``ampd``."""

from ampd_ray.cli import main

if __name__ == "__main__":
    main()
