// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, ModelId, Role} from "../types/Types.sol";

/// @title Record of settled work, per operator, role and model
/// @notice For nodes: answers accepted and rejected. For verifiers: seats served with the majority (accepted),
/// against it (rejected), and not served (missed). Only settled batches write; every write is an event.
interface IReputation {
    struct Record {
        uint64 accepted;
        uint64 rejected;
        uint64 missed;
        uint64 updatedAt;
    }

    event ReputationChanged(
        address indexed operator,
        ModelId indexed modelId,
        BatchId indexed batchId,
        Role role,
        uint64 accepted,
        uint64 rejected,
        uint64 missed,
        uint256 scoreBps
    );

    /// @notice Adds outcomes of one batch. Only `Batches`.
    function record(
        address operator, Role role, ModelId modelId, BatchId batchId, uint64 accepted, uint64 rejected, uint64 missed
    ) external;

    function recordOf(address operator, Role role, ModelId modelId) external view returns (Record memory);

    /// @notice accepted / (accepted + 10 rejected + 2 missed + 20), in basis points: starts at zero, is earned.
    function scoreBps(address operator, Role role, ModelId modelId) external view returns (uint256);
}
