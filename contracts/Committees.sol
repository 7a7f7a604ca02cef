// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ICalibration} from "./interfaces/ICalibration.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {EpochTree} from "./libraries/EpochTree.sol";
import {ModelId, Role} from "./types/Types.sol";

/// @title Pools of verifiers and the draw of committees
/// @dev Documented in `ICommittees`.
contract Committees is ICommittees {
    using EpochTree for EpochTree.Tree;
    using EpochTree for EpochTree.Snapshot;
    using SafeCast for uint256;

    uint256 public constant MIN_EPOCH_BLOCKS = 8;
    uint256 public constant MAX_EPOCH_BLOCKS = 50_000;
    uint256 public constant MAX_EXCLUDED = 32;
    uint256 public constant MAX_TRIES_PER_SEAT = 32;
    uint256 public constant MIX_TRIES_PER_SEAT = 8;
    /// @notice Stake that weighs 1 with the best reputation.
    uint256 public constant WEIGHT_UNIT_WEI = 1e18;
    uint256 public constant MAX_WEIGHT = 1 << 24;
    /// @notice Models that one address may check at a time. A slash sets its weights in all of their pools, and an
    /// appeal can slash 25 at once, so few enough that this fits a transaction. For more, use more addresses.
    uint256 public constant MAX_MODELS = 4;
    /// @notice Longest mean time of a block for which stake outlasts the weights that it gave.
    uint256 public constant SECONDS_PER_BLOCK = 15;

    uint256 private constant MAX_BPS = 10_000;
    uint256 private constant NEWCOMER_BPS = 2500;
    // Whoever is being checked is excluded and may be one of them.
    uint256 private constant ENOUGH_CALIBRATED = 4;
    // The EVM knows the hashes of so many blocks before the current one.
    uint256 private constant KNOWN_BLOCKHASHES = 256;

    /// @dev One word, of which a draw reads everything.
    struct Member {
        address verifier;
        uint32 classId;
        uint32 validFrom; // seconds, good until 2106
        uint32 validUntil; // a candidate's: for ever
    }

    /// @dev What decides a draw besides pool and exclusions; see `ICommittees.draw`.
    struct Lot {
        bytes32 seed;
        uint256 epoch;
        uint256 fixedAt;
        uint256 seats;
    }

    struct Membership {
        uint32 classId; // zero: never nominated (candidates), never admitted (calibrated)
        uint32 positionPlusOne; // zero: never had weight in this class
    }

    struct Pool {
        EpochTree.Tree tree;
        uint256 positions;
        mapping(uint256 position => Member) members;
        mapping(address verifier => Membership) memberships;
        mapping(address verifier => mapping(uint256 classId => uint256)) positionsPlusOne;
    }

    IStaking private immutable STAKING;
    ICalibration private immutable CALIBRATION;
    IReputation private immutable REPUTATION;
    uint256 private immutable EPOCH_BLOCKS;

    mapping(ModelId modelId => Pool) private _candidates;
    // Written through storage pointers.
    // slither-disable-next-line uninitialized-state
    mapping(ModelId modelId => Pool) private _calibrated;
    mapping(bytes32 hardwareClass => uint256 classId) private _classIds;
    mapping(uint256 classId => bytes32 hardwareClass) private _classes;
    uint256 private _classCount;
    // The same.
    // slither-disable-next-line uninitialized-state
    mapping(address verifier => ModelId[]) private _modelsOf;

    constructor(IStaking staking, ICalibration calibration, IReputation reputation, uint256 blocks) {
        require(
            address(staking) != address(0) && address(calibration) != address(0) && address(reputation) != address(0),
            CommitteesZeroAddress()
        );
        require(
            blocks >= MIN_EPOCH_BLOCKS && blocks <= MAX_EPOCH_BLOCKS,
            CommitteesEpochOutOfBounds(blocks, MIN_EPOCH_BLOCKS, MAX_EPOCH_BLOCKS)
        );
        // Who leaves weighs something for the rest of the epoch, and may be drawn by that for a window more.
        uint256 lag = 2 * blocks * SECONDS_PER_BLOCK;
        uint256 unbonding = staking.unbondingDelay();
        require(lag <= unbonding, CommitteesEpochOutlastsStake(lag, unbonding));
        STAKING = staking;
        CALIBRATION = calibration;
        REPUTATION = reputation;
        EPOCH_BLOCKS = blocks;
    }

    /// @inheritdoc ICommittees
    function nominate(ModelId modelId, address verifier, bytes32 hardwareClass) external {
        require(msg.sender == address(CALIBRATION), CommitteesUnauthorized(msg.sender));
        _enter(modelId, verifier);
        _claim(modelId, verifier, false, _classIdOf(hardwareClass));
        _refresh(modelId, verifier, _stakeOf(verifier));
    }

    /// @inheritdoc ICommittees
    function admit(ModelId modelId, address verifier) external {
        require(msg.sender == address(CALIBRATION), CommitteesUnauthorized(msg.sender));
        uint256 classId = _candidates[modelId].memberships[verifier].classId;
        // It has given up the model for others since it asked.
        if (classId == 0) return;
        _claim(modelId, verifier, true, classId);
        _refresh(modelId, verifier, _stakeOf(verifier));
    }

    /// @inheritdoc ICommittees
    function refresh(ModelId modelId, address verifier) external {
        _refresh(modelId, verifier, _stakeOf(verifier));
    }

    /// @inheritdoc ICommittees
    function stakeChanged(address verifier) external {
        ModelId[] storage models = _modelsOf[verifier];
        uint256 count = models.length;
        if (count == 0) return;
        uint256 staked = _stakeOf(verifier);
        for (uint256 i = 0; i < count; ++i) {
            _refresh(models[i], verifier, staked);
        }
    }

    /// @inheritdoc ICommittees
    function draw(
        ModelId modelId,
        bytes32 seed,
        uint256 epoch,
        uint256 fixedAt,
        address excluded,
        uint256 seats,
        bool calibration
    ) external view returns (address[] memory) {
        address[] memory one = new address[](1);
        one[0] = excluded;
        return _draw(modelId, Lot(seed, epoch, fixedAt, seats), one, calibration);
    }

    /// @inheritdoc ICommittees
    function drawExcluding(
        ModelId modelId,
        bytes32 seed,
        uint256 epoch,
        uint256 fixedAt,
        address[] calldata excluded,
        uint256 seats,
        bool calibration
    ) external view returns (address[] memory) {
        require(excluded.length <= MAX_EXCLUDED, CommitteesTooManyExcluded(excluded.length, MAX_EXCLUDED));
        return _draw(modelId, Lot(seed, epoch, fixedAt, seats), excluded, calibration);
    }

    /// @inheritdoc ICommittees
    function poolOf(ModelId modelId, bool calibrated, uint256 epoch, uint256 offset, uint256 limit)
        external
        view
        returns (Row[] memory rows)
    {
        Pool storage pool = _poolOf(modelId, calibrated);
        rows = new Row[](Math.min(Math.saturatingSub(pool.positions, offset), limit));
        EpochTree.Snapshot memory snapshot = pool.tree.asOf(epoch);
        for (uint256 i = 0; i < rows.length; ++i) {
            Member memory member = pool.members[offset + i];
            rows[i] = Row({
                verifier: member.verifier,
                weight: pool.tree.weightAt(snapshot, offset + i),
                hardwareClass: _classes[member.classId],
                validFrom: member.validFrom,
                validUntil: member.validUntil
            });
        }
    }

    /// @inheritdoc ICommittees
    function modelsOf(address verifier) external view returns (ModelId[] memory) {
        return _modelsOf[verifier];
    }

    /// @inheritdoc ICommittees
    function positionsOf(ModelId modelId, bool calibrated) external view returns (uint256) {
        return _poolOf(modelId, calibrated).positions;
    }

    /// @inheritdoc ICommittees
    function eligible(ModelId modelId, bool calibrated, uint256 epoch) external view returns (uint256) {
        return _poolOf(modelId, calibrated).tree.asOf(epoch).eligible;
    }

    /// @inheritdoc ICommittees
    function epochAt(uint256 blockNumber) external view returns (uint256) {
        return blockNumber / EPOCH_BLOCKS;
    }

    /// @inheritdoc ICommittees
    function epochBlocks() external view returns (uint256) {
        return EPOCH_BLOCKS;
    }

    /// @inheritdoc ICommittees
    function drawWindowBlocks() external view returns (uint256) {
        return Math.min(EPOCH_BLOCKS, KNOWN_BLOCKHASHES);
    }

    /// @inheritdoc ICommittees
    function currentEpoch() public view returns (uint256) {
        return block.number / EPOCH_BLOCKS;
    }

    function _draw(ModelId modelId, Lot memory lot, address[] memory excluded, bool calibration)
        private
        view
        returns (address[] memory verifiers)
    {
        uint256 seats = lot.seats;
        require(seats == 3 || seats == 7 || seats == 15, CommitteesBadSeats(seats));
        // Refuses what is not frozen yet; what is drawn does not depend on it.
        require(lot.epoch <= currentEpoch(), CommitteesEpochNotFrozen(lot.epoch, currentEpoch()));
        Pool storage pool = _calibrated[modelId];
        EpochTree.Snapshot memory snapshot = pool.tree.asOf(lot.epoch);
        uint256 drawn = 0;
        if (!calibration || snapshot.eligible >= ENOUGH_CALIBRATED) {
            (verifiers, drawn) = _fill(pool, snapshot, lot, excluded);
        }
        // Also where those with weight have expired: nobody could be calibrated any more.
        if (calibration && drawn < seats) {
            pool = _candidates[modelId];
            (verifiers, drawn) = _fill(pool, pool.tree.asOf(lot.epoch), lot, excluded);
        }
        require(drawn == seats, CommitteesTooFew(drawn, seats));
    }

    /// @return verifiers The committee, as far as it was filled.
    /// @return drawn How many seats were, or how many members have weight if these are fewer than the seats.
    function _fill(
        Pool storage pool,
        EpochTree.Snapshot memory snapshot,
        Lot memory lot,
        address[] memory excluded
    ) private view returns (address[] memory verifiers, uint256 drawn) {
        uint256 seats = lot.seats;
        if (snapshot.eligible < seats) return (verifiers, snapshot.eligible);
        verifiers = new address[](seats);
        uint256[] memory classIds = new uint256[](seats);
        // Three members have weight at least, so the total is not zero; nothing here exceeds 32 tries for 15 seats.
        unchecked {
            uint256 total = snapshot.total();
            uint256 mixed = MIX_TRIES_PER_SEAT * seats;
            uint256 tries = MAX_TRIES_PER_SEAT * seats;
            // ceil(2/3) of the seats.
            uint256 limit = (2 * seats + 2) / 3;
            for (uint256 k = 0; k < tries; ++k) {
                uint256 target = uint256(Hashes.efficientKeccak256(lot.seed, bytes32(k))) % total;
                Member storage member = pool.members[pool.tree.pick(snapshot, target)];
                (address verifier, uint256 classId) = (member.verifier, member.classId);
                if (lot.fixedAt < member.validFrom || lot.fixedAt > member.validUntil) continue;
                if (_contains(excluded, excluded.length, verifier) || _contains(verifiers, drawn, verifier)) continue;
                if (k < mixed && _held(classIds, drawn, classId) >= limit) continue;
                (verifiers[drawn], classIds[drawn]) = (verifier, classId);
                if (++drawn == seats) break;
            }
        }
    }

    /// @dev Notes a model as one of the verifier's. A full list gives up one that the verifier is not calibrated for.
    function _enter(ModelId modelId, address verifier) private {
        ModelId[] storage models = _modelsOf[verifier];
        uint256 count = models.length;
        for (uint256 i = 0; i < count; ++i) {
            if (ModelId.unwrap(models[i]) == ModelId.unwrap(modelId)) return;
        }
        if (count < MAX_MODELS) {
            models.push(modelId);
            return;
        }
        for (uint256 i = 0; i < MAX_MODELS; ++i) {
            // Four at most, of Trine's own contract.
            // slither-disable-next-line calls-loop
            if (CALIBRATION.validUntil(verifier, Role.Verifier, models[i]) >= block.timestamp) continue;
            _leave(models[i], verifier, false);
            _leave(models[i], verifier, true);
            models[i] = modelId;
            return;
        }
        revert CommitteesTooManyModels(verifier, MAX_MODELS);
    }

    function _leave(ModelId modelId, address verifier, bool calibrated) private {
        Pool storage pool = _poolOf(modelId, calibrated);
        uint256 positionPlusOne = pool.memberships[verifier].positionPlusOne;
        if (positionPlusOne != 0) _setWeight(modelId, verifier, calibrated, positionPlusOne - 1, 0);
        delete pool.memberships[verifier];
    }

    /// @dev Gives a verifier its class in a pool. Whoever changes class loses the weight of the old position.
    function _claim(ModelId modelId, address verifier, bool calibrated, uint256 classId) private {
        Pool storage pool = _poolOf(modelId, calibrated);
        Membership memory membership = pool.memberships[verifier];
        if (membership.classId == classId) return;
        if (membership.positionPlusOne != 0) {
            _setWeight(modelId, verifier, calibrated, membership.positionPlusOne - 1, 0);
        }
        pool.memberships[verifier] = Membership({
            classId: classId.toUint32(),
            positionPlusOne: pool.positionsPlusOne[verifier][classId].toUint32()
        });
    }

    /// @param staked What `_stakeOf` says.
    function _refresh(ModelId modelId, address verifier, uint256 staked) private {
        uint256 weight = staked == 0 ? 0 : _weightOf(modelId, verifier, staked);
        // A list of four at most, of Trine's own contract.
        // slither-disable-next-line calls-loop
        uint256 validUntil = weight == 0 ? 0 : CALIBRATION.validUntil(verifier, Role.Verifier, modelId);
        _update(modelId, verifier, false, weight, type(uint32).max);
        _update(modelId, verifier, true, validUntil < block.timestamp ? 0 : weight, validUntil);
    }

    /// @dev Hands out a position only to who has weight.
    function _update(ModelId modelId, address verifier, bool calibrated, uint256 weight, uint256 validUntil) private {
        Pool storage pool = _poolOf(modelId, calibrated);
        Membership memory membership = pool.memberships[verifier];
        if (membership.classId == 0 || (membership.positionPlusOne == 0 && weight == 0)) return;
        if (membership.positionPlusOne == 0) {
            pool.members[pool.positions] = Member(verifier, membership.classId, 0, 0);
            membership.positionPlusOne = (++pool.positions).toUint32();
            pool.positionsPlusOne[verifier][membership.classId] = membership.positionPlusOne;
            pool.memberships[verifier] = membership;
        }
        uint256 position = membership.positionPlusOne - 1;
        if (weight > 0) _prolong(pool.members[position], validUntil);
        _setWeight(modelId, verifier, calibrated, position, weight);
    }

    /// @dev This counts at once, unlike weights. Who was valid when a seed was fixed may so become passed over, if it
    /// had expired since, but nobody who was passed over can come in.
    function _prolong(Member storage member, uint256 validUntil) private {
        uint256 before = member.validUntil;
        if (before == validUntil) return;
        if (before < block.timestamp) member.validFrom = block.timestamp.toUint32();
        member.validUntil = validUntil.toUint32();
    }

    function _setWeight(ModelId modelId, address verifier, bool calibrated, uint256 position, uint256 weight) private {
        Pool storage pool = _poolOf(modelId, calibrated);
        uint256 epoch = currentEpoch();
        (uint256 before, uint256 counts) = pool.tree.set(position, weight, epoch);
        // Two weights that the tree tells.
        // slither-disable-next-line incorrect-equality
        if (before == counts) return;
        bytes32 hardwareClass = _classes[pool.members[position].classId];
        emit VerifierWeightChanged(modelId, verifier, calibrated, position, hardwareClass, counts, epoch + 1);
    }

    /// @dev An id for each class ever claimed, from one on: it shares a storage word with the member's address.
    function _classIdOf(bytes32 hardwareClass) private returns (uint256 classId) {
        classId = _classIds[hardwareClass];
        if (classId != 0) return classId;
        classId = ++_classCount;
        _classIds[hardwareClass] = classId;
        _classes[classId] = hardwareClass;
    }

    /// @dev Active stake that weighs: none below the minimum of what must be the verifier's own.
    function _stakeOf(address verifier) private view returns (uint256) {
        IStaking.Stake memory stake = STAKING.stakeOf(verifier);
        return stake.own < CALIBRATION.minStakeOf(Role.Verifier) ? 0 : stake.active;
    }

    /// @dev The weight that stake and reputation earn now, rounded down.
    function _weightOf(ModelId modelId, address verifier, uint256 staked) private view returns (uint256) {
        // slither-disable-next-line calls-loop
        uint256 score = Math.min(REPUTATION.scoreBps(verifier, Role.Verifier, modelId), MAX_BPS);
        uint256 factor = NEWCOMER_BPS + ((MAX_BPS - NEWCOMER_BPS) * score) / MAX_BPS;
        return Math.min((staked * factor) / (WEIGHT_UNIT_WEI * MAX_BPS), MAX_WEIGHT);
    }

    function _poolOf(ModelId modelId, bool calibrated) private view returns (Pool storage) {
        return calibrated ? _calibrated[modelId] : _candidates[modelId];
    }

    function _contains(address[] memory list, uint256 size, address account) private pure returns (bool) {
        unchecked {
            for (uint256 i = 0; i < size; ++i) {
                if (list[i] == account) return true;
            }
        }
        return false;
    }

    /// @dev How many of the seats a class holds.
    function _held(uint256[] memory classIds, uint256 drawn, uint256 classId) private pure returns (uint256 held) {
        unchecked {
            for (uint256 i = 0; i < drawn; ++i) {
                if (classIds[i] == classId) ++held;
            }
        }
    }
}
