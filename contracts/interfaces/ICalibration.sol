// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, ChallengeId, ModelId, Role} from "../types/Types.sol";

/// @title Proof of capability
/// @notice An operator asks for a challenge and commits to a secret; a later block's randomness and the secret, which
/// the operator then reveals, make the challenge's seed. The seed picks prompts from the model's registered set and
/// puts words of its own before each, so no two challenges ask the same. The operator answers them as a calibration
/// batch, which a committee checks like any other. Passing it gives the right to anchor or to be drawn until it
/// expires; whoever passes again before then has renewed it.
interface ICalibration {
    struct Challenge {
        address operator;
        Role role;
        ModelId modelId;
        uint64 seedBlock; // its seed and the operator's secret make the challenge's
        uint64 deadline; // the batch must be anchored by then
        uint16 leaves; // prompts to answer
        uint64 fixedAt; // when the seed block was fixed, seconds
        bytes32 hardwareClass; // short string, e.g. "cpu-bf16"; declared
        bytes32 commitment; // keccak256(abi.encode(secret))
        bytes32 seed; // zero until sealed
        BatchId batchId; // zero until anchored
    }

    struct Result {
        uint64 validUntil; // zero: never passed
        uint32 leavesPassed;
        uint32 leaves;
        uint32 secondsToAnswer; // from request to anchor
        uint32 outputTokens; // of all answers
        uint32 distancePpm; // median of the verifiers' largest fingerprint deviations, in millionths
        BatchId batchId;
    }

    event ChallengeRequested(
        ChallengeId indexed challengeId,
        address indexed operator,
        ModelId indexed modelId,
        Role role,
        bytes32 hardwareClass,
        uint256 seedBlock,
        uint256 deadline
    );
    event ChallengeSealed(ChallengeId indexed challengeId, bytes32 seed, bytes32 secret);
    event ChallengeAnswered(ChallengeId indexed challengeId, BatchId indexed batchId, uint256 outputTokens);
    event Calibrated(
        address indexed operator, ModelId indexed modelId, BatchId indexed batchId, Role role, Result result
    );
    event CalibrationFailed(
        address indexed operator, ModelId indexed modelId, BatchId indexed batchId, Role role, Result result
    );

    error CalibrationZeroAddress();
    error CalibrationUnauthorized(address caller);
    error CalibrationInsufficientStake(uint256 own, uint256 required);
    error CalibrationHardwareClassMissing();
    error CalibrationCommitmentMissing();
    error CalibrationUnknownClass(ModelId modelId, bytes32 hardwareClass);
    error CalibrationUnknownChallenge(ChallengeId challengeId);
    error CalibrationTooEarly(uint256 blockNumber, uint256 seedBlock);
    error CalibrationWrongSecret(ChallengeId challengeId);
    error CalibrationAlreadySealed(ChallengeId challengeId);
    error CalibrationNotSealed(ChallengeId challengeId);
    error CalibrationAlreadyAnswered(ChallengeId challengeId);
    error CalibrationDeadlinePassed(uint256 deadline);
    error CalibrationNotYours(address operator, address caller);
    error CalibrationTokensOutOfBounds(uint256 outputTokens, uint256 maximum);

    /// @notice Opens a challenge for the caller. Verifiers become candidates of the model's committees by it.
    /// @param hardwareClass Short string that names dtype and kind of hardware, one of those that the model's policy
    /// has; the policy's bounds and the mixing of committees go by it. A wrong one makes honest answers look wrong.
    /// @param commitment keccak256(abi.encode(secret)) of a random secret that nobody else knows.
    function request(ModelId modelId, Role role, bytes32 hardwareClass, bytes32 commitment)
        external
        returns (ChallengeId challengeId);

    /// @notice Reveals the secret and stores keccak256(abi.encode(s, secret, challengeId)) as the challenge's seed,
    /// where `s` is what `ISeeds` has for the seed block. Anyone may call who knows the secret, once `s` is recorded:
    /// see `ISeeds.recordAndCall`. A challenge that is not sealed in time is dead.
    function seal(ChallengeId challengeId, bytes32 secret) external returns (bytes32 seed);

    /// @notice Index into the prompt set of the challenge's i-th prompt, i < leaves:
    /// uint256(keccak256(abi.encode(seed, challengeId, i))) % promptCount. The words before each prompt come from the
    /// same hash: `trine.protocol.calibration` has them.
    function promptIndices(ChallengeId challengeId) external view returns (uint256[] memory);

    /// @notice Binds a batch to its challenge. Only `Batches`.
    function answer(ChallengeId challengeId, address operator, BatchId batchId, uint256 outputTokens) external;

    /// @notice Records the committee's verdict on a calibration batch. Only `Batches`. Never fails.
    function conclude(ChallengeId challengeId, uint256 accepted, uint256 distancePpm) external;

    /// @notice What a batch that answers the challenge is about. Reverts for an unknown challenge.
    function modelOf(ChallengeId challengeId) external view returns (ModelId modelId, uint256 leaves);

    function challengeOf(ChallengeId challengeId) external view returns (Challenge memory);

    function resultOf(address operator, Role role, ModelId modelId) external view returns (Result memory);

    /// @notice outputTokens of the last passed challenge by the seconds from request to anchor, in thousandths of a
    /// token a second. The wait for the seed is among them, and block times are the clock, so short challenges are
    /// measured coarsely and too slow, never too fast.
    function milliTokensPerSecond(address operator, Role role, ModelId modelId) external view returns (uint256);

    /// @notice Whether the operator may work in the role now: it passed, that has not expired, and its own active
    /// stake has not fallen below the role's minimum.
    function isCalibrated(address operator, Role role, ModelId modelId) external view returns (bool);

    /// @notice Until when the operator's calibration holds, seconds; zero if it never passed.
    function validUntil(address operator, Role role, ModelId modelId) external view returns (uint256);

    /// @notice How many operators have ever passed in the role. Whether they may work now, `isCalibrated` says.
    function operatorCount(ModelId modelId, Role role) external view returns (uint256);

    /// @notice They in the order in which they first passed, from 0; reverts with a panic beyond the last.
    function operatorAt(ModelId modelId, Role role, uint256 index) external view returns (address);

    /// @notice Own active stake without which nobody can be calibrated for, or keep working in, the role.
    function minStakeOf(Role role) external view returns (uint256);
}
