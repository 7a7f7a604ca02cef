"""`trine examiner`: a node that also orders answers from itself, cheats in some of them, and opens these as canaries.

- `prompts`   what it asks, to look like others
- `record`    what it has planted, durable before it is asked
- `planting`  the client's side: orders, and the engine that cheats where it was told to
- `opening`   the chain's side: commitments, openings, appeals, bounties
- `run`       a node's process with both
"""
