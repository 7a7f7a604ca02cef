"""Makes certificates that travel, from what is public: the transaction that settled the batch on its committee's
signatures, the chain's key sets, and the verifiers' hand-overs between them. Believes nothing: what it makes is checked
as its reader will check it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types

from trine.chain.deployment import abi
from trine.errors import ChainError, InvalidInput, NotReady
from trine.handovers import Source, assembled, collect, steps_from
from trine.protocol import bls
from trine.protocol.certificate import Certificate, HardCertificate
from trine.protocol.portable import MAX_HANDOVERS, Handover, PortableCertificate
from trine.unsettled import require_possible

if TYPE_CHECKING:
    from trine.chain import Chain
    from trine.protocol.roster import Roster

MAX_INPUT_BYTES = 1 << 17
MAX_TRIES = 16
"""How often what settles is looked for in a transaction that others have wrapped."""
BY_VOTES = (
    "this batch was settled by votes on the chain, not by its committee's signatures, so nothing could be checked "
    "without the chain: use the certificate that the chain confirms (`trine audit certificate`), or ask again: "
    "most batches are settled signed"
)


class NotSeenYet(NotReady):
    """No event tells of the settlement: there is none, or the endpoint's events are behind its calls."""


@dataclass(frozen=True, slots=True)
class SignedSettlement:
    """What a committee has signed of a batch, as the transaction that settled it says."""

    epoch: int
    accepted: int
    rejected: int
    keys: tuple[bytes, ...]
    signature: bytes


def source_of(chain: Chain) -> Source:
    return Source(chain.deployment.chain_id, chain.deployment.address("Batches"))


def signed_settlement(chain: Chain, batch_id: bytes) -> SignedSettlement:
    """Raises NotSeenYet for a batch that is not settled, NotReady for one that was settled by votes."""
    settled = chain.newest_event("Batches", "BatchSettled", batchId=batch_id)
    if settled is None:
        raise NotSeenYet(f"batch 0x{batch_id.hex()} is not settled yet")
    if not settled.args["signed"]:
        raise NotReady(BY_VOTES)
    sent = chain.transaction_input(settled.transaction)
    words = (int(settled.args["accepted"]), int(settled.args["rejected"]))
    for found in _settlements_in(sent):
        if (found.accepted, found.rejected) == words:
            return found
    raise ChainError(
        f"the RPC endpoint shows no committee's signatures in transaction 0x{settled.transaction.hex()}, which settled "
        f"batch 0x{batch_id.hex()}: try another endpoint"
    )


def hard_certificate(chain: Chain, certificate: Certificate) -> tuple[HardCertificate, Roster]:
    """The same of one answer with its committee's signatures, and the key set that they are of.

    Raises NotReady where there is none: votes, or keys that were registered in the course of the epoch; InvalidInput
    for an answer that was given on another chain.
    """
    try:
        signed = signed_settlement(chain, certificate.batch_id)
    except NotSeenYet:
        require_possible(chain, certificate.batch_id, certificate.receipt)
        raise
    roster = chain.roster(signed.epoch)
    try:
        members = roster.members(signed.keys)
    except InvalidInput as error:
        raise NotReady(f"{error}: its signatures hold on this chain only; ask again, later answers travel") from None
    hard = HardCertificate(
        chain_id=certificate.chain_id,
        batches=certificate.batches,
        epoch=signed.epoch,
        root=certificate.root,
        canary=certificate.canary,
        index=certificate.index,
        receipt=certificate.receipt,
        receipt_signature=certificate.receipt_signature,
        proof=certificate.proof,
        accepted=signed.accepted,
        rejected=signed.rejected,
        members=members,
        signature=signed.signature,
    )
    hard.verify(roster.key_set)
    return hard, roster


def portable_certificate(chain: Chain, certificate: Certificate, root_epoch: int | None = None) -> PortableCertificate:
    """The file of an answer whose batch is settled. `root_epoch`: of the key set that the reader trusts; without it,
    the certificate's own epoch, which needs no hand-over.

    Raises NotReady, also where too few verifiers show their hand-overs, ChainError, InvalidInput.
    """
    hard, roster = hard_certificate(chain, certificate)
    first = roster if root_epoch is None else chain.roster(root_epoch)
    rosters, handovers = handed_over(chain, first, roster)
    found = PortableCertificate(hard, tuple(each.key_set for each in rosters), tuple(handovers))
    found.verify(found.root_id, 0)
    return found


def handed_over(chain: Chain, first: Roster, last: Roster) -> tuple[list[Roster], list[Handover]]:
    """Key sets from one epoch's to another's with the hand-overs between them: as few as the verifiers sign.

    Raises InvalidInput where the way is too long or leads backwards, NotReady where there is none.
    """
    if first.epoch > last.epoch:
        raise InvalidInput(
            f"the trusted key set is of epoch {first.epoch}, after the certificate's epoch {last.epoch}: sets hand "
            "over forwards only, so trust an older one"
        )
    rosters, handovers = [first], list[Handover]()
    while rosters[-1].epoch < last.epoch:
        if len(handovers) == MAX_HANDOVERS:
            raise InvalidInput(
                f"it takes more than {MAX_HANDOVERS} hand-overs from epoch {first.epoch}: trust a newer set"
            )
        following, handover = farthest_handover(chain, rosters[-1], last.epoch)
        rosters.append(following)
        handovers.append(handover)
    return rosters, handovers


def farthest_handover(chain: Chain, current: Roster, target: int) -> tuple[Roster, Handover]:
    """The hand-over from a set to one as near to the target epoch as enough of its keys sign. Raises NotReady."""
    problem: NotReady | InvalidInput = NotReady(f"epoch {target} is not after {current.epoch}")
    for epoch in steps_from(current.epoch, target):
        try:
            following = chain.roster(epoch)
            collected = collect(current, following, source_of(chain), chain.endpoint_of)
            return following, assembled(current, following, collected)
        except (NotReady, InvalidInput) as error:
            problem = error
    raise problem


def _settlements_in(sent: bytes) -> list[SignedSettlement]:
    """What a transaction's input may hold: the call itself, or the call within another's arguments, as when the seed is
    recorded along with it. What is found by chance contradicts the event, or its signature is wrong."""
    selector, kinds = _settle_signed()
    found: list[SignedSettlement] = []
    at, sent = -1, sent[:MAX_INPUT_BYTES]
    for _ in range(MAX_TRIES):
        at = sent.find(selector, at + 1)
        if at < 0:
            break
        try:
            found.append(_settlement(decode(kinds, sent[at + 4 :])))
        except (DecodingError, OverflowError, ValueError):
            continue
    return found


def _settlement(arguments: Sequence[Any]) -> SignedSettlement:
    _header, _seats, epoch, accepted, rejected, keys, signature = arguments
    size = bls.KEY_BYTES
    if len(keys) % size or len(signature) != bls.SIGNATURE_BYTES:
        raise ValueError("neither keys nor a signature")
    split = tuple(bytes(keys[at : at + size]) for at in range(0, len(keys), size))
    return SignedSettlement(int(epoch), int(accepted), int(rejected), split, bytes(signature))


@cache
def _settle_signed() -> tuple[bytes, list[str]]:
    (item,) = (each for each in abi("Batches") if each.get("name") == "settleSigned")
    entry: Any = item
    return function_abi_to_4byte_selector(entry), get_abi_input_types(entry)
