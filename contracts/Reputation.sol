// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {IReputation} from "./interfaces/IReputation.sol";
import {Decay} from "./libraries/Decay.sol";
import {BatchId, ModelId, Role} from "./types/Types.sol";

/// @title Record of settled work, per operator, role and model
/// @dev Documented in `IReputation`. `trine.protocol.reputation` is its twin.
contract Reputation is IReputation {
    uint256 public constant REJECTED_WEIGHT = 10;
    uint256 public constant MISSED_WEIGHT = 2;
    uint256 public constant PRIOR = 20;
    uint256 public constant MIN_HALF_LIFE_SECONDS = 1 days;
    uint256 public constant MAX_HALF_LIFE_SECONDS = 365 days;

    uint256 private constant BPS = 10_000;
    uint256 private constant MICRO = 1_000_000;
    /// @dev Sums are fixed point, 72 bits with 32 behind the point. Even under the longest half-life a second takes 94
    /// units of one outcome: rounding at every write changes next to nothing.
    uint256 private constant FRACTION_BITS = 32;
    uint256 private constant MAX_SUM = type(uint72).max;

    address private immutable BATCHES;
    address private immutable FINALITY;
    address private immutable APPEALS;
    uint64 private immutable HALF_LIFE_SECONDS;

    /// @dev keccak256(operator and role in one word, modelId) to accepted (72 bits), rejected (72), missed (72), and
    /// when they were so (40 bits: seconds). One word, packed by hand: the compiler would write it four times.
    mapping(bytes32 key => uint256) private _records;

    constructor(address batches, address finality, address appeals, uint64 halfLife) {
        require(
            batches != address(0) && finality != address(0) && appeals != address(0), ReputationZeroAddress()
        );
        require(
            halfLife >= MIN_HALF_LIFE_SECONDS && halfLife <= MAX_HALF_LIFE_SECONDS,
            ReputationHalfLifeOutOfBounds(halfLife, MIN_HALF_LIFE_SECONDS, MAX_HALF_LIFE_SECONDS)
        );
        BATCHES = batches;
        FINALITY = finality;
        APPEALS = appeals;
        HALF_LIFE_SECONDS = halfLife;
    }

    modifier onlyJudges() {
        require(
            msg.sender == BATCHES || msg.sender == FINALITY || msg.sender == APPEALS,
            ReputationUnauthorized(msg.sender)
        );
        _;
    }

    /// @inheritdoc IReputation
    function record(
        address operator,
        Role role,
        ModelId modelId,
        BatchId batchId,
        uint64 accepted,
        uint64 rejected,
        uint64 missed
    ) external onlyJudges {
        _record(operator, role, modelId, batchId, accepted, rejected, missed);
    }

    /// @inheritdoc IReputation
    function recordMany(ModelId modelId, BatchId batchId, Work[] calldata works) external onlyJudges {
        for (uint256 i = 0; i < works.length; ++i) {
            Work calldata w = works[i];
            _record(w.operator, w.role, modelId, batchId, w.accepted, w.rejected, w.missed);
        }
    }

    /// @inheritdoc IReputation
    function recordOf(address operator, Role role, ModelId modelId) external view returns (Record memory) {
        uint256 word = _records[_key(operator, role, modelId)];
        (uint256 accepted, uint256 rejected, uint256 missed) = _faded(word);
        return Record(_micro(accepted), _micro(rejected), _micro(missed), uint40(word));
    }

    /// @inheritdoc IReputation
    function scoreBps(address operator, Role role, ModelId modelId) external view returns (uint256) {
        (uint256 accepted, uint256 rejected, uint256 missed) = _faded(_records[_key(operator, role, modelId)]);
        return _score(accepted, rejected, missed);
    }

    /// @inheritdoc IReputation
    function halfLifeSeconds() external view returns (uint256) {
        return HALF_LIFE_SECONDS;
    }

    function _record(
        address operator,
        Role role,
        ModelId modelId,
        BatchId batchId,
        uint64 accepted,
        uint64 rejected,
        uint64 missed
    ) private {
        bytes32 key = _key(operator, role, modelId);
        (uint256 hasAccepted, uint256 hasRejected, uint256 hasMissed) = _faded(_records[key]);
        hasAccepted = _plus(hasAccepted, _fixed(accepted));
        // Nearly always there is neither.
        if (rejected | missed != 0) {
            hasRejected = _plus(hasRejected, _fixedUp(rejected));
            hasMissed = _plus(hasMissed, _fixedUp(missed));
        }
        uint256 score = _store(key, hasAccepted, hasRejected, hasMissed);
        uint256 counts = (uint256(accepted) << 128) | (uint256(rejected) << 64) | missed;
        uint256 change = (uint256(role) << 208) | (score << 192) | counts;
        emit ReputationChanged(operator, modelId, batchId, change);
    }

    /// @dev No sum exceeds MAX_SUM.
    function _store(bytes32 key, uint256 accepted, uint256 rejected, uint256 missed) private returns (uint256 score) {
        _records[key] = (accepted << 184) | (rejected << 112) | (missed << 40) | uint40(block.timestamp);
        return _score(accepted, rejected, missed);
    }

    /// @dev The sums of a record as they are worth now: accepted rounded down, the others up.
    function _faded(uint256 word) private view returns (uint256 accepted, uint256 rejected, uint256 missed) {
        uint256 left;
        unchecked {
            // Nothing was written later than now.
            left = Decay.multiplier(block.timestamp - uint40(word), HALF_LIFE_SECONDS);
        }
        accepted = Decay.down(word >> 184, left);
        rejected = Decay.up((word >> 112) & MAX_SUM, left);
        missed = Decay.up((word >> 40) & MAX_SUM, left);
    }

    function _key(address operator, Role role, ModelId modelId) private pure returns (bytes32) {
        bytes32 who = bytes32((uint256(uint160(operator)) << 8) | uint256(role));
        return Hashes.efficientKeccak256(who, ModelId.unwrap(modelId));
    }

    /// @dev A sum is at most MAX_SUM and a change at most 2 ** 96: counts have 64 bits.
    function _plus(uint256 sum, uint256 change) private pure returns (uint256) {
        unchecked {
            sum += change;
            return sum < MAX_SUM ? sum : MAX_SUM;
        }
    }

    function _score(uint256 accepted, uint256 rejected, uint256 missed) private pure returns (uint256) {
        unchecked {
            // All sums have 72 bits and the weights few.
            uint256 weighed =
                accepted + REJECTED_WEIGHT * rejected + MISSED_WEIGHT * missed + (PRIOR << FRACTION_BITS);
            return (accepted * BPS) / weighed;
        }
    }

    /// @dev Whole outcomes are exact; of a part of one the operator loses up to a unit.
    function _fixed(uint64 micro) private pure returns (uint256) {
        unchecked {
            return (uint256(micro) << FRACTION_BITS) / MICRO;
        }
    }

    function _fixedUp(uint64 micro) private pure returns (uint256) {
        unchecked {
            return ((uint256(micro) << FRACTION_BITS) + MICRO - 1) / MICRO;
        }
    }

    function _micro(uint256 sum) private pure returns (uint64) {
        return uint64((sum * MICRO) >> FRACTION_BITS);
    }
}
