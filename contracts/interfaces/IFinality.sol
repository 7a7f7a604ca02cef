// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, Header} from "../types/Types.sol";
import {IStaking} from "./IStaking.sol";
import {IVerdicts} from "./IVerdicts.sol";

/// @title What follows a settlement: appeals, canaries, and the moment when money is final
/// @notice A settled verdict can be appealed for a while. Then the node's stake is freed, or slashed for rejected
/// leaves, and the seats are judged by the final words, leaf by leaf: a seat earns where it voted what is final and
/// conclusive, and is fined where it voted against that, up to a cap a batch. Doubt earns nothing and costs nothing.
/// A batch does not become final while an appeal of one of its leaves is open, and the first appeal that turns a
/// verdict begins the time to appeal anew: where one leaf was judged wrongly, others may have been.
///
/// A leaf whose evidence was not shown to a majority costs its node what a rejection does, and nobody else anything: a
/// seat that was shown nothing is neither right nor wrong, whatever is shown later.
interface IFinality is IVerdicts {
    /// @notice What happens to few batches: bitmaps over their leaves.
    struct Marks {
        uint256 appealed;
        uint256 concluded; // those of them whose appeals are over
        uint256 accepted; // concluded, with this verdict
        uint256 rejected;
        uint256 unavailable;
        uint256 canaries; // opened as known to be bad
    }

    /// @notice These leaves can change no more.
    event LeavesFinalized(
        BatchId indexed batchId,
        address indexed node,
        uint256 leaves,
        uint256 accepted,
        uint256 rejected,
        uint256 unavailable,
        uint256 slashed
    );
    /// @notice A fine, besides what the seat was fined for the batch before; the bounty is the part sent to `Appeals`.
    event WrongVotePenalized(
        BatchId indexed batchId, address indexed verifier, bool acceptedCanary, uint256 amount, uint256 bounty
    );
    /// @notice An appeal has turned a verdict: the time to appeal other leaves begins anew, once a batch.
    event BatchReopened(BatchId indexed batchId, uint256 until);
    event LeafAppealed(BatchId indexed batchId, uint256 indexed leafIndex);
    event AppealDecided(BatchId indexed batchId, uint256 indexed leafIndex, Verdict verdict);
    event CanariesOpened(BatchId indexed batchId, uint256 leaves);

    error FinalityZeroAddress();
    error FinalityUnauthorized(address caller);
    error FinalityNotSettled(BatchId batchId);
    error FinalityAppealsOpen(BatchId batchId, uint256 leaves);
    error FinalityNotForCalibration(BatchId batchId);
    error FinalityWrongCommittee(BatchId batchId);
    error FinalityDeadlinePassed(uint256 deadline);
    error FinalityDeadlineNotReached(uint256 deadline);
    error FinalityWrongNumber(uint256 committees, uint256 headers);
    error FinalityLeafOutOfRange(uint256 leafIndex, uint256 leafCount);
    error FinalityLeafAlreadyAppealed(BatchId batchId, uint256 leafIndex);
    error FinalityLeafNotUnderAppeal(BatchId batchId, uint256 leafIndex);

    /// @notice Once the time to appeal is over and no appeal is open: frees the node's stake, or slashes it for leaves
    /// that were rejected or not shown, pays or slashes the verifiers, and records everybody's reputation. Anyone may
    /// call. Many batches at once are cheaper; those that are final already are skipped.
    /// @param committees Each batch's seats, as `CommitteeDrawn` told.
    function finalize(Header[] calldata headers, IStaking.Seat[][] calldata committees) external;

    /// @notice Marks a leaf as under appeal: it is decided elsewhere, its stake stays locked. Only `Appeals`.
    function openAppeal(Header calldata header, IStaking.Seat[] calldata seats, uint256 leafIndex)
        external
        returns (Verdict verdict, uint8 terms);

    /// @notice Takes an appeal's final verdict on a leaf: moves stake and reputation of the node and slashes the
    /// verifiers whom it contradicts. Only `Appeals`.
    /// @return bounty What was sent to `Appeals` for who was right: half of the verifiers' fines, and half of the
    /// node's stake less the client's refund.
    function concludeAppeal(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 leafIndex,
        Verdict verdict
    ) external returns (uint256 bounty);

    /// @notice Notes leaves that were opened as canaries: the node is not slashed for them, verifiers who accepted one
    /// pay more. Only `Canaries`.
    function noteCanaries(Header calldata header, uint256 leaves) external;

    function marksOf(BatchId batchId) external view returns (Marks memory);
}
