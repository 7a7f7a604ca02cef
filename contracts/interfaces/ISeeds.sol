// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Randomness that draws committees and picks prompts
/// @notice What is to be drawn names a seed block, and when that block was fixed, while nobody can know the seed. Later
/// anybody records the seed with evidence that the contract checks. One record serves all that was fixed to it.
///
/// `RandaoSeeds` is for chains whose blocks carry the beacon chain's RANDAO, `DrandSeeds` for all others. Which chain
/// takes which, and why: docs/randomness.md.
interface ISeeds {
    enum State {
        Ahead, // not there yet
        Recordable,
        Recorded,
        Gone // was not recorded in time, or is of no use any more
    }

    /// @param index What `indexOf` says: the block's number, or the beacon's round.
    event SeedRecorded(uint256 indexed index, bytes32 seed);

    error SeedsAhead(uint256 index);
    error SeedsNotRecorded(uint256 index);
    error SeedsGone(uint256 index);
    /// @dev Not the header of the block whose number it carries, as this chain has it.
    error SeedsWrongHeader(uint256 number, bytes32 shown, bytes32 known);
    /// @dev What this chain calls `prevrandao` is a constant, or proof of work, or a counter.
    error SeedsNoRandao(uint256 difficulty, bytes32 prevrandao);
    error SeedsBadEvidence(uint256 length);
    error SeedsForgedRound(uint256 round);
    error SeedsBadSetting(string name);

    /// @notice Records a seed. Anyone may call; what is recorded already changes nothing.
    /// @param evidence `RandaoSeeds`: the block's header, RLP-encoded. `DrandSeeds`: the round, 8 bytes big-endian, and
    /// its signature, 128 bytes as EIP-2537 has points.
    function record(bytes calldata evidence) external;

    /// @notice The same, and a call in the same transaction: a draw, or `ICalibration.seal`. Reverts with what the call
    /// reverts with.
    /// @dev Any call, by a contract that has no rights and no money anywhere.
    function recordAndCall(bytes calldata evidence, address target, bytes calldata data) external;

    /// @notice The seed for what named this block at this time. Reverts with `SeedsAhead`, `SeedsNotRecorded` or
    /// `SeedsGone`.
    /// @param blockNumber The seed block.
    /// @param fixedAt When it was fixed, seconds.
    function seedOf(uint256 blockNumber, uint256 fixedAt) external view returns (bytes32);

    /// @notice How far the seed is.
    /// @return state See `State`.
    /// @return lastBlock Until which block it can be recorded.
    function stateOf(uint256 blockNumber, uint256 fixedAt) external view returns (State state, uint256 lastBlock);

    /// @notice The number of the block, or of the round, whose evidence is needed.
    function indexOf(uint256 blockNumber, uint256 fixedAt) external view returns (uint256);

    /// @notice Whether whoever did not draw until `lastBlock` could have. Where a beacon was silent, nothing says so,
    /// and nobody is to be punished.
    function wasShown(uint256 blockNumber, uint256 fixedAt, uint256 lastBlock) external view returns (bool);

    /// @notice "randao" or "drand".
    function source() external view returns (bytes32);
}
