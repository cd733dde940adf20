"""A node that costs a client nothing to wait for: real blocks of mainnet in an endless cycle, serialised beforehand."""
