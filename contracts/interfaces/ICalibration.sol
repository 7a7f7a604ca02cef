// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, ChallengeId, ModelId, Role} from "../types/Types.sol";

/// @title Proof of capability
/// @notice An operator asks for a challenge; randomness of a later block picks prompts from the model's registered
/// set; the operator answers them as a calibration batch, which a committee checks like any other.
interface ICalibration {
    struct Challenge {
        address operator;
        Role role;
        ModelId modelId;
        uint64 seedBlock; // its hash picks the prompts
        uint64 deadline; // the batch must be anchored by then
        bytes32 seed; // zero until sealed
        BatchId batchId; // zero until anchored
    }

    struct Result {
        uint64 validUntil; // zero: never passed
        uint32 leavesPassed;
        uint32 leaves;
        uint32 secondsToAnswer; // from seal to anchor
        BatchId batchId;
    }

    event ChallengeRequested(
        ChallengeId indexed challengeId,
        address indexed operator,
        ModelId indexed modelId,
        Role role,
        uint256 seedBlock,
        uint256 deadline
    );
    event ChallengeSealed(ChallengeId indexed challengeId, bytes32 seed);
    event ChallengeAnswered(ChallengeId indexed challengeId, BatchId indexed batchId);
    event Calibrated(
        address indexed operator,
        ModelId indexed modelId,
        BatchId indexed batchId,
        Role role,
        uint32 leavesPassed,
        uint32 leaves,
        uint32 secondsToAnswer,
        uint256 validUntil
    );
    event CalibrationFailed(
        address indexed operator,
        ModelId indexed modelId,
        BatchId indexed batchId,
        Role role,
        uint32 leavesPassed,
        uint32 leaves
    );

    error CalibrationInsufficientStake(uint256 free, uint256 required);
    error CalibrationUnknownChallenge(ChallengeId challengeId);
    error CalibrationTooEarly(uint256 blockNumber, uint256 seedBlock);
    error CalibrationSeedExpired(uint256 seedBlock);
    error CalibrationAlreadySealed(ChallengeId challengeId);
    error CalibrationNotSealed(ChallengeId challengeId);
    error CalibrationAlreadyAnswered(ChallengeId challengeId);
    error CalibrationDeadlinePassed(uint256 deadline);
    error CalibrationNotYours(address operator, address caller);

    /// @notice Opens a challenge for the caller. Verifiers become candidates of the model's committees by it.
    function request(ModelId modelId, Role role) external returns (ChallengeId challengeId);

    /// @notice Stores the seed block's hash while the chain still knows it. Anyone may call.
    function seal(ChallengeId challengeId) external returns (bytes32 seed);

    /// @notice Index into the prompt set of the challenge's i-th prompt, i < promptsPerChallenge:
    /// uint256(keccak256(abi.encode(seed, challengeId, i))) % promptCount.
    function promptIndices(ChallengeId challengeId) external view returns (uint256[] memory);

    /// @notice Binds a batch to its challenge; returns what the batch needs. Only `Batches`.
    function answer(ChallengeId challengeId, address operator, BatchId batchId)
        external
        returns (ModelId modelId, uint256 leaves);

    /// @notice Records the committee's verdict on a calibration batch. Only `Batches`.
    function conclude(ChallengeId challengeId, uint256 accepted) external;

    function challengeOf(ChallengeId challengeId) external view returns (Challenge memory);

    function resultOf(address operator, Role role, ModelId modelId) external view returns (Result memory);

    /// @notice Whether the operator may work in the role now: it passed, that has not expired, and its active stake
    /// has not fallen below the role's minimum.
    function isCalibrated(address operator, Role role, ModelId modelId) external view returns (bool);

    function promptsPerChallenge() external view returns (uint256);

    /// @notice Active stake without which nobody can be calibrated for, or keep working in, the role.
    function minStakeOf(Role role) external view returns (uint256);
}
