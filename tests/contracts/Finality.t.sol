// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IFinality} from "../../contracts/interfaces/IFinality.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {Majority} from "../../contracts/libraries/Majority.sol";
import {BatchId, Header, Role} from "../../contracts/types/Types.sol";
import {Check, Vm, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice Appeals and canaries call `Finality` directly: what they check themselves is tested with them.
abstract contract FinalityWorld is World {
    address internal constant STRANGER = address(0xbad);
    uint256 internal constant FEE = 0.03 ether + 1; // three seats cannot share it without a rest
    uint256 internal constant WINDOW = 600;

    function _values() internal pure virtual override returns (IParameters.Values memory values) {
        values = super._values();
        values.verifierFeePerLeafWei = uint64(FEE);
    }

    function _share(uint256 leaves) internal pure returns (uint256) {
        return (FEE * leaves) / 3;
    }

    function _active(address operator) internal view returns (uint256) {
        return staking.stakeOf(operator).active;
    }

    function _locked(address operator) internal view returns (uint256) {
        return staking.stakeOf(operator).locked;
    }

    function _accepts(address operator, Role role) internal view returns (uint256) {
        return reputation.recordOf(operator, role, model).acceptedMicro;
    }

    function _rejections(address operator, Role role) internal view returns (uint256) {
        return reputation.recordOf(operator, role, model).rejectedMicro;
    }

    function _openAppeal(BatchId id, uint256 leaf) internal returns (IVerdicts.Verdict verdict, uint8 terms) {
        vm.prank(address(appeals));
        return finality.openAppeal(_headerOf(id), _seatsOf(id), leaf);
    }

    function _concludeAppeal(BatchId id, uint256 leaf, IVerdicts.Verdict verdict) internal returns (uint256) {
        vm.prank(address(appeals));
        return finality.concludeAppeal(_headerOf(id), _seatsOf(id), leaf, verdict);
    }

    function _noteCanaries(BatchId id, uint256 leaves) internal {
        vm.prank(address(canaries));
        finality.noteCanaries(_headerOf(id), leaves);
    }

    function _refusedFinalize(bytes memory error_, BatchId id) internal {
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](1);
        (headers[0], seats[0]) = (_headerOf(id), _seatsOf(id));
        vm.expectRevert(error_);
        finality.finalize(headers, seats);
    }

    function _isVerdict(BatchId id, uint256 leaf, IVerdicts.Verdict expected, bool expectedFinal) internal view {
        (IVerdicts.Verdict verdict, bool isFinal) = finality.verdictOf(id, leaf);
        Check.eq(uint256(verdict), uint256(expected), "verdict");
        Check.yes(isFinal == expectedFinal, "final");
    }

    function _isResult(BatchId id, uint256 leaves, uint256 accepted, uint256 rejected, bool settled, bool isFinal)
        internal
        view
    {
        (uint256 leaves_, uint256 accepted_, uint256 rejected_,, bool settled_, bool isFinal_) = finality.resultOf(id);
        Check.eq(leaves_, leaves, "leaves");
        Check.eq(accepted_, accepted, "accepted");
        Check.eq(rejected_, rejected, "rejected");
        Check.yes(settled_ == settled, "settled");
        Check.yes(isFinal_ == isFinal, "final");
    }

    function _goTo(uint256 time) internal {
        timestamp = time;
        vm.warp(time);
    }

    function _holds(uint256 openFees) internal view {
        Check.eq(token.balanceOf(address(staking)), _owedByStaking() + openFees, "tokens held");
    }
}

contract FinalityTest is FinalityWorld {
    function setUp() external {
        _calibratedWorld();
    }

    function testABatchIsFinalOnlyAfterTheWindow() external {
        BatchId id = _settled("root", 2);
        uint256 deadline = batches.batchOf(id).clock + WINDOW;
        _goTo(deadline);
        bytes memory early = abi.encodeWithSelector(IFinality.FinalityDeadlineNotReached.selector, deadline);
        _refusedFinalize(early, id);
        _goTo(deadline + 1);
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](1);
        (headers[0], seats[0]) = (_headerOf(id), _seatsOf(id));
        uint256 before = _accepts(NODE, Role.Node);
        vm.expectEmit(address(finality));
        emit IFinality.LeavesFinalized(id, NODE, 3, 3, 0, 0, 0);
        finality.finalize(headers, seats);
        Check.eq(_locked(NODE), 0, "the node is free");
        Check.eq(_accepts(NODE, Role.Node) - before, 2e6, "two merits");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(_locked(_seatOf(id, i)), 0, "seats are free");
        }
        // What is final is skipped: again nothing moves.
        finality.finalize(headers, seats);
        Check.eq(_accepts(NODE, Role.Node) - before, 2e6, "still two merits");
        _holds(0);
    }

    function testSeveralBatchesBecomeFinalAtOnce() external {
        Header[] memory headers = new Header[](3);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](3);
        BatchId[3] memory ids;
        for (uint256 i = 0; i < 3; ++i) {
            ids[i] = _drawn(_root(bytes32(i + 1) << 64, 0), 1 + i);
            uint256 all = (1 << (1 + i)) - 1;
            if (i == 1) _vote(ids[i], 1, 2, 1, 2, 3, 0);
            else _vote(ids[i], all, 0, all, 0, all, 0);
            (headers[i], seats[i]) = (_headerOf(ids[i]), _seatsOf(ids[i]));
        }
        _wait(WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityWrongNumber.selector, 0, 3));
        finality.finalize(headers, new IStaking.Seat[][](0));
        (seats[0], seats[1]) = (seats[1], seats[0]);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityWrongCommittee.selector, ids[0]));
        finality.finalize(headers, seats);
        (seats[0], seats[1]) = (seats[1], seats[0]);
        finality.finalize(headers, seats);
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(_state(ids[i]), uint256(IBatches.State.Final), "final");
        }
        Check.eq(STAKE - _active(NODE), 1 ether, "one leaf of six was rejected");
        Check.eq(_locked(NODE), 0, "free");
        _isResult(ids[1], 2, 1, 2, true, true);
        _holds(0);
        // The same twice in a call counts once, and one that is final is no reason to fail the others.
        BatchId again = _settled("again", 1);
        (headers[0], seats[0]) = (_headerOf(again), _seatsOf(again));
        (headers[1], seats[1]) = (_headerOf(again), _seatsOf(again));
        _wait(WINDOW + 1);
        uint256 merits = _accepts(NODE, Role.Node);
        finality.finalize(headers, seats);
        Check.eq(_state(again), uint256(IBatches.State.Final), "final");
        Check.yes(_accepts(NODE, Role.Node) <= merits + 1e6, "one merit");
        Check.eq(_locked(NODE), 0, "freed once");
        _holds(0);
    }

    /// Each under the terms that it was anchored under, in one call.
    function testBatchesOfDifferentTermsBecomeFinalTogether() external {
        BatchId old = _drawn("old", 1);
        _vote(old, 0, 1, 0, 1, 0, 1);
        IParameters.Values memory values = _values();
        values.stakePerLeafWei = 10 ether;
        values.refundPerLeafWei = 5 ether;
        parameters.set(values);
        BatchId next = _drawn("new", 1);
        _vote(next, 0, 1, 0, 1, 0, 1);
        Header[] memory headers = new Header[](2);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](2);
        (headers[0], seats[0], headers[1], seats[1]) = (_headerOf(next), _seatsOf(next), _headerOf(old), _seatsOf(old));
        _wait(WINDOW + 1);
        finality.finalize(headers, seats);
        Check.eq(STAKE - _active(NODE), 11 ether, "each its own stake");
        Check.eq(payments.refundOf(old, 0), 0.4 ether, "old refund");
        Check.eq(payments.refundOf(next, 0), 5 ether, "new refund");
        _holds(0);
    }

    function testRejectedLeavesSlashTheNodeAndFundRefunds() external {
        BatchId id = _drawn("root", 4);
        _vote(id, 1, 6, 1, 6, 1, 6);
        uint256 supply = token.totalSupply();
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](1);
        (headers[0], seats[0]) = (_headerOf(id), _seatsOf(id));
        (uint256 accepted, uint256 rejected) = (_accepts(NODE, Role.Node), _rejections(NODE, Role.Node));
        _wait(WINDOW + 1);
        vm.expectEmit(address(finality));
        emit IFinality.LeavesFinalized(id, NODE, 15, 1, 6, 0, 2 ether);
        finality.finalize(headers, seats);
        Check.eq(STAKE - _active(NODE), 2 ether, "two leaves' stake");
        Check.eq(_locked(NODE), 0, "the rest is free");
        Check.eq(token.balanceOf(address(payments)), 0.8 ether, "refunds are funded");
        Check.eq(payments.refundOf(id, 0), 0, "not for the accepted leaf");
        Check.eq(payments.refundOf(id, 1), 0.4 ether, "for a rejected one");
        Check.eq(payments.refundOf(id, 3), 0, "not for the inconclusive leaf");
        Check.eq(supply - token.totalSupply(), 1.2 ether + FEE, "the rest, and the fee of the inconclusive leaf, are burned");
        Check.eq(_accepts(NODE, Role.Node) - accepted, 1e6, "one merit");
        Check.eq(_rejections(NODE, Role.Node) - rejected, 2e6, "two faults");
        _holds(0);
    }

    function testANodeThatHasTooLittleLosesWhatItHas() external {
        BatchId first = _drawn("first", 256);
        uint256 all = type(uint256).max;
        _vote(first, 0, all, 0, all, 0, all);
        vm.prank(address(batches));
        staking.slash(NODE, STAKE - 128 ether, address(0), 0, 0);
        _finalize(first);
        Check.eq(_active(NODE), 0, "all");
        // Or a node that is to be judged would slash itself elsewhere first, and have the rest back as its own client.
        Check.eq(payments.refundOf(first, 7), uint256(64 ether) / 256, "half of what there was");
        Check.eq(token.balanceOf(address(payments)), 64 ether, "the other half is burned");
        _holds(0);
    }

    function testWhoVotedAgainstTheMajorityIsFinedByTheLeaf() external {
        BatchId id = _drawn("root", 3);
        _vote(id, 7, 0, 7, 0, 1, 6);
        address wrong = _seatOf(id, 2);
        (uint256 before, uint256 merits) = (_active(wrong), _accepts(wrong, Role.Verifier));
        uint256 right = _active(_seatOf(id, 0));
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](1);
        (headers[0], seats[0]) = (_headerOf(id), _seatsOf(id));
        _wait(WINDOW + 1);
        vm.expectEmit(address(finality));
        emit IFinality.WrongVotePenalized(id, wrong, false, 0.2 ether, 0);
        finality.finalize(headers, seats);
        Check.eq(before + _share(1) - _active(wrong), 0.2 ether, "for two leaves; the third was right");
        Check.eq(_locked(wrong), 0, "and free");
        Check.eq(_rejections(wrong, Role.Verifier), 666_667, "on record");
        Check.atMost(_accepts(wrong, Role.Verifier), merits + 333_333, "a third of a merit");
        Check.yes(_accepts(wrong, Role.Verifier) + 1000 > merits + 333_333, "but that");
        Check.eq(_active(_seatOf(id, 0)) - right, _share(3), "others earn no more by it");
        Check.eq(batches.batchOf(id).penalised, 4, "noted");
        _holds(0);
    }

    function testFuzz_seatsAreJudgedByTheFinalWordsToTheWei(
        uint8 a0,
        uint8 r0,
        uint8 a1,
        uint8 r1,
        uint8 a2,
        uint8 r2,
        uint8 silent
    ) external {
        (r0, r1, r2) = (r0 & ~a0, r1 & ~a1, r2 & ~a2);
        uint256[2][3] memory votes = [[uint256(a0), r0], [uint256(a1), r1], [uint256(a2), r2]];
        silent = silent % 4; // 3: nobody
        BatchId id = _drawn("fuzz", 8);
        uint256[3] memory before;
        for (uint256 i = 0; i < 3; ++i) {
            before[i] = _active(_seatOf(id, i));
            _commit(id, i, votes[i][0], votes[i][1]);
        }
        for (uint256 i = 0; i < 3; ++i) {
            if (i != silent) _reveal(id, i, votes[i][0], votes[i][1]);
        }
        if (silent < 3) {
            votes[silent] = [uint256(0), 0];
            _goTo(batches.batchOf(id).clock + 61);
            _settle(id);
        }
        uint256 accepted = Majority.ofThree(votes[0][0], votes[1][0], votes[2][0]);
        uint256 rejected = Majority.ofThree(votes[0][1], votes[1][1], votes[2][1]);
        _isResult(id, 8, accepted, rejected, true, false);
        uint256 supply = token.totalSupply();
        _finalize(id);

        uint256 burned = 8 * FEE;
        for (uint256 i = 0; i < 3; ++i) {
            address verifier = _seatOf(id, i);
            uint256 wrong = Majority.popcount((votes[i][0] & rejected) | (votes[i][1] & accepted));
            uint256 paid = (8 * FEE * Majority.popcount((votes[i][0] & accepted) | (votes[i][1] & rejected))) / 24;
            uint256 due = before[i] + paid - wrong * 0.1 ether;
            if (i == silent) due = before[i] - 25 ether;
            burned = burned + wrong * 0.1 ether - paid;
            Check.eq(_active(verifier), due, "paid or penalised");
            Check.eq(_locked(verifier), 0, "free");
        }
        uint256 rejections = Majority.popcount(rejected);
        Check.eq(STAKE - _active(NODE), rejections * 1 ether, "the node loses what was rejected");
        Check.eq(_locked(NODE), 0, "free");
        Check.eq(token.balanceOf(address(payments)), rejections * 0.4 ether, "refunds");
        Check.eq(supply - token.totalSupply(), burned + rejections * 0.6 ether, "the rest is burned");
        _isResult(id, 8, accepted, rejected, true, true);
        _holds(0);
    }

    function testACalibrationIsFinalAtOnceAndCostsTheOperatorNothing() external {
        BatchId id = _answer(_request(NODE, Role.Node), "calibration");
        _vote(id, 1, 2, 1, 2, 3, 0);
        address wrong = _seatOf(id, 2);
        uint256 before = _active(wrong);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityNotForCalibration.selector, id));
        _openAppeal(id, 0);
        _finalizeNow(id);
        Check.eq(_active(NODE), STAKE, "a rejected answer is no offence");
        Check.eq(_rejections(NODE, Role.Node), 0, "and no reputation");
        // It was right on the other leaf: a sixth of the fee.
        Check.eq(before + (2 * FEE) / 6 - _active(wrong), 0.1 ether, "a wrong vote is one");
        _isVerdict(id, 1, IVerdicts.Verdict.Rejected, true);
        _holds(0);
    }

    function testNothingIsFinalThatIsNotSettled() external {
        BatchId id = _anchor("root", 1);
        bytes memory error_ = abi.encodeWithSelector(IFinality.FinalityNotSettled.selector, id);
        _refusedFinalize(error_, id);
        _draw(id);
        _refusedFinalize(error_, id);
        vm.expectRevert(error_);
        _openAppeal(id, 0);
        vm.expectRevert(error_);
        _noteCanaries(id, 1);
    }

    function testVerdictsInEveryState() external {
        BatchId unknown = BatchId.wrap("unknown");
        _isVerdict(unknown, 0, IVerdicts.Verdict.None, false);
        _isResult(unknown, 0, 0, 0, false, false);
        BatchId id = _anchor("root", 3);
        _isVerdict(id, 0, IVerdicts.Verdict.Pending, false);
        _isVerdict(id, 3, IVerdicts.Verdict.None, false);
        _isVerdict(id, 256, IVerdicts.Verdict.None, false);
        _isResult(id, 3, 0, 0, false, false);
        _draw(id);
        _isVerdict(id, 2, IVerdicts.Verdict.Pending, false);
        _vote(id, 1, 2, 1, 2, 1, 2);
        _isVerdict(id, 0, IVerdicts.Verdict.Accepted, false);
        _isVerdict(id, 1, IVerdicts.Verdict.Rejected, false);
        _isVerdict(id, 2, IVerdicts.Verdict.Inconclusive, false);
        _isResult(id, 3, 1, 2, true, false);
        _openAppeal(id, 1);
        _isVerdict(id, 1, IVerdicts.Verdict.Rejected, false);
        _concludeAppeal(id, 1, IVerdicts.Verdict.Accepted);
        _isVerdict(id, 1, IVerdicts.Verdict.Accepted, true);
        _isVerdict(id, 0, IVerdicts.Verdict.Accepted, false);
        _isResult(id, 3, 3, 0, true, false);
        _finalize(id);
        _isVerdict(id, 0, IVerdicts.Verdict.Accepted, true);
        _isResult(id, 3, 3, 0, true, true);
        BatchId hidden = _drawn("hidden", 2);
        _vote(hidden, 3, 1, 3, 1, 3, 0);
        _isVerdict(hidden, 0, IVerdicts.Verdict.Unavailable, false);
        _isResult(hidden, 2, 2, 0, true, false);
        BatchId void = _anchor("void", 1);
        _mine(3 + EPOCH_BLOCKS);
        _expire(void);
        _isVerdict(void, 0, IVerdicts.Verdict.None, false);
        _isResult(void, 1, 0, 0, false, false);
    }

    function testAnAppealThatIsOverturnedSlashesTheNodeAndTheVerifiers() external {
        BatchId id = _settled("root", 2);
        vm.expectEmit(address(finality));
        emit IFinality.LeafAppealed(id, 1);
        (IVerdicts.Verdict verdict, uint8 terms) = _openAppeal(id, 1);
        Check.eq(uint256(verdict), uint256(IVerdicts.Verdict.Accepted), "as settled");
        Check.eq(terms, 1, "terms");
        uint256 before = _active(_seatOf(id, 0));
        uint256 bounty = _concludeAppeal(id, 1, IVerdicts.Verdict.Rejected);
        Check.eq(bounty, 12.1 ether, "half of three fines, and of what the client leaves of the node's stake");
        Check.eq(token.balanceOf(address(appeals)), 12.1 ether, "is with Appeals");
        Check.eq(STAKE - _active(NODE), 1 ether, "the node is slashed at once");
        Check.eq(_locked(NODE), 1 ether, "the other leaf is not final yet");
        Check.eq(payments.refundOf(id, 1), 0.4 ether, "refund");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(_locked(_seatOf(id, i)), 60 ether, "seats stay locked");
        }
        Check.eq(batches.batchOf(id).penalised, 7, "all");
        IFinality.Marks memory marks = finality.marksOf(id);
        Check.eq(marks.appealed, 2, "appealed");
        Check.eq(marks.concluded, 2, "concluded");
        Check.eq(marks.rejected, 2, "rejected");
        Check.eq(marks.accepted | marks.canaries, 0, "nothing else");
        uint256 supply = token.totalSupply();
        _finalize(id);
        Check.eq(before + _share(1) - _active(_seatOf(id, 0)), 8 ether, "wrong once, and right once");
        Check.eq(supply - token.totalSupply(), 2 * FEE - 3 * _share(1), "nobody earned the other half of the fee");
        Check.eq(STAKE - _active(NODE), 1 ether, "the leaf is closed once");
        Check.eq(_locked(NODE), 0, "free");
        _isResult(id, 2, 1, 2, true, true);
        _holds(0);
    }

    function testAnAppealThatClearsTheNodeFreesItsStake() external {
        BatchId id = _drawn("root", 1);
        _vote(id, 0, 1, 0, 1, 1, 0);
        address right = _seatOf(id, 2);
        (uint256 before, uint256 wrongBefore) = (_active(right), _active(_seatOf(id, 0)));
        _openAppeal(id, 0);
        _wait(WINDOW + 1);
        _refusedFinalize(abi.encodeWithSelector(IFinality.FinalityAppealsOpen.selector, id, 1), id);
        Check.eq(_locked(NODE), 1 ether, "stays locked while the appeal is open");
        Check.eq(_active(right), before, "nobody is judged yet");
        Check.eq(_locked(right), 60 ether, "or freed");
        _holds(FEE);
        vm.expectEmit(address(finality));
        emit IFinality.AppealDecided(id, 0, IVerdicts.Verdict.Accepted);
        uint256 bounty = _concludeAppeal(id, 0, IVerdicts.Verdict.Accepted);
        Check.eq(bounty, 8 ether, "half of two fines");
        Check.eq(_active(NODE), STAKE, "not slashed");
        Check.eq(_locked(NODE), 0, "freed");
        uint256 until = timestamp + WINDOW;
        _refusedFinalize(abi.encodeWithSelector(IFinality.FinalityDeadlineNotReached.selector, until), id);
        _finalize(id);
        Check.eq(_active(right) - before, _share(1), "who was right is paid");
        Check.eq(wrongBefore - _active(_seatOf(id, 0)), 8 ether, "who was wrong pays");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(_locked(_seatOf(id, i)), 0, "seats are free");
        }
        Check.eq(_rejections(right, Role.Verifier), 0, "no fault");
        Check.eq(reputation.recordOf(right, Role.Verifier, model).updatedAt, timestamp, "but a merit, its own alone");
        Check.yes(_rejections(_seatOf(id, 0), Role.Verifier) > 999_000, "a fault, which has faded a little");
        _isResult(id, 1, 1, 0, true, true);
        _holds(0);
    }

    function testAnAppealThatIsUpheldPenalisesWhoStoodAgainstIt() external {
        BatchId id = _drawn("root", 1);
        _vote(id, 1, 0, 1, 0, 0, 1);
        _openAppeal(id, 0);
        address wrong = _seatOf(id, 2);
        uint256 before = _active(wrong);
        Check.eq(_concludeAppeal(id, 0, IVerdicts.Verdict.Accepted), 0.05 ether, "half of one fine");
        _finalize(id);
        Check.eq(before - _active(wrong), 0.1 ether, "once");
        _holds(0);
    }

    function testWhereEveryLeafWasAppealedNoneIsClosedTwice() external {
        BatchId id = _settled("root", 1);
        _openAppeal(id, 0);
        _concludeAppeal(id, 0, IVerdicts.Verdict.Accepted);
        _wait(WINDOW + 1);
        vm.recordLogs();
        _finalizeNow(id);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        Check.eq(_count(logs, IFinality.LeavesFinalized.selector), 0, "no leaf is left");
        _holds(0);
    }

    /// Three wrong votes cost as much as there is to pay; the fourth is a fault, and no fine.
    function testAboveTheCapAWrongVoteIsAFaultWithoutAFine() external {
        BatchId id = _settled("root", 4);
        address wrong = _seatOf(id, 0);
        uint256 before = _active(wrong);
        for (uint256 leaf = 0; leaf < 4; ++leaf) {
            _openAppeal(id, leaf);
        }
        for (uint256 leaf = 0; leaf < 4; ++leaf) {
            uint256 faults = _rejections(wrong, Role.Verifier);
            vm.recordLogs();
            _concludeAppeal(id, leaf, IVerdicts.Verdict.Rejected);
            Check.eq(_count(vm.getRecordedLogs(), IFinality.WrongVotePenalized.selector), leaf < 3 ? 3 : 0, "fines");
            Check.eq(_rejections(wrong, Role.Verifier) - faults, 1e6, "a fault");
        }
        Check.eq(before - _active(wrong), 20 ether, "the cap");
        _finalize(id);
        _holds(0);
    }

    /// Where the client's refund is half of the stake, which nobody but it may have.
    function testWhereTheRefundTakesHalfOfTheStakeNothingIsLeftForABounty() external {
        IParameters.Values memory values = _values();
        values.refundPerLeafWei = 0.5 ether;
        (values.dissentFineWei, values.overturnedFineWei) = (1, 7);
        (values.appealFeePerSeatWei, values.wrongVotePenaltyWei) = (1, 7);
        values.noCommitPenaltyWei = 0;
        parameters.set(values);
        BatchId id = _settled("root", 1);
        _openAppeal(id, 0);
        vm.recordLogs();
        Check.eq(_concludeAppeal(id, 0, IVerdicts.Verdict.Rejected), 9, "half of three fines of seven wei");
        Check.eq(_count(vm.getRecordedLogs(), IStaking.Slashed.selector), 4, "the node once, and each seat");
        Check.eq(payments.refundOf(id, 0), 0.5 ether, "refund");
        _finalize(id);
        // And a vote against the others costs as little as one wei.
        id = _drawn("dissent", 1);
        _vote(id, 1, 0, 1, 0, 0, 1);
        uint256 before = _active(_seatOf(id, 2));
        _finalize(id);
        Check.eq(before - _active(_seatOf(id, 2)), 1, "one wei");
        _holds(0);
    }

    function testASeatThatVotedNothingFinalHasNoEntryInItsRecord() external {
        BatchId id = _drawn("root", 2);
        _vote(id, 3, 0, 3, 0, 0, 0);
        address nothing = _seatOf(id, 2);
        uint256 then = reputation.recordOf(nothing, Role.Verifier, model).updatedAt;
        _finalize(id);
        Check.eq(reputation.recordOf(nothing, Role.Verifier, model).updatedAt, then, "nothing to record");
        Check.eq(reputation.recordOf(_seatOf(id, 0), Role.Verifier, model).updatedAt, timestamp, "of the others");
    }

    function testAnInconclusiveEndPenalisesNobody() external {
        BatchId id = _drawn("root", 1);
        _vote(id, 0, 1, 0, 1, 1, 0);
        uint256 before = _owedByStaking();
        _openAppeal(id, 0);
        Check.eq(_concludeAppeal(id, 0, IVerdicts.Verdict.Inconclusive), 0, "no bounty");
        _finalize(id);
        Check.eq(_owedByStaking(), before, "and nobody is paid");
        _isVerdict(id, 0, IVerdicts.Verdict.Inconclusive, true);
        Check.eq(_locked(NODE), 0, "free");
        _holds(0);
    }

    function testABatchWaitsForItsAppealsAndEachLeafIsClosedOnce() external {
        BatchId id = _drawn("root", 4);
        _vote(id, 7, 8, 7, 8, 7, 8);
        _openAppeal(id, 0);
        _openAppeal(id, 3);
        _wait(WINDOW + 1);
        _refusedFinalize(abi.encodeWithSelector(IFinality.FinalityAppealsOpen.selector, id, 9), id);
        _concludeAppeal(id, 3, IVerdicts.Verdict.Rejected);
        Check.eq(_locked(NODE), 3 ether, "three are left");
        Check.eq(STAKE - _active(NODE), 1 ether, "rejected");
        _refusedFinalize(abi.encodeWithSelector(IFinality.FinalityAppealsOpen.selector, id, 1), id);
        Check.eq(_locked(_seatOf(id, 0)), 60 ether, "seats wait for the last");
        _isResult(id, 4, 7, 8, true, false);
        _concludeAppeal(id, 0, IVerdicts.Verdict.Accepted);
        Check.eq(_locked(NODE), 2 ether, "not appealed");
        // Both stood: nothing begins anew.
        Check.yes(!batches.batchOf(id).reopened, "as it was");
        _finalizeNow(id);
        Check.eq(_locked(NODE), 0, "free");
        Check.eq(STAKE - _active(NODE), 1 ether, "once");
        Check.eq(_locked(_seatOf(id, 0)), 0, "free");
        _isResult(id, 4, 7, 8, true, true);
        _holds(0);
    }

    function testTheFirstAppealThatTurnsAVerdictReopensTheBatchOnce() external {
        BatchId id = _settled("root", 4);
        _openAppeal(id, 0);
        _openAppeal(id, 1);
        _wait(WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityDeadlinePassed.selector, timestamp - 1));
        _openAppeal(id, 2);
        vm.expectEmit(address(finality));
        emit IFinality.BatchReopened(id, timestamp + WINDOW);
        _concludeAppeal(id, 0, IVerdicts.Verdict.Rejected);
        Check.eq(batches.batchOf(id).clock, timestamp, "the window begins anew");
        _wait(WINDOW);
        _openAppeal(id, 2);
        _concludeAppeal(id, 1, IVerdicts.Verdict.Unavailable);
        _concludeAppeal(id, 2, IVerdicts.Verdict.Rejected);
        Check.eq(batches.batchOf(id).clock, timestamp - WINDOW, "once");
        _wait(1);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityDeadlinePassed.selector, timestamp - 1));
        _openAppeal(id, 3);
        _finalizeNow(id);
        Check.eq(STAKE - _active(NODE), 3 ether, "two cheats, and one that was not shown");
        _isVerdict(id, 1, IVerdicts.Verdict.Unavailable, true);
        _isVerdict(id, 3, IVerdicts.Verdict.Accepted, true);
        Check.eq(payments.refundOf(id, 1), 0.4 ether, "its client is refunded, too");
        _holds(0);
    }

    function testAppealsThatAreRefused() external {
        BatchId id = _settled("root", 2);
        Header memory header = _headerOf(id);
        IStaking.Seat[] memory seats = _seatsOf(id);
        IStaking.Seat[] memory none = new IStaking.Seat[](0);
        vm.startPrank(address(appeals));
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityWrongCommittee.selector, id));
        finality.openAppeal(header, none, 0);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityLeafOutOfRange.selector, 2, 2));
        finality.openAppeal(header, seats, 2);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityLeafNotUnderAppeal.selector, id, 0));
        finality.concludeAppeal(header, seats, 0, IVerdicts.Verdict.Accepted);
        finality.openAppeal(header, seats, 0);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityLeafAlreadyAppealed.selector, id, 0));
        finality.openAppeal(header, seats, 0);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityWrongCommittee.selector, id));
        finality.concludeAppeal(header, none, 0, IVerdicts.Verdict.Accepted);
        finality.concludeAppeal(header, seats, 0, IVerdicts.Verdict.Accepted);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityLeafNotUnderAppeal.selector, id, 0));
        finality.concludeAppeal(header, seats, 0, IVerdicts.Verdict.Accepted);
        uint256 deadline = batches.batchOf(id).clock + WINDOW;
        vm.stopPrank();
        _goTo(deadline + 1);
        bytes memory late = abi.encodeWithSelector(IFinality.FinalityDeadlinePassed.selector, deadline);
        vm.startPrank(address(appeals));
        vm.expectRevert(late);
        finality.openAppeal(header, seats, 1);
        vm.stopPrank();
        vm.prank(address(canaries));
        vm.expectRevert(late);
        finality.noteCanaries(header, 1);
    }

    function testAnAppealInTheLastSecondIsHeard() external {
        BatchId id = _settled("root", 1);
        _goTo(batches.batchOf(id).clock + WINDOW);
        _openAppeal(id, 0);
    }

    function testOnlyAppealsAndCanariesMark() external {
        BatchId id = _settled("root", 1);
        Header memory header = _headerOf(id);
        IStaking.Seat[] memory seats = _seatsOf(id);
        address[4] memory others = [STRANGER, NODE, address(batches), address(canaries)];
        for (uint256 i = 0; i < 4; ++i) {
            bytes memory error_ = abi.encodeWithSelector(IFinality.FinalityUnauthorized.selector, others[i]);
            vm.startPrank(others[i]);
            vm.expectRevert(error_);
            finality.openAppeal(header, seats, 0);
            vm.expectRevert(error_);
            finality.concludeAppeal(header, seats, 0, IVerdicts.Verdict.Accepted);
            vm.stopPrank();
        }
        address[3] memory noCanaries = [STRANGER, NODE, address(appeals)];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityUnauthorized.selector, noCanaries[i]));
            vm.prank(noCanaries[i]);
            finality.noteCanaries(header, 1);
        }
    }

    function testTheNodeIsNotSlashedForCanariesAndGainsNothingByThem() external {
        BatchId id = _drawn("root", 3);
        _vote(id, 1, 6, 1, 6, 1, 6);
        vm.expectEmit(address(finality));
        emit IFinality.CanariesOpened(id, 2);
        _noteCanaries(id, 2 | 1 << 200);
        Check.eq(finality.marksOf(id).canaries, 2, "only leaves of the batch");
        uint256 accepted = _accepts(NODE, Role.Node);
        _finalize(id);
        Check.eq(STAKE - _active(NODE), 1 ether, "the other rejected leaf only");
        Check.eq(_locked(NODE), 0, "all are free");
        Check.eq(payments.refundOf(id, 1), 0, "nobody paid for a canary");
        Check.eq(payments.refundOf(id, 2), 0.4 ether, "refund");
        Check.eq(_accepts(NODE, Role.Node) - accepted, 1e6, "merit of the third");
        _holds(0);
    }

    function testWhoAcceptsACanaryPaysMore() external {
        BatchId id = _drawn("root", 2);
        _vote(id, 1, 2, 1, 2, 3, 0);
        _noteCanaries(id, 2);
        address wrong = _seatOf(id, 2);
        uint256 before = _active(wrong);
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](1);
        (headers[0], seats[0]) = (_headerOf(id), _seatsOf(id));
        _wait(WINDOW + 1);
        vm.expectEmit(address(finality));
        emit IFinality.WrongVotePenalized(id, wrong, true, 30 ether, 0);
        finality.finalize(headers, seats);
        Check.eq(before + _share(1) - _active(wrong), 30 ether, "a canary's penalty; the other leaf was right");
        _holds(0);
    }

    function testWhoAcceptsACanaryTogetherPaysAfterAnAppeal() external {
        BatchId id = _settled("root", 1);
        _noteCanaries(id, 1);
        _openAppeal(id, 0);
        Check.eq(_concludeAppeal(id, 0, IVerdicts.Verdict.Rejected), 45 ether, "half of three");
        Check.eq(_active(NODE), STAKE, "the node told beforehand");
        _finalize(id);
        _holds(0);
    }

    /// No committee found it bad, so nobody is wrong.
    function testAnAcceptedCanaryThatNobodyAppealsCostsNobody() external {
        BatchId id = _settled("root", 1);
        _noteCanaries(id, 1);
        uint256 before = _accepts(NODE, Role.Node);
        _finalize(id);
        Check.atMost(_accepts(NODE, Role.Node), before, "no merit");
        Check.eq(batches.batchOf(id).penalised, 0, "nobody");
        _holds(0);
    }

    /// Every leaf is closed once, whatever the order of appeals, conclusions and finalization.
    function testFuzz_everyLeafIsUnlockedOnceAndSeatsArePaidOnce(uint256 random) external {
        BatchId other = _settled("other", 5); // its lock must not be touched
        BatchId id = _drawn("fuzz", 8);
        uint256[2][3] memory votes;
        for (uint256 i = 0; i < 3; ++i) {
            votes[i][0] = uint8(random >> (8 * i));
            votes[i][1] = uint8(random >> (32 + 8 * i)) & ~votes[i][0] & 255;
        }
        _vote(id, votes[0][0], votes[0][1], votes[1][0], votes[1][1], votes[2][0], votes[2][1]);
        if (random >> 255 != 0) _noteCanaries(id, uint8(random >> 240));
        uint256[3] memory before = [_active(_seatOf(id, 0)), _active(_seatOf(id, 1)), _active(_seatOf(id, 2))];
        (, uint256 accepted, uint256 rejected,,,) = finality.resultOf(id);
        uint256 open = 0;
        uint256 closed = 0;
        bool done = false;
        for (uint256 step = 0; step < 12; ++step) {
            uint256 draw = uint8(random >> (64 + 8 * step));
            uint256 bit = 1 << (draw % 8);
            if (draw < 96 && !done && (open | closed) & bit == 0) {
                _openAppeal(id, draw % 8);
                open |= bit;
            } else if (draw >= 96 && draw < 224 && open & bit != 0) {
                (accepted, rejected) = _decide(id, draw % 8, (draw >> 3) % 3, accepted, rejected);
                (open, closed) = (open ^ bit, closed | bit);
            } else if (draw >= 240 && !done && open == 0) {
                _finalize(id);
                (done, closed) = (true, 255 ^ open);
            }
            Check.eq(_locked(NODE), (13 - Majority.popcount(closed)) * 1 ether, "locked for what is not closed");
        }
        for (uint256 leaf = 0; leaf < 8; ++leaf) {
            if (open & (1 << leaf) == 0) continue;
            (accepted, rejected) = _decide(id, leaf, (random >> leaf) % 3, accepted, rejected);
        }
        if (!done) _finalize(id);
        Check.eq(_locked(NODE), 5 ether, "the other batch's");
        _isResult(id, 8, accepted, rejected, true, true);
        uint256 canaryBits = finality.marksOf(id).canaries;
        Check.eq(STAKE - _active(NODE), Majority.popcount(rejected & ~canaryBits) * 1 ether, "slashed to the wei");
        for (uint256 i = 0; i < 3; ++i) {
            address verifier = _seatOf(id, i);
            Check.eq(_locked(verifier), 60 ether * _seatsIn(other, verifier), "this seat is free");
            uint256 due = _dueOf(id, before[i], votes[i], accepted, rejected);
            Check.eq(_active(verifier), due, "paid once, fined once for each leaf");
        }
        _finalizeNow(other);
        Check.eq(_locked(NODE), 0, "all free");
        Check.eq(_active(NODE), STAKE - Majority.popcount(rejected & ~canaryBits) * 1 ether, "not slashed again");
        _holds(0);
    }

    /// Whoever is silent is freed when the batch is settled, and not again when it is final.
    function testASilentSeatIsFreedOnce() external {
        BatchId other = _drawn("other", 1);
        BatchId id = _drawn("root", 1);
        // Of five verifiers, one at least sits in both.
        uint256 silent = 0;
        while (_seatsIn(other, _seatOf(id, silent)) == 0) ++silent;
        for (uint256 i = 0; i < 3; ++i) {
            if (i != silent) _commit(id, i, 1, 0);
        }
        _goTo(batches.batchOf(id).clock + 1);
        for (uint256 i = 0; i < 3; ++i) {
            if (i != silent) _reveal(id, i, 1, 0);
        }
        _settle(id);
        Check.eq(_locked(_seatOf(id, silent)), 60 ether, "the seat in the other batch");
        _finalize(id);
        Check.eq(_locked(_seatOf(id, silent)), 60 ether, "is not freed by this one");
        _holds(FEE);
    }

    function testNoCounterpartMayBeMissing() external {
        for (uint256 i = 0; i < 6; ++i) {
            address[6] memory parts;
            for (uint256 k = 0; k < 6; ++k) {
                parts[k] = k == i ? address(0) : address(1);
            }
            bytes memory code = bytes.concat(vm.getCode("Finality"), abi.encode(parts));
            vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityZeroAddress.selector));
            factory.deploy("missing", code);
        }
    }

    function _count(Vm.Log[] memory logs, bytes32 topic) private pure returns (uint256 count) {
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == topic) ++count;
        }
    }

    function _dueOf(BatchId id, uint256 before, uint256[2] memory vote, uint256 accepted, uint256 rejected)
        private
        view
        returns (uint256)
    {
        uint256 right = Majority.popcount((vote[0] & accepted) | (vote[1] & rejected));
        return before + (8 * FEE * right) / 24 - _fineOf(id, vote, accepted, rejected);
    }

    /// What a vote costs in all, whatever the order in which its leaves were judged.
    function _fineOf(BatchId id, uint256[2] memory vote, uint256 accepted, uint256 rejected)
        private
        view
        returns (uint256 fine)
    {
        IBatches.Batch memory batch = batches.batchOf(id);
        uint256 wrong = (vote[0] & rejected) | (vote[1] & accepted);
        uint256 lured = vote[0] & rejected & finality.marksOf(id).canaries;
        uint256 turned = (accepted & ~batch.accepted) | (rejected & ~batch.rejected);
        uint256 grave = Majority.popcount(wrong & (turned | lured));
        fine = grave * 8 ether + (Majority.popcount(wrong) - grave) * 0.1 ether;
        if (fine > 20 ether) fine = 20 ether;
        if (lured != 0) fine = 30 ether;
    }

    function _decide(BatchId id, uint256 leaf, uint256 outcome, uint256 accepted, uint256 rejected)
        private
        returns (uint256, uint256)
    {
        uint256 bit = 1 << leaf;
        (accepted, rejected) = (accepted & ~bit, rejected & ~bit);
        _concludeAppeal(id, leaf, IVerdicts.Verdict(2 + outcome));
        if (outcome == 0) accepted |= bit;
        if (outcome == 1) rejected |= bit;
        return (accepted, rejected);
    }

    function _seatsIn(BatchId id, address verifier) private view returns (uint256 seats) {
        for (uint256 i = 0; i < 3; ++i) {
            if (_seatOf(id, i) == verifier) ++seats;
        }
    }
}
