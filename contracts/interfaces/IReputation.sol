// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, ModelId, Role} from "../types/Types.sol";

/// @title Record of settled work, per operator, role and model
/// @notice For nodes: answers accepted and rejected. For verifiers: accepted is the part of a batch's leaves on which
/// their vote was the final verdict, rejected the part on which it was against it, and one for each leaf that an appeal
/// turned or that was a canary; missed are seats not served. Doubt counts for nothing. Only what is final is recorded;
/// every write is an event.
///
/// All sums of a record fade alike, to one half in every half-life, and every rounding is against the operator. So
/// - waiting never raises a score: what fades is weighed against a prior of 20 that does not;
/// - waiting never lifts anyone past a newcomer: whoever would stand below a newcomer after the same further work
/// still   does after any wait. More cannot be asked of a record, since a new address, with a stake of its own, is
/// open to everybody. Nothing deletes or moves one: leaving and coming back changes nothing, and another address
/// starts at zero.
/// @dev Sums are full at 2 ** 40 outcomes and stay there: nothing that is recorded makes a settlement fail.
interface IReputation {
    /// @notice Counts of a record as they are worth now, in millionths of an outcome, rounded down.
    struct Record {
        uint64 acceptedMicro;
        uint64 rejectedMicro;
        uint64 missedMicro;
        uint40 updatedAt;
    }

    /// @notice One operator's part in a batch, in millionths of an outcome.
    struct Work {
        address operator;
        Role role;
        uint64 accepted;
        uint64 rejected;
        uint64 missed;
    }

    /// @param change From the top: 40 zero bits, role (8 bits), the score that follows (16), and the counts that were
    /// added, in millionths: accepted, rejected, missed (64 each). One word, because every settlement pays for four of
    /// these events.
    event ReputationChanged(
        address indexed operator, ModelId indexed modelId, BatchId indexed batchId, uint256 change
    );

    error ReputationUnauthorized(address caller);
    error ReputationHalfLifeOutOfBounds(uint256 halfLife, uint256 minimum, uint256 maximum);
    error ReputationZeroAddress();

    /// @notice Adds outcomes of one batch, in millionths. Only `Batches`, `Finality` and `Appeals`.
    function record(
        address operator, Role role, ModelId modelId, BatchId batchId, uint64 accepted, uint64 rejected, uint64 missed
    ) external;

    /// @notice The same for all who had a part in a batch. Only `Batches`, `Finality` and `Appeals`, which bound the
    /// list.
    function recordMany(ModelId modelId, BatchId batchId, Work[] calldata works) external;

    function recordOf(address operator, Role role, ModelId modelId) external view returns (Record memory);

    /// @notice accepted / (accepted + 10 rejected + 2 missed + 20) of the counts as they are worth now, in basis
    /// points, rounded down: starts at zero, is earned, fades.
    function scoreBps(address operator, Role role, ModelId modelId) external view returns (uint256);

    function halfLifeSeconds() external view returns (uint256);
}
