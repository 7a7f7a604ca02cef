// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Opening} from "../libraries/LeafLib.sol";
import {BatchId, Header} from "../types/Types.sol";

/// @title Known-bad leaves that test verifiers
/// @notice A node may mix answers into a batch that it knows to be wrong, and commits to them in the batch's header
/// before it anchors. Every header carries such a word, so verifiers cannot tell. Once the batch is settled the node
/// opens it: it is not slashed for these leaves, and verifiers who accepted one lose more than for a wrong vote. If
/// the majority accepted one, whoever appeals the leaf brings that about.
/// A leaf counts only if the client to whom its receipt was issued says by signature that it was a canary: a node
/// cannot call the answers canaries with which it cheated its clients.
interface ICanaries {
    error CanariesZeroAddress();
    error CanariesCommitmentMismatch(bytes32 committed, bytes32 opened);
    error CanariesWrongNumber(uint256 given, uint256 required);
    error CanariesWrongLeaf(uint256 leafIndex, uint256 required);
    error CanariesBadOpening(BatchId batchId, uint256 leafIndex);
    error CanariesBadSignature(uint256 leafIndex, address client);

    /// @notice Opens a batch's canaries within the time to appeal. Anyone who has what it takes may call. A leaf whose
    /// appeal is over is an answer like any other, and none of them any more.
    /// @param leaves Bit i: leaf i is a canary. keccak256(abi.encode(leaves, salt)) is the header's word.
    /// @param openings One for each of these leaves, in order.
    /// @param signatures Of the receipts' clients over Canary(bytes32 batchId,uint256 leafIndex) (EIP-712).
    function open(
        Header calldata header,
        uint256 leaves,
        bytes32 salt,
        Opening[] calldata openings,
        bytes[] calldata signatures
    ) external;

    /// @notice What the client of a canary signs.
    function digestOf(BatchId batchId, uint256 leafIndex) external view returns (bytes32);
}
