// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Guarded} from "./Guarded.sol";
import {IBatchTerms} from "./interfaces/IBatchTerms.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {ICalibration} from "./interfaces/ICalibration.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IParameters} from "./interfaces/IParameters.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {ISeeds} from "./interfaces/ISeeds.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {IVerifierKeys} from "./interfaces/IVerifierKeys.sol";
import {Majority} from "./libraries/Majority.sol";
import {SeatsLib} from "./libraries/SeatsLib.sol";
import {BatchId, Header, Ids} from "./types/Types.sol";

/// @title What `Batches` stores, and how it is read
/// @dev Documented in `IBatches`.
// The rest of the interface is in `Batches`.
// slither-disable-next-line unimplemented-functions
// States, ballots and hashes are compared for equality, never amounts that others could shift.
// slither-disable-start incorrect-equality
abstract contract BatchRecords is IBatches, IBatchTerms, Guarded {
    using SafeCast for uint256;

    struct Contracts {
        IStaking staking;
        ICalibration calibration;
        ICommittees committees;
        IReputation reputation;
        IVerifierKeys keys;
        address parameters;
        IVerdicts finality;
        ISeeds seeds;
    }

    /// @dev The one word that every act on a batch reads and writes.
    struct Record {
        uint160 committee; // hash of the seats; of state Anchored: when their seed block was fixed, seconds
        uint40 clock;
        uint8 round;
        uint8 terms;
        uint8 lastLeaf; // leaf count less one
        State state;
        uint8 ballots;
        uint8 flags;
    }

    /// @dev A seat's word: its commitment, then the leaves whose first bit it did not set: zero when all is well. The
    /// second bits are those that it rejected or, where the first is set, too, was not shown.
    struct Ballot {
        bytes32 word;
        uint256 rejects;
    }

    uint256 public constant MAX_LEAVES = 256;
    uint256 public constant SEATS = 3;
    uint256 public constant QUORUM = 2;

    uint8 internal constant CALIBRATION_FLAG = 1;
    uint8 internal constant PARTIAL_FLAG = 2; // not all leaves were accepted
    uint8 internal constant SIGNED_FLAG = 4;
    uint8 internal constant MARKED_FLAG = 8;
    /// @dev One bit a seat: found wrong on a leaf.
    uint8 internal constant PENALISED_SHIFT = 4;
    uint8 internal constant PENALISED_MASK = 7;
    uint8 internal constant REOPENED_FLAG = 128;

    // Two bits a seat, in `Record.ballots`.
    uint256 internal constant NOTHING = 0;
    uint256 internal constant COMMITTED = 1;
    uint256 internal constant ASSENT = 2;
    uint256 internal constant DISSENT = 3;
    uint8 internal constant ALL_ASSENT = 42; // 0b101010

    IStaking internal immutable STAKING;
    ICalibration internal immutable CALIBRATION;
    ICommittees internal immutable COMMITTEES;
    IReputation internal immutable REPUTATION;
    IVerifierKeys internal immutable KEYS;
    address internal immutable PARAMETERS;
    IVerdicts internal immutable FINALITY;
    ISeeds internal immutable SEEDS;

    uint8 internal _version;
    mapping(uint8 version => Terms) private _terms;
    mapping(BatchId batchId => Record) internal _records;
    mapping(BatchId batchId => mapping(uint256 roundAndSeat => Ballot)) internal _ballots;
    /// @dev The verdict as settled, in the form of a ballot. Both zero mostly.
    mapping(BatchId batchId => uint256) internal _withheld;
    mapping(BatchId batchId => uint256) internal _rejected;

    constructor(Contracts memory contracts_) {
        require(
            address(contracts_.staking) != address(0) && address(contracts_.calibration) != address(0)
                && address(contracts_.committees) != address(0) && address(contracts_.reputation) != address(0)
                && address(contracts_.keys) != address(0)
                && contracts_.parameters != address(0) && address(contracts_.finality) != address(0)
                && address(contracts_.seeds) != address(0),
            BatchesZeroAddress()
        );
        STAKING = contracts_.staking;
        CALIBRATION = contracts_.calibration;
        COMMITTEES = contracts_.committees;
        REPUTATION = contracts_.reputation;
        KEYS = contracts_.keys;
        PARAMETERS = contracts_.parameters;
        FINALITY = contracts_.finality;
        SEEDS = contracts_.seeds;
    }

    /// @inheritdoc IBatchTerms
    function adopt(uint8 version, IParameters.Values calldata values) external {
        _requireCaller(PARAMETERS);
        // What open batches were anchored under must not change.
        require(version > _version, BatchesTermsExist(version));
        _version = version;
        _terms[version] = Terms({
            stakePerLeafWei: values.stakePerLeafWei,
            verifierFeePerLeafWei: values.verifierFeePerLeafWei,
            verifierFeePerTokenWei: values.verifierFeePerTokenWei,
            maxBatchTokens: values.maxBatchTokens,
            drawDelayBlocks: values.drawDelayBlocks,
            maxRounds: values.maxRounds,
            seatStakeWei: values.seatStakeWei,
            commitSeconds: values.commitSeconds,
            revealSeconds: values.revealSeconds,
            checkTokensPerSecond: values.checkTokensPerSecond,
            maxCheckSeconds: values.maxCheckSeconds,
            appealWindowSeconds: values.appealWindowSeconds,
            refundPerLeafWei: values.refundPerLeafWei,
            dissentFineWei: values.dissentFineWei,
            overturnedFineWei: values.overturnedFineWei,
            wrongVotePenaltyWei: values.wrongVotePenaltyWei,
            noRevealPenaltyWei: values.noRevealPenaltyWei,
            noCommitPenaltyWei: values.noCommitPenaltyWei,
            canaryPenaltyWei: values.canaryPenaltyWei
        });
        emit TermsAdopted(version);
    }

    /// @inheritdoc IBatches
    function finish(BatchId batchId, uint8 penalised) external {
        Record memory r = _noted(batchId, penalised);
        (r.state, r.clock) = (State.Final, block.timestamp.toUint40());
        _records[batchId] = r;
    }

    /// @inheritdoc IBatches
    function note(BatchId batchId, uint8 penalised, bool reopen) external {
        Record memory r = _noted(batchId, penalised);
        r.flags |= MARKED_FLAG;
        if (reopen) {
            r.flags |= REOPENED_FLAG;
            r.clock = block.timestamp.toUint40();
        }
        _records[batchId] = r;
    }

    /// @inheritdoc IBatches
    // The first bits are all but those withheld: an exclusive or, no power.
    // slither-disable-next-line incorrect-exp
    function batchOf(BatchId batchId) external view returns (Batch memory) {
        Record memory r = _records[batchId];
        bool settled = r.state == State.Settled || r.state == State.Final;
        bool partial_ = r.flags & PARTIAL_FLAG != 0;
        uint256 first = settled ? _mask(r) ^ (partial_ ? _withheld[batchId] : 0) : 0;
        uint256 second = partial_ ? _rejected[batchId] : 0;
        return Batch({
            state: r.state,
            calibration: _isCalibration(r),
            signed: r.flags & SIGNED_FLAG != 0,
            marked: r.flags & MARKED_FLAG != 0,
            reopened: r.flags & REOPENED_FLAG != 0,
            round: r.round,
            terms: r.terms,
            leafCount: r.state == State.None ? 0 : uint16(_leafCount(r)),
            clock: r.clock,
            ballots: r.ballots,
            penalised: (r.flags >> PENALISED_SHIFT) & PENALISED_MASK,
            committee: r.state == State.Anchored ? 0 : r.committee,
            accepted: first & ~second,
            rejected: second & ~first,
            unavailable: first & second
        });
    }

    /// @inheritdoc IBatches
    function fixedAt(BatchId batchId) external view returns (uint256) {
        return _inState(batchId, State.Anchored).committee;
    }

    /// @inheritdoc IBatches
    function voteOf(BatchId batchId, uint256 round, uint256 seat)
        external
        view
        returns (bool revealed, uint256 accepts, uint256 rejects)
    {
        Record memory r = _records[batchId];
        if (round != r.round || seat >= SEATS || _ballotOf(r, seat) < ASSENT) return (false, 0, 0);
        (uint256 withheld, uint256 rejected) = _vote(batchId, r, seat);
        return (true, _mask(r) ^ withheld, rejected);
    }

    /// @inheritdoc IBatches
    function termsOf(uint8 version) external view returns (Terms memory) {
        return _terms[version];
    }

    /// @inheritdoc IVerdicts
    function verdictOf(BatchId batchId, uint256 leafIndex) external view returns (Verdict verdict, bool isFinal) {
        return FINALITY.verdictOf(batchId, leafIndex);
    }

    /// @inheritdoc IVerdicts
    function resultOf(BatchId batchId)
        external
        view
        returns (
            uint256 leafCount,
            uint256 accepted,
            uint256 rejected,
            uint256 unavailable,
            bool settled,
            bool isFinal
        )
    {
        return FINALITY.resultOf(batchId);
    }

    /// @inheritdoc IBatches
    function batchIdOf(Header calldata header) external view returns (BatchId) {
        return Ids.batch(address(this), header);
    }

    function _noted(BatchId batchId, uint8 penalised) private view returns (Record memory r) {
        _requireCaller(address(FINALITY));
        r = _records[batchId];
        r.flags = (r.flags & ~(PENALISED_MASK << PENALISED_SHIFT)) | (penalised << PENALISED_SHIFT);
    }

    function _requireCaller(address required) internal view {
        require(msg.sender == required, BatchesUnauthorized(msg.sender));
    }

    function _inState(BatchId batchId, State required) internal view returns (Record memory r) {
        r = _records[batchId];
        require(r.state != State.None, BatchesUnknownBatch(batchId));
        require(r.state == required, BatchesWrongState(batchId, r.state, required));
    }

    function _requireCommittee(BatchId batchId, Record memory r, IStaking.Seat[] calldata seats) internal pure {
        require(SeatsLib.hash(seats) == r.committee, BatchesWrongCommittee(batchId));
    }

    function _termsOf(Record memory r) internal view returns (Terms storage) {
        return _terms[r.terms];
    }

    function _leafCount(Record memory r) internal pure returns (uint256) {
        return uint256(r.lastLeaf) + 1;
    }

    function _mask(Record memory r) internal pure returns (uint256) {
        return Majority.mask(_leafCount(r));
    }

    function _isCalibration(Record memory r) internal pure returns (bool) {
        return r.flags & CALIBRATION_FLAG != 0;
    }

    function _ballotOf(Record memory r, uint256 seat) internal pure returns (uint256) {
        return (r.ballots >> (2 * seat)) & 3;
    }

    function _setBallot(Record memory r, uint256 seat, uint256 ballot) internal pure {
        r.ballots = uint8((r.ballots & ~(3 << (2 * seat))) | (ballot << (2 * seat)));
    }

    /// @dev How many seats have got at least as far as `ballot`.
    function _count(Record memory r, uint256 ballot) internal pure returns (uint256 count) {
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_ballotOf(r, i) >= ballot) ++count;
        }
    }

    /// @dev A revealed vote, in the form of a ballot.
    function _vote(BatchId batchId, Record memory r, uint256 seat)
        internal
        view
        returns (uint256 withheld, uint256 rejected)
    {
        if (r.flags & SIGNED_FLAG != 0) return (_withheld[batchId], _rejected[batchId]);
        if (_ballotOf(r, seat) != DISSENT) return (0, 0);
        Ballot storage ballot = _ballots[batchId][r.round * SEATS + seat];
        return (uint256(ballot.word), ballot.rejects);
    }
}
// slither-disable-end incorrect-equality
