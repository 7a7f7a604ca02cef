"""OpenAI's interface in front of staked nodes, for clients that know neither a chain nor a receipt.

- `settings`   what a gateway can be told
- `keys`       keys of those who ask: how they are made, shown once, and recognized (pure)
- `rates`      how often a key may ask (pure)
- `tables`, `store`  keys, budgets, answers, verdicts, in SQLite or PostgreSQL
- `asking`     one answer's way: reserve, ask, check, settle; the same for who asks it again
- `verdicts`   waits for what verifiers say of each answer, and cuts off nodes whose answers they reject
- `service`    OpenAI's endpoints, and what a key has spent
- `run`, `cli` the process, and `trine gateway …`

It knows no model and needs no torch. Every order is signed by the gateway's own account; what a node promises is
checked by the SDK.
"""
