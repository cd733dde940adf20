"""The documentation: how its pages are read by tests, and the reference that is made from the code (``make docs``)."""
