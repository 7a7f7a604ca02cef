// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBatches} from "./interfaces/IBatches.sol";
import {IFinality} from "./interfaces/IFinality.sol";
import {IPayments} from "./interfaces/IPayments.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {Majority} from "./libraries/Majority.sol";
import {Metering} from "./libraries/Metering.sol";
import {SeatsLib} from "./libraries/SeatsLib.sol";
import {BatchId, Header, Ids, OUTCOME, Role} from "./types/Types.sol";

/// @title What follows a settlement: appeals, canaries, and the moment when money is final
/// @dev Documented in `IFinality`.
contract Finality is IFinality, ReentrancyGuardTransient {
    using SafeCast for uint256;

    struct Contracts {
        IBatches batches;
        IStaking staking;
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

    /// @dev What a seat's vote on some leaves costs it.
    struct Debt {
        uint256 fineWei;
        uint256 fault; // for its reputation, millionths
        bool canary; // it accepted one
    }

    /// @dev A result, as three disjoint words.
    struct Words {
        uint256 accepted;
        uint256 rejected;
        uint256 unavailable;
    }

    uint256 public constant SEATS = 3;
    // Two bits a seat, as `Batches` keeps them.
    uint256 private constant REVEALED = 2;
    uint8 private constant UNANIMOUS = 42; // all accepted all: 0b101010
    /// @dev `Staking` burns half of what it takes at least, so for a refund twice as much is taken.
    uint256 private constant SHARED_DIVISOR = 2;

    IBatches private immutable BATCHES;
    IStaking private immutable STAKING;
    IReputation private immutable REPUTATION;
    IPayments private immutable PAYMENTS;
    address private immutable APPEALS;
    address private immutable CANARIES;

    mapping(BatchId batchId => Marks) private _marks;

    constructor(Contracts memory contracts_) {
        require(
            address(contracts_.batches) != address(0) && address(contracts_.staking) != address(0)
                && address(contracts_.reputation) != address(0) && address(contracts_.payments) != address(0)
                && contracts_.appeals != address(0) && contracts_.canaries != address(0),
            FinalityZeroAddress()
        );
        BATCHES = contracts_.batches;
        STAKING = contracts_.staking;
        REPUTATION = contracts_.reputation;
        PAYMENTS = contracts_.payments;
        APPEALS = contracts_.appeals;
        CANARIES = contracts_.canaries;
    }

    // Only Trine's own contracts are called, in loops over three seats or over what the caller gave; what could be
    // reentered is guarded. What is slashed is what there is, so there is nothing to check in what `slash` returns.
    // slither-disable-start calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return
    /// @inheritdoc IFinality
    function finalize(Header[] calldata headers, IStaking.Seat[][] calldata committees) external nonReentrant {
        require(committees.length == headers.length, FinalityWrongNumber(committees.length, headers.length));
        // Empty before the first is loaded.
        // slither-disable-next-line uninitialized-local
        File memory file;
        for (uint256 i = 0; i < headers.length; ++i) {
            _reload(file, Ids.batch(address(BATCHES), headers[i]));
            // Somebody was faster with this one: no reason to fail the others.
            if (file.batch.state == IBatches.State.Final) continue;
            _finalize(file, headers[i], committees[i]);
        }
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
        BATCHES.note(file.id, file.batch.penalised, false);
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
        uint256 judged = marks.concluded;
        bool reopen = !file.batch.reopened && _verdict(file, leafIndex) != verdict;
        marks.concluded |= bit;
        if (verdict == Verdict.Accepted) marks.accepted |= bit;
        if (verdict == Verdict.Rejected) marks.rejected |= bit;
        if (verdict == Verdict.Unavailable) marks.unavailable |= bit;
        _marks[file.id] = marks;
        emit AppealDecided(file.id, leafIndex, verdict);
        bounty = _closeLeaves(file, header, bit, true);
        bounty += _judge(file, header, seats, judged, bit, true);
        BATCHES.note(file.id, file.batch.penalised, reopen);
        if (reopen) emit BatchReopened(file.id, block.timestamp + file.terms.appealWindowSeconds);
    }

    /// @inheritdoc IFinality
    function noteCanaries(Header calldata header, uint256 leaves) external {
        require(msg.sender == CANARIES, FinalityUnauthorized(msg.sender));
        // Later, the node's stake for these leaves may be gone already.
        File memory file = _appealable(header);
        // A leaf whose appeal is over was paid for as an answer. As a canary it would count as fined for one, and fines
        // have a cap: its seats would have nothing to pay for their other lies in the batch.
        uint256 canaries = leaves & Majority.mask(file.batch.leafCount) & ~file.marks.concluded;
        _marks[file.id].canaries = file.marks.canaries | canaries;
        BATCHES.note(file.id, file.batch.penalised, false);
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
        returns (
            uint256 leafCount,
            uint256 accepted,
            uint256 rejected,
            uint256 unavailable,
            bool settled,
            bool isFinal
        )
    {
        File memory file = _load(batchId);
        leafCount = file.batch.leafCount;
        settled = _isSettled(file);
        if (settled) {
            Words memory words = _words(file);
            (accepted, rejected, unavailable) = (words.accepted, words.rejected, words.unavailable);
        }
        isFinal = file.batch.state == IBatches.State.Final;
    }

    /// @dev Closes all leaves but those that were appealed, which are closed.
    function _finalize(File memory file, Header calldata header, IStaking.Seat[] calldata seats) private {
        require(file.batch.state == IBatches.State.Settled, FinalityNotSettled(file.id));
        // A calibration batch has nothing at stake and cannot be appealed.
        uint256 deadline = uint256(file.batch.clock) + file.terms.appealWindowSeconds;
        require(file.batch.calibration || block.timestamp > deadline, FinalityDeadlineNotReached(deadline));
        uint256 open = file.marks.appealed & ~file.marks.concluded;
        require(open == 0, FinalityAppealsOpen(file.id, open));
        _requireCommittee(file, seats);
        file.batch.state = IBatches.State.Final;
        uint256 leaves = Majority.mask(file.batch.leafCount) & ~file.marks.appealed;
        if (!file.batch.calibration) _closeLeaves(file, header, leaves, false);
        // All agree where all accepted all.
        if (file.batch.ballots != UNANIMOUS || file.marks.appealed != 0) {
            _judge(file, header, seats, file.marks.concluded, leaves, false);
        }
        BATCHES.finish(file.id, file.batch.penalised);
        _paySeats(file, header, seats);
    }

    /// @dev Frees the node's stake for leaves that are final, slashes it for those that were rejected or not shown, and
    /// records all. A node that could withhold for less would show its cheats to nobody but committees of its own.
    /// Where an appeal led to it, a part that the client does not get is the bounty.
    function _closeLeaves(File memory file, Header calldata header, uint256 leaves, bool shared)
        private
        returns (uint256 bounty)
    {
        if (leaves == 0) return 0;
        Words memory words = _words(file);
        // The node said beforehand that these are bad, and nobody paid for them: no merit, no fault.
        uint256 judged = leaves & ~file.marks.canaries;
        uint256 failed = (words.rejected | words.unavailable) & judged;
        uint256 failures = Majority.popcount(failed);
        STAKING.unlock(header.node, file.terms.stakePerLeafWei * Majority.popcount(leaves));
        uint256 slashed = 0;
        if (failures > 0) (slashed, bounty) = _slashNode(file, header.node, failures, failed, shared);
        emit LeavesFinalized(
            file.id,
            header.node,
            leaves,
            words.accepted & leaves,
            words.rejected & leaves,
            words.unavailable & leaves,
            slashed
        );
        REPUTATION.record(
            header.node,
            Role.Node,
            header.modelId,
            file.id,
            // At most 256 outcomes.
            uint64(Majority.popcount(words.accepted & judged)) * OUTCOME,
            uint64(failures) * OUTCOME,
            0
        );
    }

    /// @dev Half of a failed leaf's stake is burned at least. Of the other half the client has its refund, and what
    /// that leaves is the bounty if an appeal led to it.
    function _slashNode(File memory file, address node, uint256 failures, uint256 failed, bool shared)
        private
        returns (uint256 slashed, uint256 bounty)
    {
        uint256 amount = file.terms.stakePerLeafWei * failures;
        uint256 refund = uint256(file.terms.refundPerLeafWei) * failures;
        // Twice the refund first: `Parameters` keeps refunds to half of the stake.
        uint256 first = shared ? SHARED_DIVISOR * refund : amount;
        uint256 compensated;
        (slashed, compensated) =
            STAKING.slash(node, first, address(PAYMENTS), refund, BatchId.unwrap(file.id));
        PAYMENTS.fundRefunds(file.id, failed, compensated / failures);
        if (amount > first) {
            uint256 more;
            (more, bounty) = _slashShared(file.id, node, amount - first);
            slashed += more;
        }
    }

    /// @dev Fines every seat for those of `leaves` that it voted on against what is now final, besides what it was
    /// fined for the leaves `judged` before.
    function _judge(
        File memory file,
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 judged,
        uint256 leaves,
        bool shared
    ) private returns (uint256 bounty) {
        for (uint256 i = 0; i < SEATS; ++i) {
            (bool revealed, uint256 accepts, uint256 rejects) = BATCHES.voteOf(file.id, file.batch.round, i);
            if (!revealed) continue;
            Debt memory paid = _debtOf(file, accepts, rejects, judged);
            Debt memory debt = _debtOf(file, accepts, rejects, judged | leaves);
            // Every wrong leaf is a fault; above the cap it costs no more.
            if (debt.fault == paid.fault) continue;
            file.batch.penalised |= uint8(1 << i);
            address verifier = seats[i].verifier;
            uint64 fault = (debt.fault - paid.fault).toUint64();
            REPUTATION.record(verifier, Role.Verifier, header.modelId, file.id, 0, fault, 0);
            debt.fineWei -= paid.fineWei;
            if (debt.fineWei > 0) bounty += _fine(file.id, verifier, debt, shared);
        }
    }

    function _fine(BatchId id, address verifier, Debt memory debt, bool shared) private returns (uint256 bounty) {
        uint256 taken;
        if (shared) (taken, bounty) = _slashShared(id, verifier, debt.fineWei);
        else (taken,) = STAKING.slash(verifier, debt.fineWei, address(0), 0, BatchId.unwrap(id));
        emit WrongVotePenalized(id, verifier, debt.canary, taken, bounty);
    }

    /// @dev As much of it as `Staking` lets others have, half, goes to `Appeals`.
    function _slashShared(BatchId id, address operator, uint256 amount)
        private
        returns (uint256 taken, uint256 bounty)
    {
        return STAKING.slash(operator, amount, APPEALS, amount, BatchId.unwrap(id));
    }

    /// @dev When everything is final: frees the seats that voted and pays each its part of the fee, for the leaves on
    /// which it voted what is final. What nobody earned is burned: nobody gains by another's silence or mistake.
    function _paySeats(File memory file, Header calldata header, IStaking.Seat[] calldata seats) private {
        uint256 leafCount = file.batch.leafCount;
        uint256 fee =
            Metering.fee(leafCount, header.root, file.terms.verifierFeePerLeafWei, file.terms.verifierFeePerTokenWei);
        bool allAccepted = file.batch.ballots == UNANIMOUS && file.marks.appealed == 0
            && file.batch.accepted == Majority.mask(leafCount);
        IStaking.Seat[] memory freed = seats;
        uint256[] memory rewards = new uint256[](SEATS);
        IReputation.Work[] memory works = new IReputation.Work[](SEATS);
        uint256 burned = fee;
        uint256 merited = 0;
        for (uint256 i = 0; i < SEATS; ++i) {
            if (!_revealed(file, i)) {
                freed[i].locked = 0; // freed and punished when the batch was settled
                continue;
            }
            uint256 agreed = allAccepted ? leafCount : _agreed(file, i);
            if (agreed == 0) continue;
            unchecked {
                // A fee has less than 100 bits, and at most all of it is paid.
                rewards[i] = fee * agreed / (SEATS * leafCount);
                burned -= rewards[i];
                uint64 merit = uint64(OUTCOME * agreed / leafCount);
                works[merited++] = IReputation.Work(seats[i].verifier, Role.Verifier, merit, 0, 0);
            }
        }
        STAKING.paySeats(freed, rewards, BatchId.unwrap(file.id));
        if (burned > 0) STAKING.burnFees(burned);
        if (merited == 0) return;
        // Fewer than there is room for.
        // slither-disable-start assembly
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            mstore(works, merited)
        }
        // slither-disable-end assembly
        REPUTATION.recordMany(header.modelId, file.id, works);
    }

    /// @dev On how many leaves a seat voted what is final and conclusive.
    function _agreed(File memory file, uint256 seat) private view returns (uint256) {
        Words memory words = _words(file);
        (, uint256 accepts, uint256 rejects) = BATCHES.voteOf(file.id, file.batch.round, seat);
        // Both bits say that nothing was shown, which is never what is conclusive.
        uint256 right = (accepts & words.accepted) | (rejects & words.rejected);
        return Majority.popcount(right & ~(accepts & rejects));
    }
    // slither-disable-end calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return

    /// @dev Of a vote on `judged` leaves. A leaf whose verdict an appeal turned costs more than dissent from one that
    /// stood, and so does a canary.
    function _debtOf(File memory file, uint256 accepts, uint256 rejects, uint256 judged)
        private
        pure
        returns (Debt memory debt)
    {
        Words memory words = _words(file);
        Marks memory marks = file.marks;
        uint256 wrong = (accepts & words.rejected) | (rejects & words.accepted);
        wrong &= judged & ~(accepts & rejects);
        if (wrong == 0) return debt;
        uint256 turned = (marks.accepted & ~file.batch.accepted) | (marks.rejected & ~file.batch.rejected);
        uint256 canaries = wrong & accepts & marks.canaries;
        uint256 grave = Majority.popcount(wrong & (turned | canaries));
        uint256 light = Majority.popcount(wrong) - grave;
        uint256 fine = grave * file.terms.overturnedFineWei + light * file.terms.dissentFineWei;
        debt.fineWei = Math.min(fine, file.terms.wrongVotePenaltyWei);
        debt.canary = canaries != 0;
        if (debt.canary) debt.fineWei = Math.max(debt.fineWei, file.terms.canaryPenaltyWei);
        debt.fault = grave * OUTCOME + Math.ceilDiv(light * OUTCOME, file.batch.leafCount);
    }

    function _revealed(File memory file, uint256 seat) private pure returns (bool) {
        return (file.batch.ballots >> (2 * seat)) & 3 >= REVEALED;
    }

    function _appealable(Header calldata header) private view returns (File memory file) {
        file = _fileOf(header);
        require(file.batch.state == IBatches.State.Settled, FinalityNotSettled(file.id));
        require(!file.batch.calibration, FinalityNotForCalibration(file.id));
        uint256 deadline = uint256(file.batch.clock) + file.terms.appealWindowSeconds;
        require(block.timestamp <= deadline, FinalityDeadlinePassed(deadline));
    }

    function _requireCommittee(File memory file, IStaking.Seat[] calldata seats) private pure {
        require(SeatsLib.hash(seats) == file.batch.committee, FinalityWrongCommittee(file.id));
    }

    function _fileOf(Header calldata header) private view returns (File memory) {
        return _load(Ids.batch(address(BATCHES), header));
    }

    function _load(BatchId batchId) private view returns (File memory file) {
        _reload(file, batchId);
    }

    /// @dev Into a file that may hold another batch, whose terms are kept if they are the same.
    function _reload(File memory file, BatchId batchId) private view {
        uint8 terms = file.batch.terms;
        file.id = batchId;
        // slither-disable-start calls-loop
        file.batch = BATCHES.batchOf(batchId);
        if (file.batch.terms != terms) file.terms = BATCHES.termsOf(file.batch.terms);
        // slither-disable-end calls-loop
        file.marks = file.batch.marked ? _marks[batchId] : Marks(0, 0, 0, 0, 0, 0);
    }

    function _isSettled(File memory file) private pure returns (bool) {
        return file.batch.state == IBatches.State.Settled || file.batch.state == IBatches.State.Final;
    }

    /// @dev The settled words with what appeals have changed.
    function _words(File memory file) private pure returns (Words memory words) {
        Marks memory marks = file.marks;
        words.accepted = (file.batch.accepted & ~marks.concluded) | marks.accepted;
        words.rejected = (file.batch.rejected & ~marks.concluded) | marks.rejected;
        words.unavailable = (file.batch.unavailable & ~marks.concluded) | marks.unavailable;
    }

    function _verdict(File memory file, uint256 leafIndex) private pure returns (Verdict) {
        Words memory words = _words(file);
        if ((words.accepted >> leafIndex) & 1 == 1) return Verdict.Accepted;
        if ((words.unavailable >> leafIndex) & 1 == 1) return Verdict.Unavailable;
        return (words.rejected >> leafIndex) & 1 == 1 ? Verdict.Rejected : Verdict.Inconclusive;
    }
}
