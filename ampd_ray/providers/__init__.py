"""Where blocks come from: the provider files (``registry``) and JSON-RPC over HTTP, WebSocket and IPC (``evm_rpc``)."""
