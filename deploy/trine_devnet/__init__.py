"""A whole Trine network on one machine: chain, nodes, verifiers and one that cheats, as separate processes."""
