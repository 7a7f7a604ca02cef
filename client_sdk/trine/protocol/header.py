"""What a batch is about, and the id that follows from it. `Types.sol` is the twin.

The chain stores no header: whoever acts on a batch shows it, and it must hash to the batch's id. So it is the id that
fixes who answered, with which model, which answers, and which of them are canaries.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol import merkle


@dataclass(frozen=True, slots=True)
class Header:
    """Fixed at anchor time. `canary` commits to the leaves that are known to be bad; random where there are none."""

    node: str
    model_id: bytes
    root: bytes
    canary: bytes

    def __post_init__(self) -> None:
        if any(len(word) != 32 for word in (self.model_id, self.root, self.canary)):
            raise InvalidInput("a header's model id, root and canary have 32 bytes")

    @property
    def tokens(self) -> int:
        """Tokens of all prompts and answers, as the root counts them: what verifying costs goes by them."""
        return merkle.tokens_of(self.root)

    def values(self) -> tuple[str, bytes, bytes, bytes]:
        """`Types.Header`, as ABI encoders take it."""
        return self.node, self.model_id, self.root, self.canary


def batch_id(chain_id: int, batches: str, header: Header) -> bytes:
    """keccak256(abi.encode(chain id, Batches, header)). `Ids.batch` is its twin."""
    types = ["uint256", "address", "(address,bytes32,bytes32,bytes32)"]
    return bytes(keccak(encode(types, [chain_id, batches, header.values()])))
