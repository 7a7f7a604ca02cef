// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ICalibration} from "./interfaces/ICalibration.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IParameters} from "./interfaces/IParameters.sol";
import {ISeeds} from "./interfaces/ISeeds.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {Majority} from "./libraries/Majority.sol";
import {BatchId, ChallengeId, Ids, ModelId, Role} from "./types/Types.sol";

/// @title Proof of capability
/// @dev Documented in `ICalibration`.
contract Calibration is ICalibration {
    using SafeCast for uint256;

    struct Contracts {
        IStaking staking;
        IModelRegistry registry;
        ICommittees committees;
        IParameters parameters;
        address batches;
        ISeeds seeds;
    }

    /// @dev What is needed of a challenge once it is sealed and answered.
    struct Clock {
        uint64 sealedAt;
        uint32 secondsToAnswer;
        uint32 outputTokens;
    }

    uint256 public constant MAX_OUTPUT_TOKENS = 1e9;
    uint256 private constant MILLI = 1000;

    IStaking private immutable STAKING;
    IModelRegistry private immutable REGISTRY;
    ICommittees private immutable COMMITTEES;
    IParameters private immutable PARAMETERS;
    address private immutable BATCHES;
    ISeeds private immutable SEEDS;

    uint256 private _nonce;
    mapping(ChallengeId challengeId => Challenge) private _challenges;
    mapping(ChallengeId challengeId => Clock) private _clocks;
    mapping(address operator => mapping(Role role => mapping(ModelId modelId => Result))) private _results;
    mapping(ModelId modelId => mapping(Role role => address[])) private _operators;

    constructor(Contracts memory contracts_) {
        require(
            address(contracts_.staking) != address(0) && address(contracts_.registry) != address(0)
                && address(contracts_.committees) != address(0) && address(contracts_.parameters) != address(0)
                && contracts_.batches != address(0) && address(contracts_.seeds) != address(0),
            CalibrationZeroAddress()
        );
        STAKING = contracts_.staking;
        REGISTRY = contracts_.registry;
        COMMITTEES = contracts_.committees;
        PARAMETERS = contracts_.parameters;
        BATCHES = contracts_.batches;
        SEEDS = contracts_.seeds;
    }

    /// @inheritdoc ICalibration
    function request(ModelId modelId, Role role, bytes32 hardwareClass) external returns (ChallengeId challengeId) {
        uint256 required = minStakeOf(role);
        uint256 own = STAKING.stakeOf(msg.sender).own;
        require(own >= required, CalibrationInsufficientStake(own, required));
        require(hardwareClass != 0, CalibrationHardwareClassMissing());
        // Reverts for an unknown model.
        require(REGISTRY.hasClass(modelId, hardwareClass), CalibrationUnknownClass(modelId, hardwareClass));

        IParameters.Values memory values = PARAMETERS.current();
        challengeId = Ids.challenge(address(this), msg.sender, modelId, role, ++_nonce);
        Challenge storage challenge = _challenges[challengeId];
        challenge.operator = msg.sender;
        challenge.role = role;
        challenge.modelId = modelId;
        challenge.seedBlock = (block.number + values.seedDelayBlocks).toUint64();
        challenge.deadline = (block.timestamp + values.calibrationAnswerSeconds).toUint64();
        challenge.leaves = values.promptsPerChallenge;
        challenge.fixedAt = block.timestamp.toUint64();
        challenge.hardwareClass = hardwareClass;
        emit ChallengeRequested(
            challengeId, msg.sender, modelId, role, hardwareClass, challenge.seedBlock, challenge.deadline
        );

        if (role == Role.Verifier) COMMITTEES.nominate(modelId, msg.sender, hardwareClass);
    }

    /// @inheritdoc ICalibration
    function seal(ChallengeId challengeId) external returns (bytes32 seed) {
        Challenge storage challenge = _known(challengeId);
        require(challenge.seed == 0, CalibrationAlreadySealed(challengeId));
        require(block.number > challenge.seedBlock, CalibrationTooEarly(block.number, challenge.seedBlock));
        // Where the seed goes unrecorded until it is gone, the challenge is dead: ask for another one. That costs a
        // transaction and gains nothing, because every challenge is answered in full or fails.
        seed = SEEDS.seedOf(challenge.seedBlock, challenge.fixedAt);
        challenge.seed = seed;
        _clocks[challengeId].sealedAt = block.timestamp.toUint64();
        emit ChallengeSealed(challengeId, seed);
    }

    /// @inheritdoc ICalibration
    function answer(ChallengeId challengeId, address operator, BatchId batchId, uint256 outputTokens) external {
        require(msg.sender == BATCHES, CalibrationUnauthorized(msg.sender));
        Challenge storage challenge = _known(challengeId);
        require(challenge.operator == operator, CalibrationNotYours(challenge.operator, operator));
        require(challenge.seed != 0, CalibrationNotSealed(challengeId));
        require(BatchId.unwrap(challenge.batchId) == 0, CalibrationAlreadyAnswered(challengeId));
        require(block.timestamp <= challenge.deadline, CalibrationDeadlinePassed(challenge.deadline));
        require(
            outputTokens <= MAX_OUTPUT_TOKENS, CalibrationTokensOutOfBounds(outputTokens, MAX_OUTPUT_TOKENS)
        );
        challenge.batchId = batchId;
        Clock storage clock = _clocks[challengeId];
        clock.secondsToAnswer = (block.timestamp - clock.sealedAt).toUint32();
        clock.outputTokens = outputTokens.toUint32();
        emit ChallengeAnswered(challengeId, batchId, outputTokens);
    }

    /// @inheritdoc ICalibration
    function conclude(ChallengeId challengeId, uint256 accepted, uint256 distancePpm) external {
        require(msg.sender == BATCHES, CalibrationUnauthorized(msg.sender));
        Challenge memory challenge = _challenges[challengeId];
        Clock memory clock = _clocks[challengeId];
        Result memory result = Result({
            validUntil: 0,
            leavesPassed: Majority.popcount(accepted).toUint32(),
            leaves: challenge.leaves,
            secondsToAnswer: clock.secondsToAnswer,
            outputTokens: clock.outputTokens,
            distancePpm: Math.min(distancePpm, type(uint32).max).toUint32(),
            batchId: challenge.batchId
        });
        if (result.leavesPassed < challenge.leaves) {
            // An earlier result keeps its expiry: one failed renewal is not an expulsion.
            emit CalibrationFailed(
                challenge.operator, challenge.modelId, challenge.batchId, challenge.role, result
            );
            return;
        }
        result.validUntil =
            (block.timestamp + PARAMETERS.current().calibrationValiditySeconds).toUint64();
        Result storage kept = _results[challenge.operator][challenge.role][challenge.modelId];
        if (kept.validUntil == 0) _operators[challenge.modelId][challenge.role].push(challenge.operator);
        _results[challenge.operator][challenge.role][challenge.modelId] = result;
        emit Calibrated(challenge.operator, challenge.modelId, challenge.batchId, challenge.role, result);
        // slither-disable-next-line incorrect-equality
        if (challenge.role == Role.Verifier) COMMITTEES.admit(challenge.modelId, challenge.operator);
    }

    /// @inheritdoc ICalibration
    function promptIndices(ChallengeId challengeId) external view returns (uint256[] memory indices) {
        Challenge storage challenge = _known(challengeId);
        require(challenge.seed != 0, CalibrationNotSealed(challengeId));
        uint256 promptCount = REGISTRY.modelOf(challenge.modelId).promptCount;
        indices = new uint256[](challenge.leaves);
        for (uint256 i = 0; i < indices.length; ++i) {
            indices[i] = uint256(keccak256(abi.encode(challenge.seed, challengeId, i))) % promptCount;
        }
    }

    /// @inheritdoc ICalibration
    function modelOf(ChallengeId challengeId) external view returns (ModelId modelId, uint256 leaves) {
        Challenge storage challenge = _known(challengeId);
        return (challenge.modelId, challenge.leaves);
    }

    /// @inheritdoc ICalibration
    function challengeOf(ChallengeId challengeId) external view returns (Challenge memory) {
        return _challenges[challengeId];
    }

    /// @inheritdoc ICalibration
    function resultOf(address operator, Role role, ModelId modelId) external view returns (Result memory) {
        return _results[operator][role][modelId];
    }

    /// @inheritdoc ICalibration
    function milliTokensPerSecond(address operator, Role role, ModelId modelId) external view returns (uint256) {
        Result storage result = _results[operator][role][modelId];
        return (uint256(result.outputTokens) * MILLI) / Math.max(result.secondsToAnswer, 1);
    }

    /// @inheritdoc ICalibration
    function isCalibrated(address operator, Role role, ModelId modelId) external view returns (bool) {
        return _results[operator][role][modelId].validUntil >= block.timestamp
            && STAKING.stakeOf(operator).own >= minStakeOf(role);
    }

    /// @inheritdoc ICalibration
    function validUntil(address operator, Role role, ModelId modelId) external view returns (uint256) {
        return _results[operator][role][modelId].validUntil;
    }

    /// @inheritdoc ICalibration
    function operatorCount(ModelId modelId, Role role) external view returns (uint256) {
        return _operators[modelId][role].length;
    }

    /// @inheritdoc ICalibration
    function operatorAt(ModelId modelId, Role role, uint256 index) external view returns (address) {
        return _operators[modelId][role][index];
    }

    /// @inheritdoc ICalibration
    function minStakeOf(Role role) public view returns (uint256) {
        (uint256 node, uint256 verifier) = PARAMETERS.minStakes();
        return role == Role.Node ? node : verifier;
    }

    function _known(ChallengeId challengeId) private view returns (Challenge storage challenge) {
        challenge = _challenges[challengeId];
        require(challenge.operator != address(0), CalibrationUnknownChallenge(challengeId));
    }
}
