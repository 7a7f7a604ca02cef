// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Opening, Receipt} from "../libraries/LeafLib.sol";
import {BatchId} from "../types/Types.sol";

/// @title Answers that were promised and never anchored
/// @notice A node signs each answer's receipt and promises to have it in a batch by `Receipt.anchorBy`. Nobody judges
/// an answer that is in no batch, so a node that anchors its honest answers only would never be found out. A client
/// that holds such a receipt claims it here, with a bond. The node opens the receipt in a batch that committees judge
/// or have judged, or it loses the stake of a leaf and the fee. The bond is the node's if the claim was false: if that
/// batch had been settled when the claim was made. Else the client has it back.
/// @dev When a batch was anchored is not on record, so a late one will do as long as the claim waits: what is anchored
/// under pressure is judged all the same. But it brings no bond, or a node would anchor only what is claimed. A client
/// that claims what is in a batch, and not judged yet, pays gas for nothing, and the node for an answer.
interface IInclusion {
    enum State {
        None,
        Open,
        Answered,
        Broken
    }

    struct Claim {
        State state;
        uint64 answerBy; // seconds
        BatchId answeredIn;
    }

    event InclusionClaimed(
        bytes32 indexed receiptHash, address indexed node, address indexed client, uint256 answerBy
    );
    /// @param wasFalse Whether the answer had been judged when it was claimed, so that the node has the bond.
    event InclusionAnswered(
        bytes32 indexed receiptHash, BatchId indexed batchId, uint256 leafIndex, bool wasFalse
    );
    /// @param compensation The client's part of what was slashed; it has its bond back besides.
    event InclusionBroken(
        bytes32 indexed receiptHash,
        address indexed node,
        address indexed client,
        uint256 slashed,
        uint256 compensation
    );

    error InclusionZeroAddress();
    error InclusionOutOfBounds(string name, uint256 value, uint256 minimum, uint256 maximum);
    error InclusionNotClient(address caller, address client);
    error InclusionTooEarly(uint256 anchorBy);
    error InclusionTooLate(uint256 latest);
    error InclusionBadSignature(address node);
    error InclusionClaimedBefore(bytes32 receiptHash);
    error InclusionNotOpen(bytes32 receiptHash, State state);
    error InclusionBadOpening(BatchId batchId, uint256 leafIndex);
    error InclusionNotJudged(BatchId batchId, uint256 leafIndex);
    error InclusionDeadlineNotReached(uint256 answerBy);

    /// @notice Claims that the receipt is in no batch. Only its client, after `anchorBy` and within `claimSeconds` of
    /// it. Takes the bond, which the node gets if the claim was false. Once, but again where the batch by which it was
    /// answered has become void: nobody judged that one.
    /// @param signature The node's, over the receipt. The node's own key always counts; where it has not signed, its
    /// code is asked (EIP-1271).
    function claim(Receipt calldata receipt, bytes calldata signature) external;

    /// @notice Shows the receipt in a batch that is not void. Anyone may call. Not in a batch of a calibration, where
    /// nothing is at stake, nor beyond the leaves that the batch says it has.
    function answer(Opening calldata opening) external;

    /// @notice Ends a claim that nobody has answered in time: slashes the node for a leaf's stake and the fee, at most
    /// as much again. Half of it is the client's, who gets the bond back, too; the rest is burned, so that nobody gets
    /// stake out by claiming against itself. Anyone may call.
    function conclude(Receipt calldata receipt) external;

    function claimOf(bytes32 receiptHash) external view returns (Claim memory);

    function bondWei() external view returns (uint256);

    /// @notice How long a node has to answer.
    function answerSeconds() external view returns (uint256);

    /// @notice How long after `anchorBy` a receipt can be claimed.
    function claimSeconds() external view returns (uint256);
}
