"""``python -m tests.docs``: write the generated pages."""

from tests.docs.reference import write

for path in write():
    print(path)
