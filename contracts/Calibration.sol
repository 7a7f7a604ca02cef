// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Wired} from "./Wired.sol";
import {ICalibration} from "./interfaces/ICalibration.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {Majority} from "./libraries/Majority.sol";
import {BatchId, ChallengeId, Ids, ModelId, Role} from "./types/Types.sol";

/// @title Proof of capability
/// @dev Documented in `ICalibration`.
contract Calibration is ICalibration, Wired {
    using SafeCast for uint256;

    /// @dev Bounded in the constructor.
    struct Parameters {
        uint128 minNodeStakeWei;
        uint128 minVerifierStakeWei;
        uint32 validitySeconds;
        uint32 answerSeconds;
        uint16 promptsPerChallenge;
        uint16 seedDelayBlocks;
    }

    uint256 public constant MAX_VALIDITY_SECONDS = 365 days;
    uint256 public constant MAX_ANSWER_SECONDS = 1 days;
    uint256 public constant MAX_PROMPTS = 256;
    uint256 public constant MAX_SEED_DELAY_BLOCKS = 64;

    IStaking private immutable STAKING;
    IModelRegistry private immutable REGISTRY;

    Parameters private _parameters;
    ICommittees private _committees;
    address private _batches;
    uint256 private _nonce;
    mapping(ChallengeId challengeId => Challenge) private _challenges;
    /// @dev Time of sealing, then, once answered, the seconds it took: all that is needed of either.
    mapping(ChallengeId challengeId => uint64) private _clock;
    mapping(address operator => mapping(Role role => mapping(ModelId modelId => Result))) private _results;

    error CalibrationParameterOutOfBounds(string name);

    constructor(IStaking staking, IModelRegistry registry, Parameters memory parameters_, address wirer) Wired(wirer) {
        require(address(staking) != address(0) && address(registry) != address(0), WiredZeroAddress());
        _requireParameter("minNodeStakeWei", parameters_.minNodeStakeWei, type(uint128).max);
        _requireParameter("minVerifierStakeWei", parameters_.minVerifierStakeWei, type(uint128).max);
        _requireParameter("validitySeconds", parameters_.validitySeconds, MAX_VALIDITY_SECONDS);
        _requireParameter("answerSeconds", parameters_.answerSeconds, MAX_ANSWER_SECONDS);
        _requireParameter("promptsPerChallenge", parameters_.promptsPerChallenge, MAX_PROMPTS);
        _requireParameter("seedDelayBlocks", parameters_.seedDelayBlocks, MAX_SEED_DELAY_BLOCKS);
        STAKING = staking;
        REGISTRY = registry;
        _parameters = parameters_;
    }

    /// @notice Names the pools of verifiers and the contract that anchors and settles. Once.
    // `_wire` refuses zero.
    // slither-disable-next-line missing-zero-check
    function wire(ICommittees committees, address batches) external {
        address[] memory counterparts = new address[](2);
        (counterparts[0], counterparts[1]) = (address(committees), batches);
        _wire(counterparts);
        _committees = committees;
        _batches = batches;
    }

    /// @inheritdoc ICalibration
    function request(ModelId modelId, Role role) external returns (ChallengeId challengeId) {
        uint256 required = minStakeOf(role);
        uint256 active = STAKING.stakeOf(msg.sender).active;
        require(active >= required, CalibrationInsufficientStake(active, required));
        // Reverts for an unknown model.
        // slither-disable-next-line unused-return
        REGISTRY.modelOf(modelId);

        challengeId = Ids.challenge(address(this), msg.sender, modelId, role, ++_nonce);
        Challenge storage challenge = _challenges[challengeId];
        challenge.operator = msg.sender;
        challenge.role = role;
        challenge.modelId = modelId;
        challenge.seedBlock = (block.number + _parameters.seedDelayBlocks).toUint64();
        challenge.deadline = (block.timestamp + _parameters.answerSeconds).toUint64();
        emit ChallengeRequested(
            challengeId, msg.sender, modelId, role, challenge.seedBlock, challenge.deadline
        );

        if (role == Role.Verifier) _committees.nominate(modelId, msg.sender);
    }

    /// @inheritdoc ICalibration
    function seal(ChallengeId challengeId) external returns (bytes32 seed) {
        Challenge storage challenge = _known(challengeId);
        require(challenge.seed == 0, CalibrationAlreadySealed(challengeId));
        require(block.number > challenge.seedBlock, CalibrationTooEarly(block.number, challenge.seedBlock));
        // Not stored within 256 blocks, the challenge is dead: ask for another one. That costs a transaction and
        // gains nothing, because every challenge is answered in full or fails.
        seed = blockhash(challenge.seedBlock);
        require(seed != 0, CalibrationSeedExpired(challenge.seedBlock));
        challenge.seed = seed;
        _clock[challengeId] = block.timestamp.toUint64();
        emit ChallengeSealed(challengeId, seed);
    }

    /// @inheritdoc ICalibration
    function answer(ChallengeId challengeId, address operator, BatchId batchId)
        external
        returns (ModelId modelId, uint256 leaves)
    {
        _requireCaller(_batches);
        Challenge storage challenge = _known(challengeId);
        require(challenge.operator == operator, CalibrationNotYours(challenge.operator, operator));
        require(challenge.seed != 0, CalibrationNotSealed(challengeId));
        require(BatchId.unwrap(challenge.batchId) == 0, CalibrationAlreadyAnswered(challengeId));
        require(block.timestamp <= challenge.deadline, CalibrationDeadlinePassed(challenge.deadline));
        challenge.batchId = batchId;
        _clock[challengeId] = block.timestamp.toUint64() - _clock[challengeId];
        emit ChallengeAnswered(challengeId, batchId);
        return (challenge.modelId, _parameters.promptsPerChallenge);
    }

    /// @inheritdoc ICalibration
    function conclude(ChallengeId challengeId, uint256 accepted) external {
        _requireCaller(_batches);
        Challenge memory challenge = _challenges[challengeId];
        uint32 leaves = _parameters.promptsPerChallenge;
        uint32 passed = Majority.popcount(accepted).toUint32();
        if (passed < leaves) {
            // An earlier result keeps its expiry: one failed renewal is not an expulsion.
            emit CalibrationFailed(
                challenge.operator, challenge.modelId, challenge.batchId, challenge.role, passed, leaves
            );
            return;
        }
        Result storage result = _results[challenge.operator][challenge.role][challenge.modelId];
        result.validUntil = (block.timestamp + _parameters.validitySeconds).toUint64();
        result.leavesPassed = passed;
        result.leaves = leaves;
        result.secondsToAnswer = uint256(_clock[challengeId]).toUint32();
        result.batchId = challenge.batchId;
        emit Calibrated(
            challenge.operator,
            challenge.modelId,
            challenge.batchId,
            challenge.role,
            passed,
            leaves,
            result.secondsToAnswer,
            result.validUntil
        );
        if (challenge.role == Role.Verifier) _committees.admit(challenge.modelId, challenge.operator);
    }

    /// @inheritdoc ICalibration
    function promptIndices(ChallengeId challengeId) external view returns (uint256[] memory indices) {
        Challenge storage challenge = _known(challengeId);
        require(challenge.seed != 0, CalibrationNotSealed(challengeId));
        uint256 promptCount = REGISTRY.modelOf(challenge.modelId).promptCount;
        indices = new uint256[](_parameters.promptsPerChallenge);
        for (uint256 i = 0; i < indices.length; ++i) {
            indices[i] = uint256(keccak256(abi.encode(challenge.seed, challengeId, i))) % promptCount;
        }
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
    function isCalibrated(address operator, Role role, ModelId modelId) external view returns (bool) {
        return _results[operator][role][modelId].validUntil >= block.timestamp
            && STAKING.stakeOf(operator).active >= minStakeOf(role);
    }

    /// @inheritdoc ICalibration
    function promptsPerChallenge() external view returns (uint256) {
        return _parameters.promptsPerChallenge;
    }

    /// @inheritdoc ICalibration
    function minStakeOf(Role role) public view returns (uint256) {
        return role == Role.Node ? _parameters.minNodeStakeWei : _parameters.minVerifierStakeWei;
    }

    function _known(ChallengeId challengeId) private view returns (Challenge storage challenge) {
        challenge = _challenges[challengeId];
        require(challenge.operator != address(0), CalibrationUnknownChallenge(challengeId));
    }

    function _requireParameter(string memory name, uint256 value, uint256 maximum) private pure {
        require(value > 0 && value <= maximum, CalibrationParameterOutOfBounds(name));
    }
}
