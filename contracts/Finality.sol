// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBatches} from "./interfaces/IBatches.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IFinality} from "./interfaces/IFinality.sol";
import {IPayments} from "./interfaces/IPayments.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {Majority} from "./libraries/Majority.sol";
import {BatchId, Header, Ids, Role} from "./types/Types.sol";

/// @title What follows a settlement: appeals, canaries, and the moment when money is final
/// @dev Documented in `IFinality`.
contract Finality is IFinality, ReentrancyGuardTransient {
    using SafeCast for uint256;

    struct Contracts {
        IBatches batches;
        IStaking staking;
        ICommittees committees;
        IReputation reputation;
        IPayments payments;
        address appeals;
        address canaries;
    }

    /// @dev A batch with all that judging it takes.
    struct File {
        BatchId id;
        IBatches.Batch batch;
        IBatches.Terms terms;
        Marks marks;
    }

    uint256 public constant SEATS = 3;
    /// @dev Half: a verifier must not get its own stake back by appealing against itself.
    uint256 private constant BOUNTY_DIVISOR = 2;

    IBatches private immutable BATCHES;
    IStaking private immutable STAKING;
    ICommittees private immutable COMMITTEES;
    IReputation private immutable REPUTATION;
    IPayments private immutable PAYMENTS;
    address private immutable APPEALS;
    address private immutable CANARIES;

    mapping(BatchId batchId => Marks) private _marks;

    constructor(Contracts memory contracts_) {
        require(
            address(contracts_.batches) != address(0) && address(contracts_.staking) != address(0)
                && address(contracts_.committees) != address(0) && address(contracts_.reputation) != address(0)
                && address(contracts_.payments) != address(0) && contracts_.appeals != address(0)
                && contracts_.canaries != address(0),
            FinalityZeroAddress()
        );
        BATCHES = contracts_.batches;
        STAKING = contracts_.staking;
        COMMITTEES = contracts_.committees;
        REPUTATION = contracts_.reputation;
        PAYMENTS = contracts_.payments;
        APPEALS = contracts_.appeals;
        CANARIES = contracts_.canaries;
    }

    // Only Trine's own contracts are called, in loops over three seats or over what the caller gave; what could be
    // reentered is guarded. What is slashed is what there is, so there is nothing to check in what `slash` returns.
    // slither-disable-start calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return
    /// @inheritdoc IFinality
    function finalize(Header[] calldata headers) external nonReentrant {
        for (uint256 i = 0; i < headers.length; ++i) {
            File memory file = _finalizable(headers[i]);
            require(!file.batch.contested, FinalityContested(file.id));
            _close(file, headers[i]);
        }
    }

    /// @inheritdoc IFinality
    function finalizeContested(Header calldata header, IStaking.Seat[] calldata seats) external nonReentrant {
        File memory file = _finalizable(header);
        _requireCommittee(file, seats);
        uint256 leaves = _close(file, header);
        _judge(file, header, seats, leaves, 1);
        _endContest(file, header, seats);
        BATCHES.note(file.id, file.batch.contested, file.batch.penalised);
    }

    /// @inheritdoc IFinality
    function openAppeal(Header calldata header, IStaking.Seat[] calldata seats, uint256 leafIndex)
        external
        nonReentrant
        returns (Verdict verdict, uint8 terms)
    {
        require(msg.sender == APPEALS, FinalityUnauthorized(msg.sender));
        File memory file = _appealable(header);
        _requireCommittee(file, seats);
        uint256 leafCount = file.batch.leafCount;
        require(leafIndex < leafCount, FinalityLeafOutOfRange(leafIndex, leafCount));
        uint256 bit = 1 << leafIndex;
        require(file.marks.appealed & bit == 0, FinalityLeafAlreadyAppealed(file.id, leafIndex));
        _marks[file.id].appealed = file.marks.appealed | bit;
        emit LeafAppealed(file.id, leafIndex);
        return (_verdict(file, leafIndex), file.batch.terms);
    }

    /// @inheritdoc IFinality
    function concludeAppeal(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 leafIndex,
        Verdict verdict
    ) external nonReentrant returns (uint256 bounty) {
        require(msg.sender == APPEALS, FinalityUnauthorized(msg.sender));
        File memory file = _fileOf(header);
        _requireCommittee(file, seats);
        Marks memory marks = file.marks;
        uint256 bit = 1 << leafIndex;
        require(marks.appealed & ~marks.concluded & bit != 0, FinalityLeafNotUnderAppeal(file.id, leafIndex));
        marks.concluded |= bit;
        if (verdict == Verdict.Accepted) marks.accepted |= bit;
        if (verdict == Verdict.Rejected) marks.rejected |= bit;
        _marks[file.id] = marks;
        emit AppealDecided(file.id, leafIndex, verdict);
        _closeLeaves(file, header, bit);
        bounty = _judge(file, header, seats, bit, BOUNTY_DIVISOR);
        _endContest(file, header, seats);
        BATCHES.note(file.id, file.batch.contested, file.batch.penalised);
    }

    /// @inheritdoc IFinality
    function noteCanaries(Header calldata header, uint256 leaves) external {
        require(msg.sender == CANARIES, FinalityUnauthorized(msg.sender));
        // Later, the node's stake for these leaves may be gone already.
        File memory file = _appealable(header);
        uint256 canaries = leaves & Majority.mask(file.batch.leafCount);
        _marks[file.id].canaries = file.marks.canaries | canaries;
        emit CanariesOpened(file.id, canaries);
    }

    /// @inheritdoc IFinality
    function marksOf(BatchId batchId) external view returns (Marks memory) {
        return _marks[batchId];
    }

    /// @inheritdoc IVerdicts
    function verdictOf(BatchId batchId, uint256 leafIndex) external view returns (Verdict verdict, bool isFinal) {
        File memory file = _load(batchId);
        IBatches.State state = file.batch.state;
        if (leafIndex >= file.batch.leafCount || state == IBatches.State.Void) return (Verdict.None, false);
        if (!_isSettled(file)) return (Verdict.Pending, false);
        uint256 bit = 1 << leafIndex;
        bool appealed = file.marks.appealed & bit != 0;
        isFinal = appealed ? file.marks.concluded & bit != 0 : state == IBatches.State.Final;
        verdict = _verdict(file, leafIndex);
    }

    /// @inheritdoc IVerdicts
    function resultOf(BatchId batchId)
        external
        view
        returns (uint256 leafCount, uint256 accepted, uint256 rejected, bool settled, bool isFinal)
    {
        File memory file = _load(batchId);
        leafCount = file.batch.leafCount;
        settled = _isSettled(file);
        if (settled) (accepted, rejected) = _words(file);
        isFinal = file.batch.state == IBatches.State.Final && file.marks.appealed == file.marks.concluded;
    }

    /// @dev Closes all leaves but those that were appealed: concluded ones are closed, open ones will be.
    function _close(File memory file, Header calldata header) private returns (uint256 leaves) {
        file.batch.state = IBatches.State.Final;
        BATCHES.finish(file.id, file.batch.contested, file.batch.penalised);
        leaves = Majority.mask(file.batch.leafCount) & ~file.marks.appealed;
        if (!file.batch.calibration) _closeLeaves(file, header, leaves);
    }

    /// @dev Frees the node's stake for leaves that are final, slashes it for the rejected ones, records both.
    function _closeLeaves(File memory file, Header calldata header, uint256 leaves) private {
        if (leaves == 0) return;
        (uint256 accepted, uint256 rejected) = _words(file);
        // The node said beforehand that these are bad, and nobody paid for them: no merit, no fault.
        uint256 judged = leaves & ~file.marks.canaries;
        uint256 rejections = Majority.popcount(rejected & judged);
        uint256 stakePerLeaf = file.terms.stakePerLeafWei;
        STAKING.unlock(header.node, stakePerLeaf * Majority.popcount(leaves));
        uint256 slashed = 0;
        if (rejections > 0) {
            uint256 compensated;
            (slashed, compensated) = STAKING.slash(
                header.node,
                stakePerLeaf * rejections,
                address(PAYMENTS),
                uint256(file.terms.refundPerLeafWei) * rejections,
                BatchId.unwrap(file.id)
            );
            PAYMENTS.fundRefunds(file.id, rejected & judged, compensated / rejections);
            // It counts in the weights from the next epoch on.
            COMMITTEES.refresh(header.modelId, header.node);
        }
        emit LeavesFinalized(file.id, header.node, leaves, accepted & leaves, rejected & leaves, slashed);
        REPUTATION.record(
            header.node,
            Role.Node,
            header.modelId,
            file.id,
            Majority.popcount(accepted & judged).toUint64(),
            rejections.toUint64(),
            0
        );
    }

    /// @dev Penalises, once a batch, every seat whose vote contradicts what is now final on `leaves`.
    function _judge(
        File memory file,
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 leaves,
        uint256 bountyDivisor
    ) private returns (uint256 bounty) {
        (uint256 accepted, uint256 rejected) = _words(file);
        for (uint256 i = 0; i < SEATS; ++i) {
            uint8 seat = uint8(1 << i);
            (bool revealed, uint256 accepts, uint256 rejects) = BATCHES.voteOf(file.id, file.batch.round, i);
            if (!revealed || file.batch.penalised & seat != 0) continue;
            uint256 wrongAccepts = accepts & rejected & leaves;
            if (wrongAccepts | (rejects & accepted & leaves) == 0) continue;
            file.batch.penalised |= seat;
            bool canary = wrongAccepts & file.marks.canaries != 0;
            bool merited = !Majority.contradicts(accepts, rejects, file.batch.accepted, file.batch.rejected);
            // Whoever went with a majority that an appeal overturned was credited for it when the batch was settled.
            REPUTATION.correct(
                seats[i].verifier, Role.Verifier, header.modelId, file.id, merited ? -1 : int64(0), 1, file.batch.clock
            );
            bounty += _penalize(file, header, seats[i].verifier, canary, bountyDivisor);
        }
    }

    function _penalize(
        File memory file,
        Header calldata header,
        address verifier,
        bool canary,
        uint256 bountyDivisor
    ) private returns (uint256 bounty) {
        uint256 amount = canary ? file.terms.canaryPenaltyWei : file.terms.wrongVotePenaltyWei;
        uint256 taken;
        (taken, bounty) = STAKING.slash(
            verifier, amount, APPEALS, bountyDivisor > 1 ? amount / bountyDivisor : 0, BatchId.unwrap(file.id)
        );
        emit WrongVotePenalized(file.id, verifier, canary, taken, bounty);
        COMMITTEES.refresh(header.modelId, verifier);
    }

    /// @dev When everything is final: seats that stood against the majority are freed, and paid if appeals proved
    /// them right on all that they said.
    function _endContest(File memory file, Header calldata header, IStaking.Seat[] calldata seats) private {
        IBatches.Batch memory batch = file.batch;
        bool open = file.marks.appealed != file.marks.concluded;
        if (!batch.contested || batch.state != IBatches.State.Final || open) return;
        batch.contested = false;
        uint256 share = (uint256(file.terms.verifierFeePerLeafWei) * batch.leafCount) / SEATS;
        IStaking.Seat[] memory freed = new IStaking.Seat[](1);
        uint256[] memory rewards = new uint256[](1);
        for (uint256 i = 0; i < SEATS; ++i) {
            (bool revealed, uint256 accepts, uint256 rejects) = BATCHES.voteOf(file.id, batch.round, i);
            if (!revealed || !Majority.contradicts(accepts, rejects, batch.accepted, batch.rejected)) continue;
            bool right = batch.penalised & (1 << i) == 0;
            (freed[0], rewards[0]) = (seats[i], right ? share : 0);
            STAKING.paySeats(freed, rewards);
            if (right) {
                REPUTATION.record(seats[i].verifier, Role.Verifier, header.modelId, file.id, 1, 0, 0);
            } else if (share > 0) {
                STAKING.burnFees(share);
            }
        }
    }
    // slither-disable-end calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return

    function _finalizable(Header calldata header) private view returns (File memory file) {
        file = _fileOf(header);
        require(file.batch.state == IBatches.State.Settled, FinalityNotSettled(file.id));
        uint256 deadline = uint256(file.batch.clock) + file.terms.appealWindowSeconds;
        // A calibration batch has nothing at stake and cannot be appealed.
        require(file.batch.calibration || block.timestamp > deadline, FinalityDeadlineNotReached(deadline));
    }

    function _appealable(Header calldata header) private view returns (File memory file) {
        file = _fileOf(header);
        require(file.batch.state == IBatches.State.Settled, FinalityNotSettled(file.id));
        require(!file.batch.calibration, FinalityNotForCalibration(file.id));
        uint256 deadline = uint256(file.batch.clock) + file.terms.appealWindowSeconds;
        require(block.timestamp <= deadline, FinalityDeadlinePassed(deadline));
    }

    function _requireCommittee(File memory file, IStaking.Seat[] calldata seats) private pure {
        bool shown = uint160(uint256(keccak256(abi.encode(seats)))) == file.batch.committee;
        require(shown, FinalityWrongCommittee(file.id));
    }

    function _fileOf(Header calldata header) private view returns (File memory) {
        return _load(Ids.batch(address(BATCHES), header));
    }

    function _load(BatchId batchId) private view returns (File memory file) {
        file.id = batchId;
        file.batch = BATCHES.batchOf(batchId);
        file.terms = BATCHES.termsOf(file.batch.terms);
        file.marks = _marks[batchId];
    }

    function _isSettled(File memory file) private pure returns (bool) {
        return file.batch.state == IBatches.State.Settled || file.batch.state == IBatches.State.Final;
    }

    /// @dev The settled words with what appeals have changed.
    function _words(File memory file) private pure returns (uint256 accepted, uint256 rejected) {
        Marks memory marks = file.marks;
        accepted = (file.batch.accepted & ~marks.concluded) | marks.accepted;
        rejected = (file.batch.rejected & ~marks.concluded) | marks.rejected;
    }

    function _verdict(File memory file, uint256 leafIndex) private pure returns (Verdict) {
        (uint256 accepted, uint256 rejected) = _words(file);
        if ((accepted >> leafIndex) & 1 == 1) return Verdict.Accepted;
        return (rejected >> leafIndex) & 1 == 1 ? Verdict.Rejected : Verdict.Inconclusive;
    }
}
