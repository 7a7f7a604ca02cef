// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {BatchRecords} from "./BatchRecords.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {Majority} from "./libraries/Majority.sol";
import {BatchId, Header, Ids, Role} from "./types/Types.sol";

/// @title What follows a settlement: appeals, canaries, and the moment when money is final
/// @dev Documented in `IBatches`.
// The rest of the interface is in `Batches`.
// slither-disable-next-line unimplemented-functions
abstract contract BatchFinality is BatchRecords, ReentrancyGuardTransient {
    using SafeCast for uint256;

    /// @dev Half: a verifier must not get its own stake back by appealing against itself.
    uint256 private constant BOUNTY_DIVISOR = 2;

    // Only Trine's own contracts are called, in loops over three seats or over what the caller gave, and only guarded
    // functions get there. What is slashed is what there is, so there is nothing to check in what `slash` returns.
    // slither-disable-start calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return
    /// @inheritdoc IBatches
    function finalize(Header[] calldata headers) external nonReentrant {
        for (uint256 i = 0; i < headers.length; ++i) {
            BatchId batchId = Ids.batch(address(this), headers[i]);
            Record memory r = _finalizable(batchId);
            require(r.flags & CONTESTED_FLAG == 0, BatchesContested(batchId));
            _finalize(batchId, headers[i], r);
        }
    }

    /// @inheritdoc IBatches
    function finalizeContested(Header calldata header, IStaking.Seat[] calldata seats) external nonReentrant {
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _finalizable(batchId);
        _requireCommittee(batchId, r, seats);
        uint256 leaves = _finalize(batchId, header, r);
        _judge(batchId, header, r, seats, leaves, 1);
        _endContest(batchId, header, r, seats);
        _records[batchId] = r;
    }

    /// @inheritdoc IBatches
    function openAppeal(Header calldata header, IStaking.Seat[] calldata seats, uint256 leafIndex)
        external
        returns (Verdict verdict, uint8 terms)
    {
        _requireCaller(APPEALS);
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _inState(batchId, State.Settled);
        _requireCommittee(batchId, r, seats);
        require(!_isCalibration(r), BatchesNotForCalibration(batchId));
        uint256 deadline = uint256(r.clock) + _termsOf(r).appealWindowSeconds;
        require(block.timestamp <= deadline, BatchesDeadlinePassed(deadline));
        require(leafIndex < _leafCount(r), BatchesLeafOutOfRange(leafIndex, _leafCount(r)));
        Marks storage marks = _marks[batchId];
        uint256 bit = 1 << leafIndex;
        require(marks.appealed & bit == 0, BatchesLeafAlreadyAppealed(batchId, leafIndex));

        marks.appealed |= bit;
        r.flags |= MARKED_FLAG;
        _records[batchId] = r;
        emit LeafAppealed(batchId, leafIndex);
        return (_verdict(batchId, r, leafIndex), r.terms);
    }

    /// @inheritdoc IBatches
    function concludeAppeal(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 leafIndex,
        Verdict verdict
    ) external nonReentrant returns (uint256 bounty) {
        _requireCaller(APPEALS);
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _records[batchId];
        _requireCommittee(batchId, r, seats);
        Marks storage marks = _marks[batchId];
        uint256 bit = 1 << leafIndex;
        require((marks.appealed & ~marks.concluded) & bit != 0, BatchesLeafNotUnderAppeal(batchId, leafIndex));

        marks.concluded |= bit;
        if (verdict == Verdict.Accepted) marks.accepted |= bit;
        if (verdict == Verdict.Rejected) marks.rejected |= bit;
        _closeLeaves(batchId, header, r, bit);
        bounty = _judge(batchId, header, r, seats, bit, BOUNTY_DIVISOR);
        _endContest(batchId, header, r, seats);
        _records[batchId] = r;
    }

    /// @inheritdoc IBatches
    function noteCanaries(Header calldata header, uint256 leaves) external {
        _requireCaller(CANARIES);
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _inState(batchId, State.Settled);
        require(!_isCalibration(r), BatchesNotForCalibration(batchId));
        // Later, the node's stake for these leaves may be gone already.
        uint256 deadline = uint256(r.clock) + _termsOf(r).appealWindowSeconds;
        require(block.timestamp <= deadline, BatchesDeadlinePassed(deadline));
        _marks[batchId].canaries |= leaves & _mask(r);
        r.flags |= MARKED_FLAG;
        _records[batchId] = r;
        emit CanariesOpened(batchId, leaves & _mask(r));
    }

    /// @dev Takes a penalty and makes it count in the weights from the next epoch on.
    function _penalize(
        BatchId batchId,
        Header calldata header,
        Record memory r,
        address verifier,
        PenaltyReason reason,
        uint256 bountyDivisor
    ) internal returns (uint256 bounty) {
        Terms storage terms = _termsOf(r);
        uint256 amount = reason == PenaltyReason.NoCommit
            ? terms.noCommitPenaltyWei
            : reason == PenaltyReason.NoReveal
                ? terms.noRevealPenaltyWei
                : reason == PenaltyReason.WrongVote ? terms.wrongVotePenaltyWei : terms.canaryPenaltyWei;
        uint256 taken;
        (taken, bounty) = STAKING.slash(
            verifier, amount, APPEALS, bountyDivisor > 1 ? amount / bountyDivisor : 0, BatchId.unwrap(batchId)
        );
        emit VerifierPenalized(batchId, verifier, r.round, reason, taken);
        bool silent = reason == PenaltyReason.NoCommit || reason == PenaltyReason.NoReveal;
        REPUTATION.record(
            verifier, Role.Verifier, header.modelId, batchId, 0, silent ? 0 : 1, silent ? 1 : 0
        );
        COMMITTEES.refresh(header.modelId, verifier);
    }

    function _finalizable(BatchId batchId) private view returns (Record memory r) {
        r = _inState(batchId, State.Settled);
        uint256 deadline = uint256(r.clock) + _termsOf(r).appealWindowSeconds;
        // A calibration batch has nothing at stake and cannot be appealed.
        require(_isCalibration(r) || block.timestamp > deadline, BatchesDeadlineNotReached(deadline));
    }

    /// @dev Closes all leaves but those that were appealed: concluded ones are closed, open ones will be.
    function _finalize(BatchId batchId, Header calldata header, Record memory r) private returns (uint256 leaves) {
        r.state = State.Final;
        r.clock = block.timestamp.toUint40();
        _records[batchId] = r;
        leaves = _mask(r) & ~_marksOf(batchId, r).appealed;
        if (!_isCalibration(r)) _closeLeaves(batchId, header, r, leaves);
    }

    /// @dev Frees the node's stake for leaves that are final, slashes it for the rejected ones, records both.
    function _closeLeaves(BatchId batchId, Header calldata header, Record memory r, uint256 leaves) private {
        if (leaves == 0) return;
        (uint256 accepted, uint256 rejected) = _words(batchId, r);
        // The node said beforehand that these are bad, and nobody paid for them: no merit, no fault.
        uint256 judged = leaves & ~_marksOf(batchId, r).canaries;
        uint256 rejections = Majority.popcount(rejected & judged);
        uint256 stakePerLeaf = _termsOf(r).stakePerLeafWei;
        STAKING.unlock(header.node, stakePerLeaf * Majority.popcount(leaves));
        uint256 slashed = 0;
        if (rejections > 0) {
            uint256 compensated;
            (slashed, compensated) = STAKING.slash(
                header.node,
                stakePerLeaf * rejections,
                address(PAYMENTS),
                uint256(_termsOf(r).refundPerLeafWei) * rejections,
                BatchId.unwrap(batchId)
            );
            PAYMENTS.fundRefunds(batchId, rejected & judged, compensated / rejections);
            COMMITTEES.refresh(header.modelId, header.node);
        }
        emit LeavesFinalized(batchId, header.node, leaves, accepted & leaves, rejected & leaves, slashed);
        REPUTATION.record(
            header.node,
            Role.Node,
            header.modelId,
            batchId,
            Majority.popcount(accepted & judged).toUint64(),
            rejections.toUint64(),
            0
        );
    }

    /// @dev Penalises, once a batch, every seat whose vote contradicts what is now final on `leaves`.
    function _judge(
        BatchId batchId,
        Header calldata header,
        Record memory r,
        IStaking.Seat[] calldata seats,
        uint256 leaves,
        uint256 bountyDivisor
    ) private returns (uint256 bounty) {
        (uint256 accepted, uint256 rejected) = _words(batchId, r);
        uint256 canaries = _marksOf(batchId, r).canaries;
        for (uint256 i = 0; i < SEATS; ++i) {
            uint8 penalised = uint8(1 << (PENALISED_SHIFT + i));
            if (_ballotOf(r, i) < ASSENT || r.flags & penalised != 0) continue;
            (uint256 withheld, uint256 rejects) = _vote(batchId, r, i);
            uint256 wrongAccepts = _mask(r) & ~withheld & rejected & leaves;
            if (wrongAccepts | (rejects & accepted & leaves) == 0) continue;
            r.flags |= penalised;
            PenaltyReason reason =
                wrongAccepts & canaries != 0 ? PenaltyReason.CanaryAccepted : PenaltyReason.WrongVote;
            bounty += _penalize(batchId, header, r, seats[i].verifier, reason, bountyDivisor);
        }
    }

    /// @dev When everything is final: seats that stood against the majority are freed, and paid if appeals proved
    /// them right on all that they said.
    function _endContest(BatchId batchId, Header calldata header, Record memory r, IStaking.Seat[] calldata seats)
        private
    {
        Marks memory marks = _marksOf(batchId, r);
        if (r.flags & CONTESTED_FLAG == 0 || r.state != State.Final || marks.appealed != marks.concluded) return;
        r.flags &= ~CONTESTED_FLAG;
        (uint256 accepted, uint256 rejected) = _settledWords(batchId, r);
        uint256 share = (uint256(_termsOf(r).verifierFeePerLeafWei) * _leafCount(r)) / SEATS;
        IStaking.Seat[] memory freed = new IStaking.Seat[](1);
        uint256[] memory rewards = new uint256[](1);
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_ballotOf(r, i) < ASSENT) continue;
            (uint256 withheld, uint256 rejects) = _vote(batchId, r, i);
            if (!Majority.contradicts(_mask(r) & ~withheld, rejects, accepted, rejected)) continue;
            bool right = r.flags & (1 << (PENALISED_SHIFT + i)) == 0;
            (freed[0], rewards[0]) = (seats[i], right ? share : 0);
            STAKING.paySeats(freed, rewards);
            if (right) {
                REPUTATION.record(seats[i].verifier, Role.Verifier, header.modelId, batchId, 1, 0, 0);
            } else if (share > 0) {
                STAKING.burnFees(share);
            }
        }
    }
    // slither-disable-end calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return
}
