"""The protocol as an executable specification: pure functions over frozen dataclasses.

No I/O, no torch, no web3. Solidity computes the same hashes; `tests/vectors/` proves it. Read in this order:

- `tools`        functions that a model may call, as a client signs them, and calls of them
- `inputs`       what a client asks, as canonical bytes
- `sampling`     which token a sampled answer has: noise, allowed tokens, margins
- `grammar`      what a constrained answer must be, as the client signs it
- `decoding`     both of them: how an answer's tokens are chosen
- `fields`       which fields of OpenAI's requests are served, and what they ask for
- `forcing`      the grammar of an answer that must be a call
- `calls`        which calls an answer's text makes
- `messages`     the client's `Request`, the node's `Receipt` and their EIP-712 hashes
- `tokens`       token ids as bytes, and their hash
- `fingerprint`  the locality-sensitive hash of the model's hidden states
- `merkle`       leaves, roots and proofs of a batch
- `header`       what a batch is about, and its id
- `evidence`     what a node must show, and the checks that need no model
- `policy`       thresholds, as the chain's model registry holds them
- `verdict`      (claim, recomputation, policy) -> accept, reject or inconclusive
- `votes`        a verifier's two words, their commitment, the majority
- `settlement`   what three ballots lead to: words, fees, penalties
- `appeals`      the vote on one appealed leaf
- `committee`    the draw of a committee from a block's hash
- `calibration`  which prompts a challenge asks
- `canaries`     leaves that are known to be bad: their commitment, what opens them
- `rendering`    which libraries turn a model's text into token ids, and what they must give
- `manifest`     what a model is, byte for byte
- `requests`     requests posted on the chain, and what answers one
- `reputation`   what settled work counts, how it fades, the score
- `bls`          keys, signatures and proofs of possession on BLS12-381
- `key_root`     which keys are eligible in an epoch, and how one set hands over to the next
- `certificate`  one answer, its batch and its result: what a client keeps
"""
