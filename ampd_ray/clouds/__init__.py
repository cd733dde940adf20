"""The machine that a process runs on: which cloud's it is (``machine``), and the notice that it is taken away."""
