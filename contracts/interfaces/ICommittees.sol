// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ModelId} from "../types/Types.sol";

/// @title Pools of verifiers and the draw of committees
/// @notice Two pools a model: candidates (staked, asked for calibration) and calibrated verifiers. Batches are drawn
/// from the calibrated. While fewer than four are calibrated, calibration batches, and only these, are drawn from
/// the candidates, who so check one another.
///
/// Weights are frozen by epoch, `epochBlocks` blocks each: a change made in epoch e counts from epoch e + 1 on. A draw
/// is asked for the epoch of its seed's block. Whatever could have been done with knowledge of that block's hash
/// counts later, so nobody can move a draw: not with stake, not with calibration, not by waiting.
///
/// Weight is stake that is there. Whenever active stake falls, by leaving or by a slash, `Staking` says so, and the
/// weights of the next epoch fall with it; until then the leaving stake is what a seat locks. Whose calibration had
/// expired when the seed's block was fixed is passed over, however much weight is left of it.
///
/// A pool's member is an address with its hardware class, at a position that it keeps for good. A member that leaves
/// weighs nothing and takes the same position when it comes back, so positions, and with them the depth of the sum
/// tree, are bounded by the number of members that ever had weight. A verifier has weight in one class at a time.
interface ICommittees {
    /// @notice A pool's member. `position` in events and the order of `poolOf` decide which ranges of a draw it owns.
    /// @param position In the pool.
    /// @param weight What counts from epoch `fromEpoch` on, until the next such event of the same position.
    event VerifierWeightChanged(
        ModelId indexed modelId,
        address indexed verifier,
        bool calibrated,
        uint256 position,
        bytes32 hardwareClass,
        uint256 weight,
        uint256 fromEpoch
    );

    /// @notice A position in a pool.
    struct Row {
        address verifier;
        uint256 weight; // in the epoch that was asked for
        bytes32 hardwareClass;
        uint256 validFrom; // it is drawn for what was fixed from then on, seconds
        uint256 validUntil; // until then
    }

    error CommitteesZeroAddress();
    error CommitteesEpochOutOfBounds(uint256 blocks, uint256 minimum, uint256 maximum);
    error CommitteesUnauthorized(address caller);
    error CommitteesTooManyModels(address verifier, uint256 maximum);
    error CommitteesEpochOutlastsStake(uint256 lagSeconds, uint256 unbondingSeconds);
    error CommitteesEpochNotFrozen(uint256 epoch, uint256 current);
    error CommitteesBadSeats(uint256 seats);
    error CommitteesTooManyExcluded(uint256 excluded, uint256 maximum);
    error CommitteesTooFew(uint256 eligible, uint256 required);

    /// @notice Puts a staked verifier into the model's candidates with the hardware class that it claims. A candidate
    /// that claims another class moves to another position. Only `Calibration`.
    /// @dev A verifier is in the pools of few models at a time. One more takes the place of a model that the verifier
    /// is not calibrated for; where there is none, this reverts.
    function nominate(ModelId modelId, address verifier, bytes32 hardwareClass) external;

    /// @notice Puts a verifier into the model's calibrated pool, with the class of its latest nomination, unless it has
    /// given the model up since. Only `Calibration`.
    function admit(ModelId modelId, address verifier) external;

    /// @notice Queues a verifier's weights, from its stake, reputation and calibration as they are now, for the next
    /// epoch. Anyone may call: for more weight after more work or more stake. That weight falls needs nobody's call.
    /// @dev Active stake in whole tokens x (25 % + 75 % x reputation score), rounded down; zero below the verifiers'
    /// minimum stake or, in the calibrated pool, without valid calibration. Linear in stake, so splitting it over
    /// several addresses gains nothing. One weight is at most MAX_WEIGHT, all of a pool's at most 2^30 - 1: in a full
    /// pool the weight set last is lowered to what is left. Neither ever reverts, so nobody's size can block others.
    function refresh(ModelId modelId, address verifier) external;

    /// @notice The same for all models that the verifier checks. `Staking` calls it whenever active stake falls.
    function stakeChanged(address verifier) external;

    /// @notice Draws `seats` (3, 7 or 15) distinct verifiers other than `excluded`. Depends on nothing but the epoch's
    /// frozen weights, who was calibrated at `fixedAt`, and the arguments.
    ///
    /// The k-th try, k = 0, 1, ..., takes the first position whose cumulative weight exceeds
    /// uint256(keccak256(abi.encode(seed, k))) % totalWeight. It is skipped if it hits `excluded`, somebody already
    /// drawn, somebody who was not calibrated at `fixedAt` or, while k < 8 * seats, somebody whose hardware class
    /// already holds ceil(2 * seats / 3) seats. Reverts after 32 * seats tries.
    /// @dev Warning: ask for an epoch within `drawWindowBlocks` of a block in it. Later it may be forgotten, which
    /// reverts.
    /// @param epoch `epochAt` the block whose hash made the seed.
    /// @param fixedAt When the seed's block was fixed, seconds: a time before anybody knew its hash, so that it does
    /// not matter when a draw is called.
    /// @param calibration Whether a calibration batch is drawn for. It falls back on candidates while fewer than four
    /// of the calibrated have weight, and where those that have it do not fill the committee.
    function draw(
        ModelId modelId,
        bytes32 seed,
        uint256 epoch,
        uint256 fixedAt,
        address excluded,
        uint256 seats,
        bool calibration
    ) external view returns (address[] memory verifiers);

    /// @notice Like `draw`, without any of `excluded` (at most 32): an appeal excludes the node and who judged before.
    function drawExcluding(
        ModelId modelId,
        bytes32 seed,
        uint256 epoch,
        uint256 fixedAt,
        address[] calldata excluded,
        uint256 seats,
        bool calibration
    ) external view returns (address[] memory verifiers);

    /// @notice A pool's members from position `offset` on, at most `limit` of them, with their weights in `epoch`: all
    /// that is needed to repeat a draw. `epoch` may be the next one, whose weights are pending.
    function poolOf(ModelId modelId, bool calibrated, uint256 epoch, uint256 offset, uint256 limit)
        external
        view
        returns (Row[] memory rows);

    /// @notice The models in whose pools the verifier is.
    function modelsOf(address verifier) external view returns (ModelId[] memory);

    /// @notice How many positions the pool has handed out.
    function positionsOf(ModelId modelId, bool calibrated) external view returns (uint256);

    /// @notice How many of the pool's members have weight in `epoch`.
    function eligible(ModelId modelId, bool calibrated, uint256 epoch) external view returns (uint256);

    /// @notice A block's epoch: its number / `epochBlocks`, rounded down.
    function epochAt(uint256 blockNumber) external view returns (uint256);

    /// @notice The epoch that it is now: the newest from which may be drawn.
    function currentEpoch() external view returns (uint256);

    function epochBlocks() external view returns (uint256);

    /// @notice Blocks after its seed's block within which a committee must be drawn: as long as the block's hash is
    /// known and its epoch is the current one or the one before.
    function drawWindowBlocks() external view returns (uint256);
}
