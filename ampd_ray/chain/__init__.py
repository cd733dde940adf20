"""What a chain is: spans of block numbers, ranges with hashes, and which committed segments form the chain.

Pure: no I/O, no clock. ``spec/data.md`` 4 and 6.
"""
