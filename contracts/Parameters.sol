// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBatchTerms} from "./interfaces/IBatchTerms.sol";
import {IParameters} from "./interfaces/IParameters.sol";
import {Chains} from "./libraries/Chains.sol";

/// @title All values that governance may change, within bounds that it may not
/// @dev Documented in `IParameters`.
contract Parameters is IParameters, Ownable2Step {
    using SafeCast for uint256;

    uint256 public constant MAX_WINDOW_SECONDS = 7 days;
    uint256 public constant MAX_DELAY_BLOCKS = 64;
    uint256 public constant MAX_ROUNDS = 8;
    uint256 public constant MAX_VALIDITY_SECONDS = 365 days;
    uint256 public constant MAX_ANSWER_SECONDS = 1 days;
    uint256 public constant MAX_PROMPTS = 256;
    /// @notice Four blocks of the slowest chain: time to get one transaction in though a block or two are full.
    uint256 public constant MIN_WINDOW_SECONDS = 4 * SECONDS_PER_BLOCK;
    /// @notice Time to fetch an answer, to check it and to find a bond.
    uint256 public constant MIN_APPEAL_WINDOW_SECONDS = 10 minutes;
    /// @notice Shorter, and operators would do little but prove again what they can.
    uint256 public constant MIN_VALIDITY_SECONDS = 1 days;
    /// @notice The highest minimum of stake, and so of a leaf's, a seat's and a bond's for a seat: a ten-thousandth of
    /// 10^9 tokens, so that nobody can be kept from taking part, or from appealing, by a minimum that none can meet.
    uint256 public constant MAX_MIN_STAKE_WEI = 100_000e18;
    /// @notice Faster than that no verifier reads, so it would mean no time at all.
    uint256 public constant MAX_CHECK_TOKENS_PER_SECOND = 100_000;
    /// @notice Larger committees that may judge a batch one after another: 7 seats, then 15.
    uint256 public constant APPEAL_LEVELS = 2;
    /// @notice Seats of the first of them.
    uint256 public constant FIRST_JURY = 7;
    /// @notice How far back `blockhash` reaches: a draw may come so many blocks after the seed block.
    uint256 public constant BLOCKHASH_WINDOW = 256;
    /// @notice Longest mean time of a block for which `maxLifeSeconds` is a bound.
    uint256 public constant SECONDS_PER_BLOCK = 15;
    /// @notice Between the last act on a batch and the release of stake: time to notice and to call.
    uint256 public constant RESERVE_SECONDS = 1 hours;

    IBatchTerms private immutable BATCHES;
    uint256 private immutable UNBONDING_SECONDS;

    uint8 private _version;
    mapping(uint8 version => Values) private _values;

    /// @param owner The timelock.
    /// @param batches Deployed before: it adopts the first version here.
    /// @param unbondingSeconds_ The same that `Staking` was deployed with.
    constructor(address owner, IBatchTerms batches, uint256 unbondingSeconds_, Values memory values) Ownable(owner) {
        require(address(batches) != address(0), ParametersZeroAddress());
        BATCHES = batches;
        UNBONDING_SECONDS = unbondingSeconds_;
        _requireBounds(values);
        _requireLife(maxLifeSeconds(values), unbondingSeconds_);
        _version = 1;
        _values[1] = values;
        emit ParametersSet(1, values);
        batches.adopt(1, values);
    }

    /// @inheritdoc IParameters
    function set(Values calldata values) external onlyOwner returns (uint8 version_) {
        _requireBounds(values);
        _requireLife(maxLifeSeconds(values), UNBONDING_SECONDS);
        version_ = (uint256(_version) + 1).toUint8();
        _version = version_;
        _values[version_] = values;
        emit ParametersSet(version_, values);
        BATCHES.adopt(version_, values);
    }

    /// @inheritdoc IParameters
    function current() external view returns (Values memory) {
        return _values[_version];
    }

    /// @inheritdoc IParameters
    function valuesOf(uint8 version_) external view returns (Values memory) {
        require(version_ > 0 && version_ <= _version, ParametersUnknownVersion(version_));
        return _values[version_];
    }

    /// @inheritdoc IParameters
    function minStakes() external view returns (uint256 nodeWei, uint256 verifierWei) {
        Values storage values = _values[_version];
        return (values.minNodeStakeWei, values.minVerifierStakeWei);
    }

    /// @inheritdoc IParameters
    function version() external view returns (uint8) {
        return _version;
    }

    /// @inheritdoc IParameters
    function unbondingSeconds() external view returns (uint256) {
        return UNBONDING_SECONDS;
    }

    /// @inheritdoc IParameters
    function maxLifeSeconds(Values memory values) public pure returns (uint256) {
        uint256 draw = (uint256(values.drawDelayBlocks) + BLOCKHASH_WINDOW) * SECONDS_PER_BLOCK;
        uint256 commit = uint256(values.commitSeconds) + values.maxCheckSeconds;
        uint256 rounds = (draw + commit + values.revealSeconds) * values.maxRounds;
        uint256 appeals = (rounds + values.appealWindowSeconds) * APPEAL_LEVELS;
        // The first that turns a verdict begins the time to appeal anew.
        return rounds + 2 * appeals + RESERVE_SECONDS;
    }

    function _requireLife(uint256 lifeSeconds, uint256 unbonding) private pure {
        // Stake that has left is out of a slash's reach: it must stay longer than anything can be decided on it.
        require(lifeSeconds <= unbonding, ParametersLifeTooLong(lifeSeconds, unbonding));
    }

    function _requireBounds(Values memory v) private view {
        // On a development chain nobody needs time, and a test may try what it costs to do without penalties.
        if (!Chains.isDevelopment()) _requireFloors(v);
        _require(v.stakePerLeafWei > 0, "stakePerLeafWei");
        // At most half goes to clients: a node and a client in league must always lose by a rejection.
        _require(v.refundPerLeafWei <= v.stakePerLeafWei / 2, "refundPerLeafWei");
        // Silence after a commitment must cost at least a wrong vote, or the last to reveal has a free option.
        _require(v.noRevealPenaltyWei >= v.wrongVotePenaltyWei, "noRevealPenaltyWei");
        _require(v.noCommitPenaltyWei <= v.wrongVotePenaltyWei, "noCommitPenaltyWei");
        // By leaf, up to the cap: an honest seat errs now and then, and must not have to abstain for fear of it.
        _require(v.dissentFineWei <= v.overturnedFineWei, "dissentFineWei");
        _require(v.overturnedFineWei <= v.wrongVotePenaltyWei, "overturnedFineWei");
        // No penalty is larger than what was locked for the seat.
        _require(v.seatStakeWei >= v.noRevealPenaltyWei, "seatStakeWei");
        // Nor does it pay that what a verifier accepted was a canary and not somebody's answer.
        _require(
            v.canaryPenaltyWei >= v.wrongVotePenaltyWei && v.canaryPenaltyWei <= v.seatStakeWei, "canaryPenaltyWei"
        );
        // An appeal that costs nothing is spam; one that is lost pays its committee. And it must not cost who appeals
        // more for a seat than a verifier has at stake in it: verdicts that nobody can afford to doubt would be those
        // of three.
        _require(
            v.appealBondPerSeatWei > 0 && v.appealBondPerSeatWei <= v.seatStakeWei, "appealBondPerSeatWei"
        );
        _require(v.appealFeePerSeatWei <= v.appealBondPerSeatWei, "appealFeePerSeatWei");
        // Half of what the two lose that made a wrong verdict pays the seven that turned it.
        _require(uint256(v.appealFeePerSeatWei) * FIRST_JURY <= v.overturnedFineWei, "overturnedFineWei");
        _requireWithin(v.appealWindowSeconds, MAX_WINDOW_SECONDS, "appealWindowSeconds");
        _requireWithin(v.commitSeconds, MAX_WINDOW_SECONDS, "commitSeconds");
        _requireWithin(v.revealSeconds, MAX_WINDOW_SECONDS, "revealSeconds");
        _require(v.maxBatchTokens > 0, "maxBatchTokens");
        _requireWithin(v.checkTokensPerSecond, MAX_CHECK_TOKENS_PER_SECOND, "checkTokensPerSecond");
        // Time for a full batch at least, of which its verifiers have nothing else to check.
        _requireWithin(v.maxCheckSeconds, MAX_WINDOW_SECONDS, "maxCheckSeconds");
        _require(
            uint256(v.maxCheckSeconds) * v.checkTokensPerSecond >= v.maxBatchTokens, "maxCheckSeconds"
        );
        // At least one: nobody may know the hash that draws when anchoring.
        _requireWithin(v.drawDelayBlocks, MAX_DELAY_BLOCKS, "drawDelayBlocks");
        _requireWithin(v.maxRounds, MAX_ROUNDS, "maxRounds");
        // Whoever is admitted can cover one leaf or one seat.
        _requireWithin(v.minNodeStakeWei, MAX_MIN_STAKE_WEI, "minNodeStakeWei");
        _require(v.minNodeStakeWei >= v.stakePerLeafWei, "minNodeStakeWei");
        _requireWithin(v.minVerifierStakeWei, MAX_MIN_STAKE_WEI, "minVerifierStakeWei");
        _require(v.minVerifierStakeWei >= v.seatStakeWei, "minVerifierStakeWei");
        _requireWithin(v.calibrationValiditySeconds, MAX_VALIDITY_SECONDS, "calibrationValiditySeconds");
        _requireWithin(v.calibrationAnswerSeconds, MAX_ANSWER_SECONDS, "calibrationAnswerSeconds");
        _requireWithin(v.promptsPerChallenge, MAX_PROMPTS, "promptsPerChallenge");
        _requireWithin(v.seedDelayBlocks, MAX_DELAY_BLOCKS, "seedDelayBlocks");
    }

    /// @dev Without these the mechanism runs, but nothing that is said of it holds: whoever cannot act in time loses
    /// without fault, and silence that costs nothing is a free redraw.
    function _requireFloors(Values memory v) private pure {
        _require(v.appealWindowSeconds >= MIN_APPEAL_WINDOW_SECONDS, "appealWindowSeconds");
        _require(v.commitSeconds >= MIN_WINDOW_SECONDS, "commitSeconds");
        _require(v.revealSeconds >= MIN_WINDOW_SECONDS, "revealSeconds");
        _require(v.calibrationAnswerSeconds >= MIN_WINDOW_SECONDS, "calibrationAnswerSeconds");
        _require(v.calibrationValiditySeconds >= MIN_VALIDITY_SECONDS, "calibrationValiditySeconds");
        // With it, all other penalties and a seat's stake are more than nothing.
        _require(v.noCommitPenaltyWei > 0, "noCommitPenaltyWei");
    }

    function _requireWithin(uint256 value, uint256 maximum, string memory name) private pure {
        _require(value > 0 && value <= maximum, name);
    }

    function _require(bool within, string memory name) private pure {
        require(within, ParametersOutOfBounds(name));
    }
}
