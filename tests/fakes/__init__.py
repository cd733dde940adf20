"""Stand-ins for what lies outside: RPC nodes that misbehave, recorded chains, anvil, a network that breaks."""
