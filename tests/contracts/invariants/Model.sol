// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAppeals} from "../../../contracts/interfaces/IAppeals.sol";
import {IBatches} from "../../../contracts/interfaces/IBatches.sol";
import {ICommittees} from "../../../contracts/interfaces/ICommittees.sol";
import {IParameters} from "../../../contracts/interfaces/IParameters.sol";
import {IPayments} from "../../../contracts/interfaces/IPayments.sol";
import {IStaking} from "../../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../../contracts/interfaces/IVerdicts.sol";
import {BatchId, Role} from "../../../contracts/types/Types.sol";
import {AppealWorld} from "../AppealWorld.sol";
import {Check, vm} from "../Vm.sol";

/// @notice What the protocol should have done, reckoned from who did what: the naive way, leaf by leaf, without the
/// contracts' words. And what must hold.
abstract contract Model is AppealWorld {
    uint256 internal constant VERIFIERS = 27;
    uint256 internal constant DELEGATORS = 3;
    uint256 internal constant PAYER_KEY = 0x9A7E4;
    uint256 private constant WORD_BITS = 256;

    /// What receipts follow from.
    struct Answers {
        bytes32 nonce;
        uint256 issued; // seconds
        uint256 leaves;
        bytes32 request; // of a contract, that leaf 0 answers
    }

    struct Batch {
        BatchId id;
        bytes32 root;
        bytes32 canary;
        Answers answers;
        uint256 leaves;
        uint256 canaries; // as committed
        uint256 opened;
        IParameters.Values values;
        IBatches.State state;
        uint256 round;
        uint256 deadline; // to commit
        bool allCommitted;
        uint256[3] ballot; // 0 nothing, 1 committed, 2 revealed
        uint256[3] accepts;
        uint256[3] rejects;
        uint256 settledAt;
        uint256 finalAt;
        uint256 settledAccepted; // never changes again
        uint256 settledRejected;
        uint256 accepted; // with appeals
        uint256 rejected;
        uint256 appealed;
        uint256 concluded;
        bool[3] penalised;
        uint256[3] dissents; // wrong votes by seat, on leaves whose verdict stood
        uint256[3] graver; // on leaves that an appeal turned, and canaries
        bool[3] lured; // accepted a canary
        uint256[3] fined; // wei asked for so far
        bool feeHeld;
        uint256 closedLeaves;
        bool reopened;
        bytes32 closedAs; // hash of the record when it was closed
    }

    struct Case {
        BatchId id;
        uint256 leaf;
        IAppeals.Phase phase;
        uint256 level;
        IVerdicts.Verdict verdict;
        uint256 deadline;
        uint256 resolvedAt;
        uint256 round;
        address[2] appellants;
        IVerdicts.Verdict[2] claims;
        IVerdicts.Verdict[2] outcomes;
        bool[2] heard;
        bool[2] unheard;
        // By level and seat: 0 silent, 1 committed only, 2 and 3 accept, 4 and 5 reject, 6 cannot tell, 7 was shown nothing.
        uint256[15][2] votes;
    }

    /// What random acts must come to for their checks to be worth something.
    enum Corner {
        Expired,
        Redrawn,
        NoQuorum,
        Settled,
        Penalised,
        CanaryAccepted,
        Final,
        Unavailable,
        Reopened,
        AppealedAfresh,
        AppealUnheard,
        Turned,
        HeardTwice,
        Undecided,
        Capped,
        Concluded,
        Refunded,
        Answered,
        AnchoredAgain,
        Opened,
        OpeningRefused,
        ClaimFalse,
        ClaimRight,
        ClaimedAgain,
        AnchoredLate,
        AnswerRefused,
        Broken,
        Examined
    }

    mapping(Corner corner => uint256) public reached;
    mapping(BatchId id => Batch) internal _batches;
    BatchId[] internal _open; // anchored to settled
    BatchId[] internal _void;
    BatchId[] internal _closed; // final
    Case[] internal _cases;
    uint256 internal _nonce;
    bytes32 internal _requestId;
    mapping(bytes32 request => BatchId) internal _answeredBy;
    address[2] internal _payers;

    mapping(address operator => uint256) internal _stake; // active and unbonding
    mapping(address operator => uint256) internal _credit;
    mapping(address operator => uint256) internal _locked;
    mapping(address operator => uint256) internal _busyUntil;
    mapping(address operator => bool) internal _cut; // slashed below what was locked
    mapping(address account => uint256) internal _bounties; // credit with Appeals
    mapping(address payer => uint256) internal _deposits;
    mapping(address account => uint256) internal _given;
    mapping(address payer => uint256) internal _collected;
    mapping(address payer => uint256) internal _asOf;
    mapping(address payer => uint256) internal _gained; // refunds, and parts of what nodes lost that anchored nothing
    uint256 internal _taken; // from stake, by slashes

    uint256 private _supply;
    uint256 private _leastSupply;
    uint256 private _epoch;
    bytes32 private _weights;
    uint256 private _calls;

    /// Of every act: notes what the checks compare with.
    modifier counted() {
        ++_calls;
        _;
        if (token.totalSupply() > _leastSupply) revert Check.IsMore("supply", token.totalSupply(), _leastSupply);
        _leastSupply = token.totalSupply();
        uint256 epoch = committees.currentEpoch();
        if (epoch != _epoch) (_epoch, _weights) = (epoch, _weightsNow());
    }

    constructor() {
        _calibratedWorld(VERIFIERS);
        for (uint256 i = 0; i <= verifiers; ++i) {
            address operator = _operator(i);
            IStaking.Stake memory s = staking.stakeOf(operator);
            _stake[operator] = s.active + s.unbonding;
            _locked[operator] = s.locked;
            _credit[operator] = staking.creditOf(operator);
        }
        for (uint256 i = 0; i < 2; ++i) {
            _payers[i] = vm.addr(PAYER_KEY + i);
            _approve(_payers[i]);
        }
        for (uint256 i = 0; i < DELEGATORS; ++i) {
            _approve(_delegator(i));
        }
        _supply = token.totalSupply();
        _leastSupply = _supply;
        _epoch = committees.currentEpoch();
        _weights = _weightsNow();
    }

    function _values() internal pure override returns (IParameters.Values memory values) {
        values = super._values();
        values.calibrationValiditySeconds = 365 days;
        values.dissentFineWei = 2 ether; // so that some reach the cap
    }

    // Checks

    function stakingHoldsWhatItOwesToTheWei() external view {
        uint256 owed = 0;
        for (uint256 i = 0; i <= verifiers; ++i) {
            owed += _owedTo(_operator(i));
        }
        for (uint256 i = 0; i < _open.length; ++i) {
            owed += _feeHeld(_batches[_open[i]]);
        }
        for (uint256 i = 0; i < _cases.length; ++i) {
            Batch storage b = _batches[_cases[i].id];
            // Once a batch, for its first case.
            bool counted_ = b.state != IBatches.State.Final;
            for (uint256 k = 0; k < i && !counted_; ++k) {
                counted_ = BatchId.unwrap(_cases[k].id) == BatchId.unwrap(b.id);
            }
            if (!counted_) owed += _feeHeld(b);
        }
        Check.eq(token.balanceOf(address(staking)), owed, "Staking's tokens");
    }

    function stakeCreditAndLocksAreAsTheModelSays() external view {
        for (uint256 i = 0; i <= verifiers; ++i) {
            address operator = _operator(i);
            IStaking.Stake memory s = staking.stakeOf(operator);
            Check.eq(s.active + s.unbonding + s.releasing, _stake[operator], "stake");
            Check.eq(s.locked, _locked[operator], "locked");
            Check.eq(staking.creditOf(operator), _credit[operator], "credit");
        }
    }

    function lockedStakeIsThere() external view {
        for (uint256 i = 0; i <= verifiers; ++i) {
            IStaking.Stake memory s = staking.stakeOf(_operator(i));
            Check.atMost(s.locked, s.active + s.unbonding, "locked");
        }
    }

    function lockedStakeCoversOpenLeaves() external view {
        if (_cut[NODE]) return;
        uint256 needed = 0;
        for (uint256 i = 0; i < _open.length; ++i) {
            Batch storage b = _batches[_open[i]];
            needed += b.values.stakePerLeafWei * _popcount(_mask(b.leaves) & ~b.closedLeaves);
        }
        for (uint256 i = 0; i < _cases.length; ++i) {
            Batch storage b = _batches[_cases[i].id];
            if (b.state == IBatches.State.Final) needed += b.values.stakePerLeafWei;
        }
        Check.atMost(needed, staking.stakeOf(NODE).locked, "stake of leaves that are not closed");
    }

    function sharesAreWorthNoMoreThanTheirPools() external view {
        for (uint256 i = 0; i <= verifiers; ++i) {
            address operator = _operator(i);
            (uint256 active,) = staking.delegationOf(operator, operator);
            (, uint256 unbonding) = staking.ticketOf(operator, operator);
            for (uint256 k = 0; k < DELEGATORS; ++k) {
                (uint256 amount,) = staking.delegationOf(operator, _delegator(k));
                active += amount;
                (, amount) = staking.ticketOf(operator, _delegator(k));
                unbonding += amount;
            }
            IStaking.Stake memory s = staking.stakeOf(operator);
            Check.atMost(active, s.active, "active");
            Check.atMost(unbonding, s.unbonding, "unbonding");
            Check.atMost(s.own, s.active, "own");
        }
    }

    function paymentsHoldAtLeastWhatTheyOwe() external view {
        Check.atMost(payments.totalOwed(), token.balanceOf(address(payments)), "owed by Payments");
    }

    function depositsAreAsTheModelSays() external view {
        for (uint256 i = 0; i < 2; ++i) {
            IPayments.Account memory account = payments.accountOf(_payers[i], NODE);
            Check.eq(account.balance, _deposits[_payers[i]], "deposit");
            Check.eq(account.collected, _collected[_payers[i]], "collected");
            Check.eq(account.asOf, _asOf[_payers[i]], "acknowledged");
        }
    }

    function appealsHoldBondsAndCreditsToTheWei() external view {
        uint256 owed = _bounties[NODE];
        for (uint256 i = 0; i < DELEGATORS; ++i) {
            owed += _bounties[_delegator(i)];
            Check.eq(appeals.creditOf(_delegator(i)), _bounties[_delegator(i)], "credit");
        }
        for (uint256 i = 0; i < _cases.length; ++i) {
            uint256 seats = _cases[i].level == 1 ? 7 : 7 + 15;
            owed += seats * _batches[_cases[i].id].values.appealBondPerSeatWei;
        }
        Check.eq(token.balanceOf(address(appeals)), owed, "bonds and credits");
    }

    function requestsHoldWhatTheyOweToTheWei() external view {
        uint256 owed = requests.creditOf(_payers[0]) + requests.creditOf(_payers[1]);
        if (_requestId != 0) owed += requests.requestOf(_requestId).escrow;
        Check.eq(requests.totalOwed(), owed, "escrows and credits");
        Check.eq(token.balanceOf(address(requests)), owed, "Requests' tokens");
    }

    /// All accounts together: what they hold, and what is held for them, is what they were given less what was burned.
    function nobodyHasMoreThanCameIn() external view {
        for (uint256 i = 0; i < 2; ++i) {
            // Payers earn nothing: they get back what they paid in, or less.
            uint256 has = token.balanceOf(_payers[i]) + _deposits[_payers[i]] + requests.creditOf(_payers[i]);
            Check.atMost(has, _given[_payers[i]] + _gained[_payers[i]], "a payer's");
        }
        Check.atMost(token.totalSupply(), _supply, "all");
    }

    /// Of stake that is taken at least half is burned: nobody gets more than half of it back by being judged.
    function halfOfWhatIsTakenIsBurned() external view {
        Check.atMost(_taken, 2 * (_supply - token.totalSupply()), "taken");
    }

    function votesAreThoseThatWereCast() external view {
        Batch storage b = _any();
        if (b.state != IBatches.State.Settled && b.state != IBatches.State.Final) return;
        for (uint256 i = 0; i < 3; ++i) {
            (bool revealed, uint256 accepts, uint256 rejects) = batches.voteOf(b.id, b.round, i);
            Check.yes(revealed == (b.ballot[i] == 2), "revealed");
            if (!revealed) continue;
            Check.eq(accepts, b.accepts[i], "accepts");
            Check.eq(rejects, b.rejects[i], "rejects");
            Check.eq((batches.batchOf(b.id).penalised >> i) & 1, b.penalised[i] ? 1 : 0, "penalised");
        }
    }

    function verdictsChangeByAppealsOnly() external view {
        Batch storage b = _any();
        IBatches.Batch memory batch = batches.batchOf(b.id);
        Check.eq(uint256(batch.state), uint256(b.state), "state");
        (, uint256 accepted, uint256 rejected, uint256 unseen, bool settled, bool isFinal) = finality.resultOf(b.id);
        Check.yes(settled == (b.state == IBatches.State.Settled || b.state == IBatches.State.Final), "settled");
        // The model's words, like votes, have both bits of what is unavailable.
        Check.eq(accepted | unseen, b.accepted, "accepted");
        Check.eq(rejected | unseen, b.rejected, "rejected");
        Check.eq((accepted & rejected) | (accepted & unseen) | (rejected & unseen), 0, "one thing of a leaf");
        Check.eq((accepted | rejected | unseen) & ~_mask(b.leaves), 0, "leaves of the batch");
        Check.yes(isFinal == (b.state == IBatches.State.Final), "final");
        if (!settled) return;
        Check.eq(batch.accepted | batch.unavailable, b.settledAccepted, "as settled");
        Check.eq(batch.rejected | batch.unavailable, b.settledRejected, "as settled");
    }

    function closedBatchesDoNotChange() external view {
        if (_closed.length > 0) _unchanged(_batches[_closed[_calls % _closed.length]]);
        if (_void.length > 0) _unchanged(_batches[_void[_calls % _void.length]]);
    }

    function scoresAreWithinBounds() external view {
        Check.atMost(reputation.scoreBps(NODE, Role.Node, model), 10_000, "score");
        address verifier = _verifier(_calls % verifiers);
        Check.atMost(reputation.scoreBps(verifier, Role.Verifier, model), 10_000, "score");
    }

    function weightsOfAnEpochAreFrozen() external view {
        Check.eq(committees.currentEpoch(), _epoch, "epoch");
        Check.eq(_weightsNow(), _weights, "weights within an epoch");
    }

    /// Who has no stake of its own any more weighs nothing from the next epoch on, whoever calls what.
    function weightIsStakeThatIsThere() external view {
        ICommittees.Row[] memory rows = committees.poolOf(model, true, committees.currentEpoch() + 1, 0, 64);
        uint256 minimum = calibration.minStakeOf(Role.Verifier);
        for (uint256 i = 0; i < rows.length; ++i) {
            IStaking.Stake memory s = staking.stakeOf(rows[i].verifier);
            Check.atMost(rows[i].weight * 1 ether, s.own < minimum ? 0 : s.active, "weight");
        }
    }

    function supplyOnlyFalls() external view {
        Check.eq(token.totalSupply(), _leastSupply, "supply");
    }

    // What the acts do

    function _stakeAdded(address operator, uint256 amount) internal {
        _stake[operator] += amount;
    }

    function _stakeTaken(address operator, uint256 amount) internal {
        _stake[operator] -= amount;
    }

    function _anchored(Batch storage b, IParameters.Values memory values) internal {
        b.values = values;
        b.state = IBatches.State.Anchored;
        b.round = 0;
        (b.opened, b.closedAs) = (0, 0);
        b.feeHeld = true;
        _locked[NODE] += values.stakePerLeafWei * b.leaves;
        _credit[NODE] -= _fee(b);
    }

    function _modelDrawn(Batch storage b) internal {
        b.state = IBatches.State.Drawn;
        b.deadline = _modelQueued(_seatsOf(b.id), b);
        b.allCommitted = false;
        for (uint256 i = 0; i < 3; ++i) {
            (b.ballot[i], b.accepts[i], b.rejects[i]) = (0, 0, 0);
        }
        _modelSeatsLocked(_seatsOf(b.id));
    }

    function _fee(Batch storage b) internal view returns (uint256) {
        return b.values.verifierFeePerLeafWei * b.leaves + b.values.verifierFeePerTokenWei * _tokensOf(b.root);
    }

    function _tokensOf(bytes32 root) internal pure returns (uint256) {
        return uint256(root) % 2 ** 32;
    }

    /// Every seat's work begins when what it was drawn for before can be done; the busiest sets the deadline.
    function _modelQueued(IStaking.Seat[] memory seats, Batch storage b) internal returns (uint256 deadline) {
        uint256 work = (_tokensOf(b.root) + b.values.checkTokensPerSecond - 1) / b.values.checkTokensPerSecond;
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 from = _busyUntil[seats[i].verifier];
            uint256 until = (from > timestamp ? from : timestamp) + work;
            if (until > timestamp + b.values.maxCheckSeconds) until = timestamp + b.values.maxCheckSeconds;
            _busyUntil[seats[i].verifier] = until;
            if (until + b.values.commitSeconds > deadline) deadline = until + b.values.commitSeconds;
        }
    }

    /// Seats lock what is free of their stake: told by the event, and compared with what is locked then.
    function _modelSeatsLocked(IStaking.Seat[] memory seats) internal {
        for (uint256 i = 0; i < seats.length; ++i) {
            _locked[seats[i].verifier] += seats[i].locked;
        }
    }

    /// Not drawn in time: the fee is burned, and a leaf's stake.
    function _modelExpired(Batch storage b) internal {
        ++reached[Corner.Expired];
        b.state = IBatches.State.Void;
        b.feeHeld = false;
        _unlock(NODE, b.values.stakePerLeafWei * b.leaves);
        _slash(NODE, b.values.stakePerLeafWei);
    }

    function _modelSettled(Batch storage b) internal {
        ++reached[Corner.Settled];
        _modelSilence(b, true);
        b.state = IBatches.State.Settled;
        b.settledAt = timestamp;
        b.reopened = false;
        (b.appealed, b.concluded, b.closedLeaves) = (0, 0, 0);
        delete b.penalised;
        delete b.dissents;
        delete b.graver;
        delete b.lured;
        delete b.fined;
        for (uint256 leaf = 0; leaf < b.leaves; ++leaf) {
            uint256[6] memory said;
            for (uint256 i = 0; i < 3; ++i) {
                if (b.ballot[i] == 2) ++said[uint256(_wordOf(b.accepts[i], b.rejects[i], leaf))];
            }
            if (said[uint256(UNAVAILABLE)] >= 2) ++reached[Corner.Unavailable];
            if (said[uint256(ACCEPTED)] >= 2 || said[uint256(UNAVAILABLE)] >= 2) b.accepted |= 1 << leaf;
            if (said[uint256(REJECTED)] >= 2 || said[uint256(UNAVAILABLE)] >= 2) b.rejected |= 1 << leaf;
        }
        (b.settledAccepted, b.settledRejected) = (b.accepted, b.rejected);
    }

    function _modelRedrawn(Batch storage b, bool couldReveal) internal {
        ++reached[Corner.Redrawn];
        _modelSilence(b, couldReveal);
        IStaking.Seat[] memory seats = _seatsOf(b.id);
        for (uint256 i = 0; i < 3; ++i) {
            if (b.ballot[i] >= (couldReveal ? 2 : 1)) _unlock(seats[i].verifier, seats[i].locked);
        }
        b.state = IBatches.State.Anchored;
        if (++b.round < b.values.maxRounds) return;
        ++reached[Corner.NoQuorum];
        b.state = IBatches.State.Void;
        b.feeHeld = false;
        _unlock(NODE, b.values.stakePerLeafWei * b.leaves);
    }

    /// The time to appeal is over: leaves that were not appealed are closed, seats judged by them, and paid.
    function _modelFinal(Batch storage b) internal {
        ++reached[Corner.Final];
        b.state = IBatches.State.Final;
        b.finalAt = timestamp;
        uint256 leaves = _mask(b.leaves) & ~b.appealed;
        _modelClosed(b, leaves, false);
        _modelJudged(b, leaves, false);
        _modelPaid(b);
    }

    function _modelAppealed(Batch storage b, uint256 leaf, address who, IVerdicts.Verdict claim) internal {
        if (b.reopened) ++reached[Corner.AppealedAfresh];
        b.appealed |= 1 << leaf;
        Case storage c = _cases.push();
        (c.id, c.leaf, c.verdict) = (b.id, leaf, _wordOf(b.accepted, b.rejected, leaf));
        _modelLevel(c, who, claim);
    }

    function _modelLevel(Case storage c, address who, IVerdicts.Verdict claim) internal {
        c.phase = IAppeals.Phase.Open;
        (c.appellants[c.level], c.claims[c.level]) = (who, claim);
        ++c.level;
        c.round = 0;
    }

    function _modelResolved(Case storage c, IVerdicts.Verdict verdict) internal {
        c.phase = IAppeals.Phase.Resolved;
        c.resolvedAt = timestamp;
        c.verdict = verdict;
        c.outcomes[c.level - 1] = verdict;
    }

    /// Counts a committee's votes; the silent pay at once.
    function _modelHeard(Case storage c, IStaking.Seat[] memory seats) internal {
        IParameters.Values memory values = _batches[c.id].values;
        uint256[15] storage votes = c.votes[c.level - 1];
        uint256[8] memory count;
        for (uint256 i = 0; i < seats.length; ++i) {
            ++count[votes[i]];
        }
        uint256 revealed = seats.length - count[0] - count[1];
        bool couldReveal = 2 * (seats.length - count[0]) > seats.length;
        bool heard = 2 * revealed > seats.length;
        for (uint256 i = 0; i < seats.length; ++i) {
            bool silent = votes[i] == 0 || (votes[i] == 1 && couldReveal);
            if (silent || !heard) _unlock(seats[i].verifier, seats[i].locked);
            uint256 penalty = votes[i] == 0 ? values.noCommitPenaltyWei : values.noRevealPenaltyWei;
            if (silent) _slash(seats[i].verifier, penalty);
        }
        if (!heard) {
            c.phase = IAppeals.Phase.Open;
            if (++c.round < values.maxRounds) return;
            c.unheard[c.level - 1] = true;
            ++reached[Corner.AppealUnheard];
            _modelResolved(c, c.verdict);
            return;
        }
        c.heard[c.level - 1] = true;
        if (c.level == 2) ++reached[Corner.HeardTwice];
        if (2 * (count[2] + count[3]) > seats.length) _modelResolved(c, ACCEPTED);
        else if (2 * (count[4] + count[5]) > seats.length) _modelResolved(c, REJECTED);
        else if (2 * count[7] > seats.length && c.verdict != REJECTED) _modelResolved(c, UNAVAILABLE);
        else _modelResolved(c, c.verdict);
    }

    function _modelConcluded(Batch storage b, Case storage c) internal {
        uint256 bit = 1 << c.leaf;
        b.concluded |= bit;
        ++reached[Corner.Concluded];
        if (!b.reopened && c.verdict != _wordOf(b.accepted, b.rejected, c.leaf)) {
            ++reached[Corner.Reopened];
            b.reopened = true;
            b.settledAt = timestamp;
        }
        (b.accepted, b.rejected) = (b.accepted & ~bit, b.rejected & ~bit);
        if (c.verdict == ACCEPTED || c.verdict == UNAVAILABLE) b.accepted |= bit;
        if (c.verdict == REJECTED || c.verdict == UNAVAILABLE) b.rejected |= bit;
        uint256 fines = _modelClosed(b, bit, true);
        fines += _modelJudged(b, bit, true);
        bool decided = _isDecided(c);
        if (!decided) ++reached[Corner.Undecided];
        uint256 bonds = 0;
        uint256 right = 0;
        address winner = address(0);
        for (uint256 i = 0; i < c.level; ++i) {
            uint256 bond = (i == 0 ? 7 : 15) * uint256(b.values.appealBondPerSeatWei);
            bool claimed = c.claims[i] == c.verdict;
            bool right_ = claimed || !decided;
            if (c.verdict == UNAVAILABLE) {
                bool unseen = _before(b, c, i) == UNAVAILABLE;
                claimed = c.claims[i] == REJECTED && !unseen;
                right_ = claimed || (unseen && c.outcomes[i] == UNAVAILABLE && !_mostSawNothing(c, i));
            }
            if (c.claims[i] == ACCEPTED && _mostSawNothing(c, i)) right_ = false;
            if (c.unheard[i] || (c.heard[i] && right_)) _bounties[c.appellants[i]] += bond;
            else bonds += bond;
            if (winner == address(0) && c.heard[i] && claimed && c.outcomes[i] == c.verdict) winner = c.appellants[i];
            if (!c.heard[i] || !decided) continue;
            uint256 votedRight = _modelJuryJudged(b, c, i);
            right += votedRight >> 128;
            fines += votedRight % 2 ** 128;
        }
        _modelShared(b, c, winner, bonds, fines, right, decided);
    }

    function _modelShared(
        Batch storage b,
        Case storage c,
        address winner,
        uint256 bonds,
        uint256 fines,
        uint256 right,
        bool decided
    ) private {
        uint256 fee = b.values.appealFeePerSeatWei;
        bool pays = _shown(b) * b.values.overturnedFineWei <= b.values.wrongVotePenaltyWei;
        bool unseen = pays && _before(b, c, 0) == UNAVAILABLE;
        if (winner != address(0) && unseen && right * fee > bonds + fines) {
            // Nobody was wrong: who shows what had not been shown pays the jury, for so many leaves.
            uint256 missing = right * fee - bonds - fines;
            uint256 most = 7 * uint256(b.values.appealBondPerSeatWei);
            if (missing > most) missing = most;
            _bounties[winner] -= missing;
            bonds += missing;
        }
        if (right * fee > bonds + fines) {
            fee = (bonds + fines) / right;
        }
        for (uint256 i = 0; i < c.level; ++i) {
            if (c.heard[i]) _modelJuryPaid(c, i, fee, decided);
        }
        // Lost bonds are spent first.
        uint256 spent = fee * right;
        (bonds, fines) = spent < bonds ? (bonds - spent, fines) : (uint256(0), bonds + fines - spent);
        if (winner != address(0)) {
            ++reached[Corner.Turned];
            _bounties[winner] += bonds + fines;
        } else if (c.verdict == ACCEPTED) {
            _credit[NODE] += bonds;
        }
    }

    /// Leaves that the batch's seats were not shown, and a jury was.
    function _shown(Batch storage b) private view returns (uint256 count) {
        for (uint256 leaf = 0; leaf < b.leaves; ++leaf) {
            if (_wordOf(b.settledAccepted, b.settledRejected, leaf) != UNAVAILABLE) continue;
            IVerdicts.Verdict verdict = _wordOf(b.accepted, b.rejected, leaf);
            if (verdict == ACCEPTED || verdict == REJECTED) ++count;
        }
    }

    /// A payment's way: to the node's wallet, to its pool, to the protocol.
    function _paidToNode(uint256 wallet, uint256 pool, uint256 paid) internal {
        uint256 toPool = _poolOf(NODE) - pool;
        uint256 gained = token.balanceOf(NODE) - wallet + toPool;
        (uint256 feeBps,,) = payments.protocolFee();
        Check.eq(gained, paid - (paid * feeBps) / 10_000, "paid, less the protocol's fee");
        _stake[NODE] += toPool;
    }

    // Helpers

    /// With what its holders get bit by bit.
    function _poolOf(address operator) internal view returns (uint256) {
        IStaking.Stake memory s = staking.stakeOf(operator);
        return s.active + s.releasing;
    }

    function _drop(Batch storage b) internal {
        b.closedAs = _recordOf(b.id);
        for (uint256 i = 0; i < _open.length; ++i) {
            if (BatchId.unwrap(_open[i]) != BatchId.unwrap(b.id)) continue;
            _open[i] = _open[_open.length - 1];
            _open.pop();
            break;
        }
        if (b.state == IBatches.State.Void) _void.push(b.id);
        else _closed.push(b.id);
    }

    function _dropCase(Case storage c) internal {
        Batch storage b = _batches[c.id];
        // What an appeal changes of the record is who was penalised.
        if (b.state == IBatches.State.Final) b.closedAs = _recordOf(b.id);
        for (uint256 i = 0; i < _cases.length; ++i) {
            if (BatchId.unwrap(_cases[i].id) != BatchId.unwrap(c.id) || _cases[i].leaf != c.leaf) continue;
            _cases[i] = _cases[_cases.length - 1];
            _cases.pop();
            return;
        }
    }

    function _pick(uint256 seed, IBatches.State state) internal view returns (bool found, Batch storage b) {
        for (uint256 i = 0; i < _open.length; ++i) {
            b = _batches[_open[addmod(seed, i, _open.length)]];
            if (b.state == state) return (true, b);
        }
        b = _batches[BatchId.wrap(0)];
    }

    function _pickCase(uint256 seed, IAppeals.Phase phase) internal view returns (bool found, Case storage c) {
        for (uint256 i = 0; i < _cases.length; ++i) {
            c = _cases[addmod(seed, i, _cases.length)];
            if (c.phase == phase) return (true, c);
        }
        assembly ("memory-safe") {
            c.slot := 0
        }
    }

    function _operator(uint256 who) internal view returns (address) {
        uint256 index = who % (verifiers + 1);
        return index == verifiers ? NODE : _verifier(index);
    }

    function _delegator(uint256 who) internal pure returns (address) {
        return address(uint160(0xDE00 + who % DELEGATORS));
    }

    function _payer(uint256 who) internal view returns (address) {
        return _payers[who % 2];
    }

    function _give(address account, uint256 amount) internal {
        require(token.transfer(account, amount));
        _given[account] += amount;
    }

    function _claimAgainst(IVerdicts.Verdict verdict, bool accept) internal pure returns (IVerdicts.Verdict) {
        if (verdict == ACCEPTED) return REJECTED;
        return verdict == REJECTED || accept ? ACCEPTED : REJECTED;
    }

    /// Both bits, of a vote or of a result of the model's, say that it was not shown.
    function _wordOf(uint256 accepted, uint256 rejected, uint256 leaf) internal pure returns (IVerdicts.Verdict) {
        if (((accepted & rejected) >> leaf) & 1 == 1) return UNAVAILABLE;
        if ((accepted >> leaf) & 1 == 1) return ACCEPTED;
        return (rejected >> leaf) & 1 == 1 ? REJECTED : INCONCLUSIVE;
    }

    /// Of those who voted.
    function _mostSawNothing(Case storage c, uint256 level) internal view returns (bool) {
        uint256 voted = 0;
        uint256 misses = 0;
        for (uint256 i = 0; i < 15; ++i) {
            if (c.votes[level][i] > 1) ++voted;
            if (c.votes[level][i] == 7) ++misses;
        }
        return 2 * misses > voted;
    }

    /// What was decided of a leaf when its appeal came to the level of that index.
    function _before(Batch storage b, Case storage c, uint256 index) internal view returns (IVerdicts.Verdict) {
        return index > 0 ? c.outcomes[index - 1] : _wordOf(b.settledAccepted, b.settledRejected, c.leaf);
    }

    function _meaning(uint256 vote) internal pure returns (IVerdicts.Verdict) {
        return vote < 4 ? ACCEPTED : vote < 6 ? REJECTED : vote == 6 ? INCONCLUSIVE : UNAVAILABLE;
    }

    function _mask(uint256 leaves) internal pure returns (uint256) {
        return leaves == WORD_BITS ? type(uint256).max : (1 << leaves) - 1;
    }

    function _popcount(uint256 word) internal pure returns (uint256 count) {
        for (; word != 0; word &= word - 1) {
            ++count;
        }
    }

    function _modelSilence(Batch storage b, bool couldReveal) private {
        IStaking.Seat[] memory seats = _seatsOf(b.id);
        for (uint256 i = 0; i < 3; ++i) {
            if (b.ballot[i] == 2 || (b.ballot[i] == 1 && !couldReveal)) continue;
            _unlock(seats[i].verifier, seats[i].locked);
            _slash(seats[i].verifier, b.ballot[i] == 1 ? b.values.noRevealPenaltyWei : b.values.noCommitPenaltyWei);
        }
    }

    /// Half of what an appeal takes, less the client's refund, goes to who was right.
    function _modelClosed(Batch storage b, uint256 leaves, bool shared) private returns (uint256 bounty) {
        _unlock(NODE, b.values.stakePerLeafWei * _popcount(leaves));
        uint256 rejections = _popcount(leaves & b.rejected & ~b.opened);
        if (!shared) {
            _slash(NODE, b.values.stakePerLeafWei * rejections);
            return 0;
        }
        uint256 forTheClient = 2 * uint256(b.values.refundPerLeafWei);
        _slash(NODE, forTheClient * rejections);
        return _slash(NODE, (b.values.stakePerLeafWei - forTheClient) * rejections) / 2;
    }

    /// Every seat that contradicts what is final on `leaves` pays; returns what goes to who was right.
    function _modelJudged(Batch storage b, uint256 leaves, bool shared) private returns (uint256 bounty) {
        IStaking.Seat[] memory seats = _seatsOf(b.id);
        for (uint256 i = 0; i < 3; ++i) {
            if (b.ballot[i] != 2 || !_modelWrongs(b, leaves, i)) continue;
            b.penalised[i] = true;
            ++reached[b.lured[i] ? Corner.CanaryAccepted : Corner.Penalised];
            uint256 due = b.dissents[i] * b.values.dissentFineWei + b.graver[i] * b.values.overturnedFineWei;
            if (due > b.values.wrongVotePenaltyWei) {
                ++reached[Corner.Capped];
                due = b.values.wrongVotePenaltyWei;
            }
            if (b.lured[i] && due < b.values.canaryPenaltyWei) due = b.values.canaryPenaltyWei;
            uint256 taken = _slash(seats[i].verifier, due - b.fined[i]);
            b.fined[i] = due;
            if (shared) bounty += taken / 2;
        }
    }

    /// Counts a seat's wrong votes on `leaves`.
    function _modelWrongs(Batch storage b, uint256 leaves, uint256 i) private returns (bool any) {
        for (uint256 leaf = 0; leaf < b.leaves; ++leaf) {
            if ((leaves >> leaf) & 1 == 0) continue;
            IVerdicts.Verdict verdict = _wordOf(b.accepted, b.rejected, leaf);
            IVerdicts.Verdict vote = _wordOf(b.accepts[i], b.rejects[i], leaf);
            if (!_isWrong(vote, verdict)) continue;
            any = true;
            bool canary = vote == ACCEPTED && (b.opened >> leaf) & 1 == 1;
            if (canary) b.lured[i] = true;
            bool turned = verdict != _wordOf(b.settledAccepted, b.settledRejected, leaf);
            if (canary || turned) ++b.graver[i];
            else ++b.dissents[i];
        }
    }

    function _modelPaid(Batch storage b) private {
        b.feeHeld = false;
        IStaking.Seat[] memory seats = _seatsOf(b.id);
        for (uint256 i = 0; i < 3; ++i) {
            if (b.ballot[i] != 2) continue;
            _unlock(seats[i].verifier, seats[i].locked);
            uint256 right = 0;
            for (uint256 leaf = 0; leaf < b.leaves; ++leaf) {
                IVerdicts.Verdict verdict = _wordOf(b.accepted, b.rejected, leaf);
                if ((verdict == ACCEPTED || verdict == REJECTED) && verdict == _wordOf(b.accepts[i], b.rejects[i], leaf)) ++right;
            }
            if (right > 0) _reward(seats[i].verifier, (_fee(b) * right) / (3 * b.leaves));
        }
    }

    /// A majority of any jury.
    function _isDecided(Case storage c) private view returns (bool) {
        if (c.verdict == UNAVAILABLE) return false;
        for (uint256 level = 0; level < c.level; ++level) {
            if (!c.heard[level]) continue;
            uint256 accepts = 0;
            uint256 rejects = 0;
            uint256 seats = level == 0 ? 7 : 15;
            for (uint256 i = 0; i < seats; ++i) {
                if (c.votes[level][i] < 2) continue;
                if (_meaning(c.votes[level][i]) == ACCEPTED) ++accepts;
                if (_meaning(c.votes[level][i]) == REJECTED) ++rejects;
            }
            if (2 * accepts > seats || 2 * rejects > seats) return true;
        }
        return false;
    }

    /// Who voted wrong pays; how many were right, above 128 bits, and what goes to who was.
    function _modelJuryJudged(Batch storage b, Case storage c, uint256 level) private returns (uint256 sums) {
        IStaking.Seat[] memory seats = _judges(c.id, c.leaf, level + 2)[level + 1];
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 vote = c.votes[level][i];
            if (vote < 2) continue;
            if (_meaning(vote) == c.verdict) sums += 2 ** 128;
            if (!_isWrong(_meaning(vote), c.verdict)) continue;
            _unlock(seats[i].verifier, seats[i].locked);
            sums += _slash(seats[i].verifier, b.values.wrongVotePenaltyWei) / 2;
        }
    }

    function _modelJuryPaid(Case storage c, uint256 level, uint256 fee, bool decided) private {
        IStaking.Seat[] memory seats = _judges(c.id, c.leaf, level + 2)[level + 1];
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 vote = c.votes[level][i];
            if (vote < 2 || (decided && _isWrong(_meaning(vote), c.verdict))) continue;
            _unlock(seats[i].verifier, seats[i].locked);
            if (decided && _meaning(vote) == c.verdict) _reward(seats[i].verifier, fee);
        }
    }

    function _isWrong(IVerdicts.Verdict vote, IVerdicts.Verdict verdict) private pure returns (bool) {
        return (vote == ACCEPTED && verdict == REJECTED) || (vote == REJECTED && verdict == ACCEPTED);
    }

    /// Where commission is kept, or nobody has shares, part or all of a reward is credit.
    function _reward(address operator, uint256 amount) private {
        uint256 kept = staking.creditOf(operator) - _credit[operator];
        // Several rewards at once cannot be told apart: at most this one.
        if (kept > amount) kept = amount;
        _credit[operator] += kept;
        _stake[operator] += amount - kept;
    }

    function _slash(address operator, uint256 amount) internal returns (uint256 taken) {
        // What is not released yet is out of reach.
        uint256 there = _stake[operator] - staking.stakeOf(operator).releasing;
        taken = amount < there ? amount : there;
        _stake[operator] -= taken;
        _taken += taken;
        there -= taken;
        if (_locked[operator] <= there) return taken;
        _locked[operator] = there;
        _cut[operator] = true;
    }

    function _unlock(address operator, uint256 amount) private {
        _locked[operator] -= amount < _locked[operator] ? amount : _locked[operator];
    }

    function _approve(address account) private {
        vm.startPrank(account);
        token.approve(address(staking), type(uint256).max);
        token.approve(address(payments), type(uint256).max);
        token.approve(address(appeals), type(uint256).max);
        token.approve(address(requests), type(uint256).max);
        token.approve(address(inclusion), type(uint256).max);
        vm.stopPrank();
    }

    function _any() private view returns (Batch storage) {
        uint256 all = _open.length + _closed.length;
        if (all == 0) return _batches[BatchId.wrap(0)];
        uint256 index = _calls % all;
        return _batches[index < _open.length ? _open[index] : _closed[index - _open.length]];
    }

    function _unchanged(Batch storage b) private view {
        Check.eq(_recordOf(b.id), b.closedAs, "a closed batch");
    }

    function _recordOf(BatchId id) private view returns (bytes32) {
        return keccak256(abi.encode(batches.batchOf(id)));
    }

    function _feeHeld(Batch storage b) private view returns (uint256) {
        return b.feeHeld ? _fee(b) : 0;
    }

    function _weightsNow() private view returns (bytes32 hash) {
        ICommittees.Row[] memory rows = committees.poolOf(model, true, committees.currentEpoch(), 0, 64);
        for (uint256 i = 0; i < rows.length; ++i) {
            if (rows[i].weight > 0) hash = keccak256(abi.encode(hash, i, rows[i].verifier, rows[i].weight));
        }
    }
}
