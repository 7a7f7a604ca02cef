"""Paid answers for who knows nothing of Trine: HTTP 402 and the protocol x402, version 2.

`terms` says what an answer costs and in which token, `authorization` reads what a payer signed and judges it (pure),
`ledger` keeps it, `door` lets orders in, `settling` takes the money once the verdict is final. Imported only where the
setting `x402` is on: the library is an extra, `trine-node[x402]`.

The scheme is `exact` with EIP-3009: the payer signs a transfer to this node's account, which is worth nothing to
anybody else, and which the node presents to the token when the answer that it pays for was accepted for good.
"""
