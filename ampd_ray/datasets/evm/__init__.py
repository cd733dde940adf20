"""The dataset kind ``evm-rpc``: blocks, transactions and logs of an Ethereum-like chain (``spec/data.md`` 1)."""
