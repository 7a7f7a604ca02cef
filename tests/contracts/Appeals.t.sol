// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IFinality} from "../../contracts/interfaces/IFinality.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IReputation} from "../../contracts/interfaces/IReputation.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {BatchId, Header, Role} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Check, Vm, vm} from "./Vm.sol";

contract AppealsTest is AppealWorld {
    uint256 private constant COMMIT_SECONDS = 120;
    uint256 private constant REVEAL_SECONDS = 60;
    uint256 private constant WINDOW = 600;
    uint256 private constant SILENT = 0;
    uint256 private constant UNREVEALED = 1;

    /// Three leaves: accepted, rejected, inconclusive; all seats agree.
    BatchId private _mixed;

    function setUp() external {
        _appealWorld();
        _mixed = _drawn("mixed", 3);
        _vote(_mixed, 1, 2, 1, 2, 1, 2);
    }

    // Opening

    function testAnAppealTakesItsBondAndHoldsItsLeafOnly() external {
        uint256 before = token.balanceOf(ALICE);
        _appeal(ALICE, _mixed, 0, REJECTED);
        Check.eq(before - token.balanceOf(ALICE), BOND_1, "seven seats' bond");
        Check.eq(appeals.bondOf(1, 1), BOND_1, "told before");
        Check.eq(appeals.bondOf(2, 1), BOND_2, "and for the next level");
        IAppeals.Case memory case_ = appeals.caseOf(_mixed, 0);
        Check.eq(uint256(case_.phase), uint256(IAppeals.Phase.Open), "open");
        Check.eq(case_.level, 1, "level");
        Check.eq(case_.terms, 1, "the batch's terms");
        Check.eq(case_.clock, blockNumber + 2, "seed block");
        Check.eq(case_.fixedAt, timestamp, "fixed now");
        Check.eq(uint256(case_.verdict), uint256(ACCEPTED), "as decided");
        Check.eq(case_.levels[0].appellant, ALICE, "who");
        Check.eq(uint256(case_.levels[0].claim), uint256(REJECTED), "what");
        Check.eq(finality.marksOf(_mixed).appealed, 1, "one leaf");
        _wait(WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityAppealsOpen.selector, _mixed, 1));
        this.finalizeNow(_mixed);
        _verdictOf(_mixed, 0, ACCEPTED, false);
        _verdictOf(_mixed, 1, REJECTED, false);
        Check.eq(staking.stakeOf(NODE).locked, 3 ether, "all of the batch's stake is locked");
        (,,,,, bool isFinal) = finality.resultOf(_mixed);
        Check.yes(!isFinal, "the batch can still change");
    }

    function finalizeNow(BatchId id) external {
        _finalizeNow(id);
    }

    function testOnlyAnotherClearVerdictCanBeClaimed() external {
        IVerdicts.Verdict[4] memory bad =
            [ACCEPTED, INCONCLUSIVE, IVerdicts.Verdict.Pending, IVerdicts.Verdict.None];
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsBadClaim.selector, bad[i], ACCEPTED));
            _appeal(ALICE, _mixed, 0, bad[i]);
        }
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsBadClaim.selector, REJECTED, REJECTED));
        _appeal(ALICE, _mixed, 1, REJECTED);
        _appeal(ALICE, _mixed, 1, ACCEPTED);
        // What nobody could tell can be claimed either way.
        _appeal(ALICE, _mixed, 2, ACCEPTED);
    }

    function testALeafIsAppealedOnceAtEachLevel() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        bytes memory twice = abi.encodeWithSelector(IFinality.FinalityLeafAlreadyAppealed.selector, _mixed, 0);
        vm.expectRevert(twice);
        _appeal(BOB, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 7, 0);
        vm.expectRevert(twice);
        _appeal(BOB, _mixed, 0, REJECTED);
        _appealAgain(BOB, _mixed, 0, REJECTED);
        _wrongPhase(IAppeals.Phase.Open, IAppeals.Phase.Resolved);
        _appealAgain(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        _voteAppeal(_mixed, 0, 15, 0);
        vm.expectEmit(address(appeals));
        emit IAppeals.AppealResolved(_mixed, 0, 2, ACCEPTED, timestamp); // no time to appeal any more
        _resolve(_mixed, 0);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsLastLevel.selector, _mixed, 0));
        _appealAgain(ALICE, _mixed, 0, REJECTED);
        _concludeNow(_mixed, 0);
        _wrongPhase(IAppeals.Phase.Concluded, IAppeals.Phase.Resolved);
        _appealAgain(ALICE, _mixed, 0, REJECTED);
        vm.expectRevert(twice);
        _appeal(BOB, _mixed, 0, REJECTED);
    }

    function testAnAppealComesWithinTheWindow() external {
        uint256 deadline = timestamp + WINDOW;
        _wait(WINDOW);
        _appeal(ALICE, _mixed, 0, REJECTED);
        _wait(1);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityDeadlinePassed.selector, deadline));
        _appeal(ALICE, _mixed, 1, ACCEPTED);
    }

    function testASecondAppealComesWithinTheWindow() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _appeal(ALICE, _mixed, 1, ACCEPTED);
        _hear(_mixed, 0, 7, 0);
        _hear(_mixed, 1, 0, 7);
        uint256 deadline = timestamp + WINDOW;
        _wait(WINDOW);
        _appealAgain(BOB, _mixed, 0, REJECTED);
        _wait(1);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsDeadlinePassed.selector, deadline));
        _appealAgain(BOB, _mixed, 1, ACCEPTED);
    }

    function testOnlyASettledLeafOfABatchWithStakeCanBeAppealed() external {
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityLeafOutOfRange.selector, 3, 3));
        _appeal(ALICE, _mixed, 3, REJECTED);
        IStaking.Seat[] memory seats = _seatsOf(_mixed);
        seats[0].locked += 1;
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityWrongCommittee.selector, _mixed));
        appeals.appeal(_headerOf(_mixed), seats, 0, REJECTED);
        BatchId id = _drawn("not settled", 1);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityNotSettled.selector, id));
        _appeal(ALICE, id, 0, REJECTED);
        BatchId calibration_ = _answer(_request(_verifier(0), Role.Verifier), "calibration");
        _vote(calibration_, 3, 0, 3, 0, 3, 0);
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityNotForCalibration.selector, calibration_));
        _appeal(ALICE, calibration_, 0, REJECTED);
    }

    function testNobodyElseOpensOrConcludesAnAppeal() external {
        bytes memory refused = abi.encodeWithSelector(IFinality.FinalityUnauthorized.selector, ALICE);
        vm.startPrank(ALICE);
        vm.expectRevert(refused);
        finality.openAppeal(_headerOf(_mixed), _seatsOf(_mixed), 0);
        vm.expectRevert(refused);
        finality.concludeAppeal(_headerOf(_mixed), _seatsOf(_mixed), 0, REJECTED);
        vm.expectRevert(refused);
        finality.noteCanaries(_headerOf(_mixed), 1);
        vm.stopPrank();
        // Not even Appeals concludes what it has not opened.
        vm.prank(address(appeals));
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityLeafNotUnderAppeal.selector, _mixed, 0));
        finality.concludeAppeal(_headerOf(_mixed), _seatsOf(_mixed), 0, REJECTED);
    }

    function testAnAppealWithoutItsBondIsRefused() external {
        address poor = address(0x9007);
        vm.expectPartialRevert(bytes4(keccak256("ERC20InsufficientAllowance(address,uint256,uint256)")));
        _appeal(poor, _mixed, 0, REJECTED);
        Check.eq(finality.marksOf(_mixed).appealed, 0, "and marks nothing");
    }

    function testAConstructorRefusesToMissAContract() external {
        bytes memory code = vm.getCode("Appeals");
        for (uint256 missing = 0; missing < 8; ++missing) {
            address[8] memory contracts;
            for (uint256 i = 0; i < 8; ++i) {
                contracts[i] = i == missing ? address(0) : address(this);
            }
            bytes memory initCode = bytes.concat(code, abi.encode(contracts));
            address created;
            bytes32 reason;
            assembly ("memory-safe") {
                created := create(0, add(initCode, 32), mload(initCode))
                returndatacopy(0, 0, 4)
                reason := mload(0)
            }
            Check.eq(created, address(0), "refused");
            Check.yes(bytes4(reason) == IAppeals.AppealsZeroAddress.selector, "for the missing one");
        }
    }

    // Draw

    function testTheCommitteeIsDrawnFromALaterBlockInTime() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        uint256 seedBlock = appeals.caseOf(_mixed, 0).clock;
        _reach(seedBlock);
        IStaking.Seat[][] memory judges = _judges(_mixed, 0, 1);
        vm.expectRevert(
            abi.encodeWithSelector(IAppeals.AppealsSeedBlockNotReached.selector, seedBlock, seedBlock)
        );
        appeals.draw(_headerOf(_mixed), 0, judges);
        uint256 lastBlock = seedBlock + EPOCH_BLOCKS;
        _reach(lastBlock);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsSeedNotExpired.selector, lastBlock));
        appeals.expire(_mixed, 0);
        _reach(lastBlock + 1);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsSeedExpired.selector, lastBlock));
        appeals.draw(_headerOf(_mixed), 0, judges);
    }

    function testACommitteeIsDrawnInTheLastBlock() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        IAppeals.Case memory case_ = appeals.caseOf(_mixed, 0);
        _reach(case_.clock + 1);
        _showSeed(case_.clock, case_.fixedAt);
        _reach(case_.clock + EPOCH_BLOCKS);
        _drawAppeal(_mixed, 0);
        Check.eq(uint256(appeals.caseOf(_mixed, 0).phase), uint256(IAppeals.Phase.Drawn), "drawn");
    }

    function testNothingIsRevealedOrResolvedInTheLastSecondThatIsSomebodyElses() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        for (uint256 i = 0; i < 6; ++i) {
            _commitAppeal(_mixed, 0, i, REJECTED);
        }
        uint256 deadline = timestamp + COMMIT_SECONDS;
        _wait(COMMIT_SECONDS);
        bytes memory early = abi.encodeWithSelector(IAppeals.AppealsDeadlineNotReached.selector, deadline);
        vm.expectRevert(early);
        _tryReveal(0, REJECTED);
        vm.expectRevert(early);
        _tryResolve();
        _wait(1);
        for (uint256 i = 0; i < 5; ++i) {
            _tryReveal(i, REJECTED);
        }
        deadline += REVEAL_SECONDS;
        _wait(REVEAL_SECONDS - 1);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsDeadlineNotReached.selector, deadline));
        _tryResolve();
        _wait(1);
        _tryResolve();
        Check.eq(uint256(appeals.caseOf(_mixed, 0).verdict), uint256(REJECTED), "decided");
    }

    /// Three of seven were shown nothing, four found it good: it was shown, and whoever said so was right.
    function testWhoCallsGoodWhatMostWereShownKeepsItsBond() external {
        _appeal(ALICE, _mixed, 1, ACCEPTED);
        _drawAppeal(_mixed, 1);
        for (uint256 i = 0; i < 7; ++i) {
            _commitAppeal(_mixed, 1, i, i < 4 ? ACCEPTED : UNAVAILABLE);
        }
        for (uint256 i = 0; i < 7; ++i) {
            _revealAppeal(_mixed, 1, i, i < 4 ? ACCEPTED : UNAVAILABLE);
        }
        _resolve(_mixed, 1);
        _conclude(_mixed, 1);
        _verdictOf(_mixed, 1, ACCEPTED, true);
        Check.eq(appeals.creditOf(ALICE), BOND_1 + 12 ether - 4 ether, "bond and prize, less four fees");
        _money(appeals.creditOf(ALICE));
    }

    /// Half of those who spoke were shown nothing: that is no majority which says that it is hidden.
    function testHalfOfAJuryThatIsShownNothingTakesNobodysBond() external {
        _appeal(ALICE, _mixed, 2, ACCEPTED);
        _drawAppeal(_mixed, 2);
        for (uint256 i = 0; i < 6; ++i) {
            _commitAppeal(_mixed, 2, i, i < 3 ? INCONCLUSIVE : UNAVAILABLE);
        }
        _wait(COMMIT_SECONDS + 1);
        for (uint256 i = 0; i < 6; ++i) {
            _revealAppeal(_mixed, 2, i, i < 3 ? INCONCLUSIVE : UNAVAILABLE);
        }
        _resolve(_mixed, 2);
        _conclude(_mixed, 2);
        _verdictOf(_mixed, 2, INCONCLUSIVE, true);
        Check.eq(appeals.creditOf(ALICE), BOND_1, "back");
    }

    function testOneWeiOfABondIsItsAppellants() external {
        IParameters.Values memory values = _values();
        (values.appealBondPerSeatWei, values.appealFeePerSeatWei) = (1, 0);
        parameters.set(values);
        BatchId id = _settled("cheap", 1);
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 7, 0);
        uint256 credit = staking.creditOf(NODE);
        _conclude(id, 0);
        Check.eq(staking.creditOf(NODE) - credit, 7, "lost to the node that was cleared");
        _money(0);
    }

    function testWhoJudgedBeforeNeverJudgesAgain() external {
        for (uint256 n = 0; n < 4; ++n) {
            BatchId id = _settled(_root(keccak256(abi.encode("jury", n)), 0), 1);
            _appeal(ALICE, id, 0, REJECTED);
            _hear(id, 0, 7, 0);
            IStaking.Seat[] memory first = _jury(id, 0);
            _appealAgain(BOB, id, 0, REJECTED);
            _drawAppeal(id, 0);
            IStaking.Seat[] memory second = _jury(id, 0);
            Check.eq(first.length, 7, "seven");
            Check.eq(second.length, 15, "fifteen");
            _disjoint(first, _seatsOf(id));
            _disjoint(second, _seatsOf(id));
            _disjoint(second, first);
            for (uint256 i = 0; i < 15; ++i) {
                Check.yes(second[i].verifier != NODE, "not the node");
                Check.eq(second[i].locked, 60 ether, "a seat's stake");
                for (uint256 k = 0; k < i; ++k) {
                    Check.yes(second[i].verifier != second[k].verifier, "one seat each");
                }
            }
            _voteAppeal(id, 0, 15, 0);
            _resolve(id, 0);
            _concludeNow(id, 0);
            _nextEpoch();
        }
    }

    function testADrawTakesAllEarlierJudgesAndNoOthers() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _reach(appeals.caseOf(_mixed, 0).clock + 1);
        _drawRefused(new IStaking.Seat[][](0), 0);
        _drawRefused(new IStaking.Seat[][](1), 0);
        _drawRefused(new IStaking.Seat[][](2), 2);
        _hear(_mixed, 0, 7, 0);
        _appealAgain(ALICE, _mixed, 0, REJECTED);
        _reach(appeals.caseOf(_mixed, 0).clock + 1);
        IStaking.Seat[][] memory judges = _judges(_mixed, 0, 2);
        judges[1] = judges[0];
        _drawRefused(judges, 1);
        _drawRefused(_judges(_mixed, 0, 1), 1);
    }

    function testAnAppealThatIsNotDrawnIsLost() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _reach(appeals.caseOf(_mixed, 0).clock + EPOCH_BLOCKS + 1);
        appeals.expire(_mixed, 0);
        IAppeals.Case memory case_ = appeals.caseOf(_mixed, 0);
        Check.eq(uint256(case_.phase), uint256(IAppeals.Phase.Resolved), "resolved");
        Check.eq(uint256(case_.verdict), uint256(ACCEPTED), "as it was");
        uint256 credit = staking.creditOf(NODE);
        _conclude(_mixed, 0);
        Check.eq(appeals.creditOf(ALICE), 0, "the bond is lost");
        Check.eq(staking.creditOf(NODE) - credit, BOND_1, "to the node that was cleared");
        _money(0);
    }

    function testASecondAppealFollowsAnExpiredOne() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _reach(appeals.caseOf(_mixed, 0).clock + EPOCH_BLOCKS + 1);
        appeals.expire(_mixed, 0);
        _appealAgain(BOB, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 0, 15);
        uint256 bounty = 12.1 ether;
        _concludeNow(_mixed, 0);
        // Alice claimed the same, but did not see to it: it is Bob's appeal that led to the verdict.
        Check.eq(appeals.creditOf(ALICE), 0, "expired is lost");
        Check.eq(appeals.creditOf(BOB), BOND_1 + BOND_2 - 15 ether + bounty, "all that is left");
        _money(appeals.creditOf(BOB));
    }

    // Votes

    function testVotesAreCommittedByTheirSeatsInTime() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        IStaking.Seat[] memory seats = _jury(_mixed, 0);
        vm.startPrank(seats[0].verifier);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsCommitmentZero.selector));
        appeals.commit(_mixed, 0, seats, 0, 0);
        bytes memory noSeat = abi.encodeWithSelector(IAppeals.AppealsNoSeat.selector, seats[0].verifier);
        vm.expectRevert(noSeat);
        appeals.commit(_mixed, 0, seats, 1, "commitment");
        vm.expectRevert(noSeat);
        appeals.commit(_mixed, 0, seats, 7, "commitment");
        seats[6].locked = 0;
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsWrongCommittee.selector, _mixed, 1));
        appeals.commit(_mixed, 0, seats, 0, "commitment");
        vm.stopPrank();
        uint256 deadline = timestamp + COMMIT_SECONDS;
        _wait(COMMIT_SECONDS);
        _commitAppeal(_mixed, 0, 0, ACCEPTED);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsAlreadyCommitted.selector, seats[0].verifier));
        _tryCommit(0);
        _wait(1);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsDeadlinePassed.selector, deadline));
        _tryCommit(1);
    }

    function testVotesAreRevealedOnceAsCommitted() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        for (uint256 i = 0; i < 6; ++i) {
            _commitAppeal(_mixed, 0, i, REJECTED);
        }
        uint256 deadline = timestamp + COMMIT_SECONDS;
        // Somebody can still commit, and copy what is told.
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsDeadlineNotReached.selector, deadline));
        _tryReveal(0, REJECTED);
        _wait(COMMIT_SECONDS + 1);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsNotCommitted.selector, _juror(_mixed, 0, 6)));
        _tryReveal(6, REJECTED);
        vm.expectPartialRevert(IAppeals.AppealsCommitmentMismatch.selector);
        _tryReveal(0, ACCEPTED);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsBadVote.selector, IVerdicts.Verdict.Pending));
        _tryReveal(0, IVerdicts.Verdict.Pending);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsBadVote.selector, IVerdicts.Verdict.None));
        _tryReveal(0, IVerdicts.Verdict.None);
        _tryReveal(0, REJECTED);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsAlreadyRevealed.selector, _juror(_mixed, 0, 0)));
        _tryReveal(0, REJECTED);
        _wait(REVEAL_SECONDS - 1);
        _tryReveal(1, REJECTED);
        _wait(1);
        vm.expectRevert(
            abi.encodeWithSelector(IAppeals.AppealsDeadlinePassed.selector, deadline + REVEAL_SECONDS)
        );
        _tryReveal(2, REJECTED);
    }

    function testRevealsBeginWhenAllHaveCommitted() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        for (uint256 i = 0; i < 7; ++i) {
            _commitAppeal(_mixed, 0, i, REJECTED);
        }
        Check.eq(appeals.caseOf(_mixed, 0).clock, timestamp, "at once");
        _tryReveal(3, REJECTED);
        _wait(REVEAL_SECONDS + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IAppeals.AppealsDeadlinePassed.selector, timestamp - 1)
        );
        _tryReveal(4, REJECTED);
    }

    function testOneJurorCannotRevealTheVoteOfAnother() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        IStaking.Seat[] memory seats = _jury(_mixed, 0);
        bytes32 copied = _appealCommitment(_mixed, 0, seats[0].verifier, REJECTED);
        for (uint256 i = 0; i < 7; ++i) {
            vm.prank(seats[i].verifier);
            appeals.commit(_mixed, 0, seats, i, copied);
        }
        _tryReveal(0, REJECTED);
        vm.expectPartialRevert(IAppeals.AppealsCommitmentMismatch.selector);
        _tryReveal(1, REJECTED);
    }

    function testACaseIsResolvedWhenAllHaveSpokenOrTheTimeIsOver() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        for (uint256 i = 0; i < 6; ++i) {
            _commitAppeal(_mixed, 0, i, REJECTED);
        }
        uint256 deadline = timestamp + COMMIT_SECONDS;
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsDeadlineNotReached.selector, deadline));
        _tryResolve();
        _wait(COMMIT_SECONDS + 1);
        for (uint256 i = 0; i < 5; ++i) {
            _tryReveal(i, REJECTED);
        }
        deadline += REVEAL_SECONDS;
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsDeadlineNotReached.selector, deadline));
        _tryResolve();
        IStaking.Seat[] memory seats = _jury(_mixed, 0);
        seats[0].locked = 0;
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsWrongCommittee.selector, _mixed, 1));
        appeals.resolve(_headerOf(_mixed), 0, seats);
        // Who committed has revealed: nothing else can come.
        _tryReveal(5, REJECTED);
        _tryResolve();
        _verdictOf(_mixed, 0, ACCEPTED, false);
        Check.eq(uint256(appeals.caseOf(_mixed, 0).verdict), uint256(REJECTED), "decided");
        deadline = timestamp + WINDOW;
        _wait(WINDOW);
        IStaking.Seat[][] memory all = _judges(_mixed, 0, 2);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsDeadlineNotReached.selector, deadline));
        appeals.conclude(_headerOf(_mixed), 0, all);
        _wait(1);
        _concludeNow(_mixed, 0);
        _verdictOf(_mixed, 0, REJECTED, true);
    }

    function testSilenceIsPenalisedWhenTheCaseIsResolved() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        // Seat 5 commits and does not reveal, seat 6 does neither.
        for (uint256 i = 0; i < 6; ++i) {
            _commitAppeal(_mixed, 0, i, ACCEPTED);
        }
        _wait(COMMIT_SECONDS + 1);
        for (uint256 i = 0; i < 5; ++i) {
            _tryReveal(i, ACCEPTED);
        }
        _wait(REVEAL_SECONDS);
        uint256[7] memory stakes;
        for (uint256 i = 0; i < 7; ++i) {
            stakes[i] = staking.stakeOf(_juror(_mixed, 0, i)).active;
        }
        _tryResolve();
        for (uint256 i = 0; i < 7; ++i) {
            IStaking.Stake memory stake = staking.stakeOf(_juror(_mixed, 0, i));
            Check.eq(stakes[i] - stake.active, i < 5 ? 0 : i == 5 ? 25 ether : 10 ether, "penalty");
            Check.eq(stake.locked, i < 5 ? 60 ether : 0, "who spoke waits for the end");
            uint256 missed = reputation.recordOf(_juror(_mixed, 0, i), Role.Verifier, model).missedMicro;
            Check.eq(missed, i < 5 ? 0 : 1e6, "missed");
        }
        _conclude(_mixed, 0);
        for (uint256 i = 0; i < 7; ++i) {
            IStaking.Stake memory stake = staking.stakeOf(_juror(_mixed, 0, i));
            Check.eq(stake.locked, 0, "free");
            if (i < 5) Check.eq(stake.active - stakes[i], 1 ether, "paid");
            else Check.eq(stakes[i] - stake.active, i == 5 ? 25 ether : 10 ether, "not paid, and not again");
        }
    }

    function testWithTooFewVotesAnotherCommitteeIsDrawn() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        // Three commit: they could not make a majority by revealing, and are not silent.
        for (uint256 i = 0; i < 3; ++i) {
            _commitAppeal(_mixed, 0, i, REJECTED);
        }
        IStaking.Seat[] memory first = _jury(_mixed, 0);
        _wait(COMMIT_SECONDS + 1);
        uint256 spoke = staking.stakeOf(first[0].verifier).active;
        uint256 silent = staking.stakeOf(first[6].verifier).active;
        _tryResolve();
        Check.eq(staking.stakeOf(first[0].verifier).active, spoke, "who committed loses nothing");
        Check.eq(staking.stakeOf(first[0].verifier).locked, 0, "and is free");
        Check.eq(silent - staking.stakeOf(first[6].verifier).active, 10 ether, "who did not pays");
        IAppeals.Case memory case_ = appeals.caseOf(_mixed, 0);
        Check.eq(uint256(case_.phase), uint256(IAppeals.Phase.Open), "open again");
        Check.eq(case_.levels[0].round, 1, "second committee");
        Check.eq(case_.levels[0].committed, 0, "no votes");
        Check.eq(case_.levels[0].committee, 0, "no committee");
        Check.eq(case_.clock, blockNumber + 2, "new seed block");
        Check.eq(case_.fixedAt, timestamp, "fixed now");
        _hear(_mixed, 0, 0, 7);
        _conclude(_mixed, 0);
        _verdictOf(_mixed, 0, REJECTED, true);
        Check.eq(appeals.creditOf(ALICE), BOND_1 + 5.1 ether, "won");
        _money(appeals.creditOf(ALICE));
    }

    function testAnAppealThatNobodyHearsCostsNothing() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        uint256 fee = staking.creditOf(NODE);
        _silence(_mixed, 0);
        Check.yes(appeals.caseOf(_mixed, 0).levels[0].unheard, "unheard");
        Check.eq(uint256(appeals.caseOf(_mixed, 0).verdict), uint256(ACCEPTED), "as it was");
        _wait(WINDOW + 1);
        vm.recordLogs();
        _concludeNow(_mixed, 0);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            Check.yes(logs[i].emitter != address(token), "nothing is sent or burned");
            Check.yes(logs[i].topics[0] != IStaking.CreditAdded.selector, "nothing is credited");
        }
        Check.eq(appeals.creditOf(ALICE), BOND_1, "the whole bond goes back");
        Check.eq(staking.creditOf(NODE), fee, "the node gets nothing");
        _withdrawn(ALICE, BOND_1);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsNothingToWithdraw.selector));
        appeals.withdrawCredit();
        _money(0);
    }

    function testASecondAppealFollowsAnUnheardOne() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _silence(_mixed, 0);
        _appealAgain(BOB, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 0, 15);
        _concludeNow(_mixed, 0);
        Check.eq(appeals.creditOf(ALICE), BOND_1, "not heard");
        // What the three seats and the node have lost is less than fifteen fees: the jury shares it.
        Check.eq(appeals.creditOf(BOB), BOND_2 + uint256(12.1 ether) % 15, "heard and right");
        _money(appeals.creditOf(ALICE) + appeals.creditOf(BOB));
    }

    function testAnUnheardSecondAppealLeavesTheFirstOutcome() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 0, 7);
        _appealAgain(BOB, _mixed, 0, ACCEPTED);
        _silence(_mixed, 0);
        _concludeNow(_mixed, 0);
        _verdictOf(_mixed, 0, REJECTED, true);
        Check.eq(appeals.creditOf(ALICE), BOND_1 + 5.1 ether, "right");
        Check.eq(appeals.creditOf(BOB), BOND_2, "not heard");
        _money(appeals.creditOf(ALICE) + appeals.creditOf(BOB));
    }

    /// 3 bits a seat: silent, committed only, then two codes each for accepts, rejects, cannot tell.
    function testFuzz_sevenSeatsAreCountedAsTheyVote(uint256 votes, uint256 leaf) external {
        leaf %= 3;
        _appeal(ALICE, _mixed, leaf, leaf == 0 ? REJECTED : ACCEPTED);
        _checkVotes(leaf, votes);
    }

    function testFuzz_fifteenSeatsAreCountedAsTheyVote(uint256 votes, uint256 leaf) external {
        leaf %= 3;
        IVerdicts.Verdict claim = leaf == 0 ? REJECTED : ACCEPTED;
        _appeal(ALICE, _mixed, leaf, claim);
        _hear(_mixed, leaf, 0, 0);
        _appealAgain(BOB, _mixed, leaf, claim);
        _checkVotes(leaf, votes);
    }

    // Silence and redraws

    /// Whoever is silent is freed when the level is resolved, and not again when it is concluded.
    function testASilentJurorIsFreedOnce() external {
        // Seats in other batches hold stake, too.
        for (uint256 i = 0; i < 8; ++i) {
            _drawn(_root(keccak256(abi.encode("other", i)), 0), 1);
        }
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        IStaking.Seat[] memory seats = _jury(_mixed, 0);
        uint256 silent = 0;
        while (staking.stakeOf(seats[silent].verifier).locked == 60 ether) ++silent;
        uint256 elsewhere = staking.stakeOf(seats[silent].verifier).locked - 60 ether;
        Check.yes(elsewhere > 0, "locked in other batches");
        for (uint256 i = 0; i < 7; ++i) {
            if (i != silent) _commitAppeal(_mixed, 0, i, ACCEPTED);
        }
        _wait(appeals.caseOf(_mixed, 0).clock + 1 - timestamp);
        for (uint256 i = 0; i < 7; ++i) {
            if (i != silent) _revealAppeal(_mixed, 0, i, ACCEPTED);
        }
        _tryResolve();
        Check.eq(staking.stakeOf(seats[silent].verifier).locked, elsewhere, "this seat is free");
        _conclude(_mixed, 0);
        Check.eq(staking.stakeOf(seats[silent].verifier).locked, elsewhere, "the others are not");
    }

    function testVotesOfACommitteeThatFailedDoNotCountAfterARedraw() external {
        // Leaf 0 is accepted, leaf 1 rejected.
        for (uint256 leaf = 0; leaf < 2; ++leaf) {
            IVerdicts.Verdict claim = leaf == 0 ? REJECTED : ACCEPTED;
            _appeal(ALICE, _mixed, leaf, claim);
        }
        for (uint256 leaf = 0; leaf < 2; ++leaf) {
            IVerdicts.Verdict claim = leaf == 0 ? REJECTED : ACCEPTED;
            // Seven commit, three reveal: a committee short of its quorum.
            _drawAppeal(_mixed, leaf);
            for (uint256 i = 0; i < 7; ++i) {
                _commitAppeal(_mixed, leaf, i, claim);
            }
            for (uint256 i = 0; i < 3; ++i) {
                _revealAppeal(_mixed, leaf, i, claim);
            }
            _wait(REVEAL_SECONDS + 1);
            _resolve(_mixed, leaf);
            Check.eq(uint256(appeals.caseOf(_mixed, leaf).phase), uint256(IAppeals.Phase.Open), "redrawn");
            // Of the next committee one says the same, and the others cannot tell.
            _drawAppeal(_mixed, leaf);
            for (uint256 i = 0; i < 7; ++i) {
                _commitAppeal(_mixed, leaf, i, i == 6 ? claim : INCONCLUSIVE);
            }
            for (uint256 i = 0; i < 7; ++i) {
                _revealAppeal(_mixed, leaf, i, i == 6 ? claim : INCONCLUSIVE);
            }
            _resolve(_mixed, leaf);
            IAppeals.Level memory level = appeals.caseOf(_mixed, leaf).levels[0];
            Check.eq(uint256(level.accepts) + level.rejects, 64, "one vote");
            Check.yes(appeals.caseOf(_mixed, leaf).verdict != claim, "four votes of two committees are no majority");
        }
    }

    // What follows

    function testARejectionOnAppealTakesWhatAcceptanceGave() external {
        address[3] memory judges = [_seatOf(_mixed, 0), _seatOf(_mixed, 1), _seatOf(_mixed, 2)];
        uint256 supply = token.totalSupply();
        uint256 owed = payments.totalOwed();
        _wait(WINDOW);
        _appeal(ALICE, _mixed, 0, REJECTED);
        uint256 node = staking.stakeOf(NODE).active;
        uint256 rejections = reputation.recordOf(NODE, Role.Node, model).rejectedMicro;
        uint256[3] memory stakes;
        for (uint256 i = 0; i < 3; ++i) {
            stakes[i] = staking.stakeOf(judges[i]).active;
        }
        _hear(_mixed, 0, 2, 5);
        address loser = _juror(_mixed, 0, 0);
        uint256 lost = staking.stakeOf(loser).active;
        _conclude(_mixed, 0);
        Check.eq(node - staking.stakeOf(NODE).active, 1 ether, "the leaf's stake, at once");
        _finalize(_mixed);

        _verdictOf(_mixed, 0, REJECTED, true);
        Check.eq(node - staking.stakeOf(NODE).active, 2 ether, "and that of the leaf which was rejected before");
        Check.eq(staking.stakeOf(NODE).locked, 0, "nothing stays locked");
        Check.yes(reputation.recordOf(NODE, Role.Node, model).rejectedMicro > rejections + 9e5, "on record");
        Check.eq(payments.refundOf(_mixed, 0), 0.4 ether, "refund");
        Check.eq(payments.totalOwed() - owed, 0.8 ether, "two rejected leaves in all");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(stakes[i] + 0.01 ether - staking.stakeOf(judges[i]).active, 8 ether, "wrong once, right once");
            Check.yes(reputation.recordOf(judges[i], Role.Verifier, model).rejectedMicro > 9e5, "on record");
            Check.eq(batches.batchOf(_mixed).penalised, 7, "noted");
        }
        Check.eq(lost - staking.stakeOf(loser).active, 20 ether, "who judged wrongly on appeal pays, too");
        // Half of three seats' fines, of two jurors', and of what the client leaves of the node's stake; five fees.
        Check.eq(appeals.creditOf(ALICE), BOND_1 + 12 ether + 20 ether + 0.1 ether - 5 ether, "bond and prize");
        // Of two leaves' stake, of three seats, of two jurors, and the fees of two leaves.
        Check.eq(supply - token.totalSupply(), 0.6 ether + 0.5 ether + 12 ether + 20 ether + 0.06 ether, "burned");
        (,, uint256 rejected,,, bool isFinal) = finality.resultOf(_mixed);
        Check.eq(rejected, 3, "in the words");
        Check.yes(isFinal, "all is final");
        _withdrawn(ALICE, 55.1 ether);
        _money(0);
    }

    function testAnAcceptanceOnAppealGivesWhatRejectionTook() external {
        uint256 node = staking.stakeOf(NODE).active;
        uint256 judge = staking.stakeOf(_seatOf(_mixed, 0)).active;
        uint256 accepted = reputation.recordOf(NODE, Role.Node, model).acceptedMicro;
        _appeal(NODE, _mixed, 1, ACCEPTED);
        _hear(_mixed, 1, 7, 0);
        _conclude(_mixed, 1);
        _verdictOf(_mixed, 1, ACCEPTED, true);
        Check.eq(staking.stakeOf(NODE).active, node, "not slashed");
        Check.eq(staking.stakeOf(NODE).locked, 2 ether, "the other two leaves are still open");
        Check.yes(reputation.recordOf(NODE, Role.Node, model).acceptedMicro > accepted + 9e5, "on record");
        Check.eq(judge - staking.stakeOf(_seatOf(_mixed, 0)).active, 8 ether, "who rejected it pays");
        Check.eq(payments.refundOf(_mixed, 1), 0, "no refund");
        Check.eq(appeals.creditOf(NODE), BOND_1 + 12 ether - 7 ether, "won");
        // The rest follows, without the leaf.
        _finalize(_mixed);
        Check.eq(staking.stakeOf(NODE).active, node, "not slashed");
        Check.eq(staking.stakeOf(NODE).locked, 0, "free");
        _money(appeals.creditOf(NODE));
    }

    function testAnAppealThatIsLostPaysTheCommitteeAndTheNode() external {
        uint256 credit = staking.creditOf(NODE);
        uint256 judge = staking.stakeOf(_seatOf(_mixed, 0)).active;
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 6, 1);
        address wrong = _juror(_mixed, 0, 6);
        uint256 stake = staking.stakeOf(wrong).active;
        _conclude(_mixed, 0);
        _verdictOf(_mixed, 0, ACCEPTED, true);
        Check.eq(staking.creditOf(NODE) - credit, BOND_1 - 6 ether, "what the committee left");
        Check.eq(appeals.creditOf(ALICE), 0, "lost");
        Check.eq(stake - staking.stakeOf(wrong).active, 20 ether, "who was wrong");
        Check.eq(staking.stakeOf(_seatOf(_mixed, 0)).active, judge, "the judges were right");
        _money(0);
    }

    function testAJurorsRecordGainsOneOutcomeOfItsKind() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        // Five accept, one rejects, and one says nothing.
        for (uint256 i = 0; i < 6; ++i) {
            _commitAppeal(_mixed, 0, i, i < 5 ? ACCEPTED : REJECTED);
        }
        _wait(COMMIT_SECONDS + 1);
        for (uint256 i = 0; i < 6; ++i) {
            _revealAppeal(_mixed, 0, i, i < 5 ? ACCEPTED : REJECTED);
        }
        _wait(REVEAL_SECONDS + 1);
        vm.recordLogs();
        _resolve(_mixed, 0);
        Check.eq(_counts(vm.getRecordedLogs(), _juror(_mixed, 0, 6)), 1e6, "missed");
        _wait(WINDOW + 1);
        vm.recordLogs();
        _concludeNow(_mixed, 0);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < 5; ++i) {
            Check.eq(_counts(logs, _juror(_mixed, 0, i)), uint256(1e6) << 128, "accepted");
        }
        Check.eq(_counts(logs, _juror(_mixed, 0, 5)), uint256(1e6) << 64, "rejected");
        Check.eq(_counts(logs, _juror(_mixed, 0, 6)), 0, "told once");
    }

    function testABondThatIsLostOnARejectedLeafIsBurned() external {
        _appeal(NODE, _mixed, 1, ACCEPTED);
        _hear(_mixed, 1, 0, 7);
        uint256 supply = token.totalSupply();
        _conclude(_mixed, 1);
        // And 0.6 of the leaf's stake.
        Check.eq(supply - token.totalSupply(), BOND_1 - 7 ether + 0.6 ether, "nobody's");
        _money(0);
    }

    function testWithoutAMajorityTheVerdictStays() external {
        _appeal(ALICE, _mixed, 2, ACCEPTED);
        _hear(_mixed, 2, 3, 3);
        Check.eq(uint256(appeals.caseOf(_mixed, 2).verdict), uint256(INCONCLUSIVE), "as it was");
        // Either claim may follow.
        _appealAgain(BOB, _mixed, 2, REJECTED);
        _hear(_mixed, 2, 7, 7);
        uint256 supply = token.totalSupply();
        vm.recordLogs();
        _concludeNow(_mixed, 2);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            Check.yes(logs[i].emitter != address(token), "nothing is sent, not even of nothing");
        }
        _verdictOf(_mixed, 2, INCONCLUSIVE, true);
        Check.eq(supply, token.totalSupply(), "nobody was shown to be wrong");
        Check.eq(staking.stakeOf(_juror(_mixed, 2, 0)).locked, 0, "free");
        Check.eq(appeals.creditOf(ALICE), BOND_1, "back");
        Check.eq(appeals.creditOf(BOB), BOND_2, "back");
        _money(BOND_1 + BOND_2);
    }

    function testTheSecondAppealOverturnsTheFirst() external {
        uint256 judge = staking.stakeOf(_seatOf(_mixed, 0)).active;
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 0, 7);
        address wrong = _juror(_mixed, 0, 0);
        uint256 stake = staking.stakeOf(wrong).active;
        _appealAgain(BOB, _mixed, 0, ACCEPTED);
        _hear(_mixed, 0, 15, 0);
        _concludeNow(_mixed, 0);
        _verdictOf(_mixed, 0, ACCEPTED, true);
        Check.eq(appeals.creditOf(ALICE), 0, "Alice was wrong");
        Check.eq(appeals.creditOf(BOB), BOND_1 + BOND_2 + 70 ether - 15 ether, "Bob gets her bond, and half of fines");
        Check.eq(stake - staking.stakeOf(wrong).active, 20 ether, "the first committee pays");
        Check.eq(staking.stakeOf(_seatOf(_mixed, 0)).active, judge, "the judges were right after all");
        _money(appeals.creditOf(BOB));
    }

    function testTheSecondAppealConfirmsTheFirst() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 0, 7);
        _appealAgain(BOB, _mixed, 0, ACCEPTED);
        _hear(_mixed, 0, 0, 15);
        _concludeNow(_mixed, 0);
        Check.eq(appeals.creditOf(ALICE), BOND_1 + BOND_2 + 12.1 ether - 22 ether, "all of it");
        Check.eq(appeals.creditOf(BOB), 0, "nothing");
        _money(appeals.creditOf(ALICE));
    }

    function testWhoWasRightTooEarlyKeepsTheBondAndWhoTurnedTheVerdictWins() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 5, 2);
        _appealAgain(BOB, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 0, 15);
        _concludeNow(_mixed, 0);
        _verdictOf(_mixed, 0, REJECTED, true);
        Check.eq(appeals.creditOf(ALICE), BOND_1, "all of it");
        // Half of five jurors' fines, and seventeen fees.
        Check.eq(appeals.creditOf(BOB), BOND_2 + 50 ether + 12.1 ether - 17 ether, "and the prize");
        _money(appeals.creditOf(ALICE) + appeals.creditOf(BOB));
    }

    function testTheLastOutcomeStandsAtOnceAndSaysSo() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 7, 0);
        _appealAgain(BOB, _mixed, 0, REJECTED);
        _drawAppeal(_mixed, 0);
        _voteAppeal(_mixed, 0, 15, 0);
        vm.expectEmit(address(appeals));
        emit IAppeals.AppealResolved(_mixed, 0, 2, ACCEPTED, timestamp);
        _resolve(_mixed, 0);
        _concludeNow(_mixed, 0);
        _verdictOf(_mixed, 0, ACCEPTED, true);
    }

    function testTheOneJurorWhoWasRightIsPaidOneWei() external {
        IParameters.Values memory values = _values();
        values.appealFeePerSeatWei = 1;
        parameters.set(values);
        BatchId id = _settled("cheap", 1);
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 1, 6);
        address right = _juror(id, 0, 0);
        uint256 before = staking.stakeOf(right).active + staking.creditOf(right);
        _appealAgain(BOB, id, 0, ACCEPTED);
        _hear(id, 0, 15, 0);
        _concludeNow(id, 0);
        Check.eq(staking.stakeOf(right).active + staking.creditOf(right) - before, 1, "a fee of one wei");
        Check.eq(appeals.creditOf(BOB), BOND_2 + BOND_1 + 60 ether - 16, "the rest is the prize");
        _money(appeals.creditOf(BOB));
    }

    function testBothAppealsAreLost() external {
        uint256 credit = staking.creditOf(NODE);
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 7, 0);
        _appealAgain(BOB, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 15, 0);
        _concludeNow(_mixed, 0);
        Check.eq(staking.creditOf(NODE) - credit, BOND_1 + BOND_2 - 22 ether, "to the node");
        _money(0);
    }

    function testADissenterIsPaidWhenAnAppealProvesItRight() external {
        BatchId id = _drawn("dissent", 2);
        _vote(id, 3, 0, 3, 0, 2, 1);
        address dissenter = _seatOf(id, 2);
        Check.eq(staking.stakeOf(dissenter).locked, 60 ether, "waits");
        uint256 stake = staking.stakeOf(dissenter).active;
        uint256 wrong = staking.stakeOf(_seatOf(id, 0)).active;
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        Check.eq(staking.stakeOf(dissenter).active, stake, "the other leaf is still open");
        Check.eq(wrong - staking.stakeOf(_seatOf(id, 0)).active, 8 ether, "the majority was wrong");
        _finalize(id);
        Check.eq(staking.stakeOf(dissenter).active - stake, 0.02 ether, "its share");
        Check.eq(staking.stakeOf(dissenter).locked, 0, "free");
    }

    function testADissenterWaitsForTheAppealAndPaysWhenItIsLost() external {
        BatchId id = _drawn("dissent", 2);
        _vote(id, 3, 0, 3, 0, 2, 1);
        address dissenter = _seatOf(id, 2);
        uint256 stake = staking.stakeOf(dissenter).active;
        _appeal(dissenter, id, 0, REJECTED);
        _wait(WINDOW + 1);
        _hear(id, 0, 7, 0);
        uint256 supply = token.totalSupply();
        Check.eq(staking.stakeOf(dissenter).active, stake, "its leaf is not decided yet");
        Check.eq(staking.stakeOf(dissenter).locked, 60 ether, "locked");
        _conclude(id, 0);
        // No verdict was turned, so the time to appeal is over.
        _finalizeNow(id);
        Check.eq(stake + 0.01 ether - staking.stakeOf(dissenter).active, 0.1 ether, "wrong once, right once");
        Check.eq(staking.stakeOf(dissenter).locked, 0, "free");
        // Nobody appealed rightly, so all of the fine is burned, and the fee of the leaf.
        Check.eq(supply - token.totalSupply(), 0.1 ether + 0.01 ether, "burned");
        _money(0);
    }

    function testASeatIsFinedForEveryLeafUpToTheCap() external {
        BatchId id = _settled("many", 3);
        uint256 judge = staking.stakeOf(_seatOf(id, 0)).active;
        _appeal(ALICE, id, 0, REJECTED);
        _appeal(ALICE, id, 1, REJECTED);
        _hear(id, 0, 0, 7);
        _hear(id, 1, 0, 7);
        _appeal(BOB, id, 2, REJECTED);
        _hear(id, 2, 0, 7);
        _conclude(id, 0);
        _concludeNow(id, 1);
        Check.eq(judge - staking.stakeOf(_seatOf(id, 0)).active, 16 ether, "for each");
        Check.eq(appeals.creditOf(ALICE), 2 * (BOND_1 + 5.1 ether), "two prizes");
        address juror = _juror(id, 2, 0);
        uint256 stake = staking.stakeOf(juror).active;
        _concludeNow(id, 2);
        Check.eq(judge - staking.stakeOf(_seatOf(id, 0)).active, 20 ether, "never more than the cap");
        // What is left of the wrong pays the jury in part, and who was right has the bond back.
        Check.eq(staking.stakeOf(juror).active - stake, uint256(6.1 ether) / 7, "a seventh of it");
        Check.eq(appeals.creditOf(BOB), BOND_1 + uint256(6.1 ether) % 7, "all of it");
        _money(appeals.creditOf(ALICE) + appeals.creditOf(BOB));
    }

    function testConcludingTakesAllCommittees() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _hear(_mixed, 0, 0, 7);
        _wait(WINDOW + 1);
        Header memory header = _headerOf(_mixed);
        IStaking.Seat[][] memory committees_ = _judges(_mixed, 0, 3);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsWrongCommittee.selector, _mixed, 3));
        appeals.conclude(header, 0, committees_);
        committees_ = _judges(_mixed, 0, 2);
        committees_[1][0].locked = 0;
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsWrongCommittee.selector, _mixed, 1));
        appeals.conclude(header, 0, committees_);
        committees_ = _judges(_mixed, 0, 2);
        committees_[0][0].locked = 0;
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityWrongCommittee.selector, _mixed));
        appeals.conclude(header, 0, committees_);
        header.root = "another";
        vm.expectPartialRevert(IAppeals.AppealsWrongPhase.selector);
        appeals.conclude(header, 0, committees_);
    }

    function testEachStepHasItsPhase() external {
        Header memory header = _headerOf(_mixed);
        IStaking.Seat[] memory seats = _seatsOf(_mixed);
        IStaking.Seat[][] memory none = new IStaking.Seat[][](0);
        _wrongPhase(IAppeals.Phase.None, IAppeals.Phase.Open);
        appeals.draw(header, 0, none);
        _wrongPhase(IAppeals.Phase.None, IAppeals.Phase.Open);
        appeals.expire(_mixed, 0);
        _wrongPhase(IAppeals.Phase.None, IAppeals.Phase.Resolved);
        appeals.appealAgain(_mixed, 0, REJECTED);
        _appeal(ALICE, _mixed, 0, REJECTED);
        _wrongPhase(IAppeals.Phase.Open, IAppeals.Phase.Drawn);
        appeals.commit(_mixed, 0, seats, 0, "commitment");
        _wrongPhase(IAppeals.Phase.Open, IAppeals.Phase.Drawn);
        appeals.reveal(_mixed, 0, seats, 0, ACCEPTED, SALT);
        _wrongPhase(IAppeals.Phase.Open, IAppeals.Phase.Drawn);
        appeals.resolve(header, 0, seats);
        _wrongPhase(IAppeals.Phase.Open, IAppeals.Phase.Resolved);
        appeals.conclude(header, 0, none);
        _drawAppeal(_mixed, 0);
        _wrongPhase(IAppeals.Phase.Drawn, IAppeals.Phase.Open);
        appeals.expire(_mixed, 0);
        _voteAppeal(_mixed, 0, 7, 0);
        _resolve(_mixed, 0);
        _wrongPhase(IAppeals.Phase.Resolved, IAppeals.Phase.Drawn);
        appeals.resolve(header, 0, seats);
        _conclude(_mixed, 0);
        _wrongPhase(IAppeals.Phase.Concluded, IAppeals.Phase.Resolved);
        appeals.conclude(header, 0, none);
    }

    function testABatchIsAppealedUnderItsOwnTerms() external {
        IParameters.Values memory values = _values();
        values.appealBondPerSeatWei = 9 ether;
        values.appealFeePerSeatWei = 2 ether;
        values.appealWindowSeconds = 60;
        (values.overturnedFineWei, values.wrongVotePenaltyWei) = (14 ether, 15 ether);
        parameters.set(values);
        _appeal(ALICE, _mixed, 0, REJECTED);
        Check.eq(token.balanceOf(address(appeals)), BOND_1, "as when it was anchored");
        _hear(_mixed, 0, 0, 7);
        _wait(61);
        IStaking.Seat[][] memory all = _judges(_mixed, 0, 2);
        vm.expectPartialRevert(IAppeals.AppealsDeadlineNotReached.selector);
        appeals.conclude(_headerOf(_mixed), 0, all);
        _conclude(_mixed, 0);
        Check.eq(appeals.creditOf(ALICE), BOND_1 + 5.1 ether, "to the end");
        BatchId id = _settled("later", 1);
        _appeal(ALICE, id, 0, REJECTED);
        Check.eq(appeals.caseOf(id, 0).terms, 2, "a later batch has the new ones");
        Check.eq(token.balanceOf(address(appeals)), 33.1 ether + 63 ether, "bond");
    }

    function testEveryCaseOfABatchStandsAlone() external {
        _appeal(ALICE, _mixed, 0, REJECTED);
        _appeal(BOB, _mixed, 1, ACCEPTED);
        _appeal(NODE, _mixed, 2, ACCEPTED);
        _money(3 * BOND_1);
        _hear(_mixed, 1, 7, 0);
        _drawAppeal(_mixed, 0);
        _conclude(_mixed, 1);
        _money(2 * BOND_1 + appeals.creditOf(BOB));
        Check.eq(staking.stakeOf(NODE).locked, 2 ether, "two leaves are open");
        _reach(appeals.caseOf(_mixed, 2).clock + EPOCH_BLOCKS + 1);
        appeals.expire(_mixed, 2);
        uint256 supply = token.totalSupply();
        _conclude(_mixed, 2);
        Check.eq(supply - token.totalSupply(), BOND_1, "nobody was cleared: burned");
        _money(BOND_1 + appeals.creditOf(BOB));
        Check.eq(staking.stakeOf(NODE).locked, 1 ether, "one leaf is open");
    }

    /// What an operator's record gained: millionths accepted, rejected and missed, 64 bits each.
    function _counts(Vm.Log[] memory logs, address operator) private pure returns (uint256 counts) {
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IReputation.ReputationChanged.selector) continue;
            if (logs[i].topics[1] != bytes32(uint256(uint160(operator)))) continue;
            counts += abi.decode(logs[i].data, (uint256)) & type(uint192).max;
        }
    }

    /// Lets one committee after the other fail.
    function _silence(BatchId id, uint256 leaf) private {
        for (uint256 round = 0; round < 2; ++round) {
            _drawAppeal(id, leaf);
            _wait(COMMIT_SECONDS + 1);
            _resolve(id, leaf);
        }
    }

    struct Count {
        uint256 committed;
        uint256 revealed;
        uint256 accepts;
        uint256 rejects;
        bool decided;
        uint256 fee;
    }

    function _checkVotes(uint256 leaf, uint256 votes) private {
        _drawAppeal(_mixed, leaf);
        IStaking.Seat[] memory seats = _jury(_mixed, leaf);
        Count memory count;
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 vote = (votes >> (3 * i)) & 7;
            if (vote == SILENT) continue;
            ++count.committed;
            _commitAppeal(_mixed, leaf, i, _meaning(vote));
            if (vote == UNREVEALED) continue;
            ++count.revealed;
            if (vote == 2 || vote == 3) ++count.accepts;
            if (vote == 4 || vote == 5) ++count.rejects;
        }
        if (count.committed < seats.length) _wait(COMMIT_SECONDS + 1);
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 vote = (votes >> (3 * i)) & 7;
            if (vote > UNREVEALED) _revealAppeal(_mixed, leaf, i, _meaning(vote));
        }
        _wait(REVEAL_SECONDS + 1);
        IVerdicts.Verdict expected = appeals.caseOf(_mixed, leaf).verdict;
        uint256[] memory stakes = _stakesOf(seats);
        _resolve(_mixed, leaf);

        IAppeals.Case memory case_ = appeals.caseOf(_mixed, leaf);
        bool heard = 2 * count.revealed > seats.length;
        Check.eq(
            uint256(case_.phase), uint256(heard ? IAppeals.Phase.Resolved : IAppeals.Phase.Open), "phase"
        );
        if (heard && 2 * count.accepts > seats.length) expected = ACCEPTED;
        if (heard && 2 * count.rejects > seats.length) expected = REJECTED;
        Check.eq(uint256(case_.verdict), uint256(expected), "verdict");
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 vote = (votes >> (3 * i)) & 7;
            uint256 penalty = vote == SILENT ? 10 ether : 0;
            if (vote == UNREVEALED && 2 * count.committed > seats.length) penalty = 25 ether;
            Check.eq(stakes[i] - staking.stakeOf(seats[i].verifier).active, penalty, "silence");
            stakes[i] -= penalty;
        }
        if (!heard) return;
        count.decided = 2 * count.accepts > seats.length || 2 * count.rejects > seats.length;
        count.fee = _feeOf(leaf, expected, count);
        _wait(WINDOW + 1);
        _concludeNow(_mixed, leaf);
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 vote = (votes >> (3 * i)) & 7;
            uint256 stake = stakes[i];
            // Without a majority nobody was right or wrong.
            if (vote > UNREVEALED && count.decided && _meaning(vote) != INCONCLUSIVE) {
                stake = _meaning(vote) != expected ? stake - 20 ether : stake + count.fee;
            }
            Check.eq(staking.stakeOf(seats[i].verifier).active, stake, "conclusion");
            Check.eq(staking.stakeOf(seats[i].verifier).locked, 0, "free");
        }
        _verdictOf(_mixed, leaf, expected, true);
        _money(appeals.creditOf(ALICE) + appeals.creditOf(BOB));
    }

    /// What a juror of the last level gets who was right: all of it from a lost bond, or what the wrong have lost.
    function _feeOf(uint256 leaf, IVerdicts.Verdict verdict, Count memory count) private view returns (uint256) {
        (uint256 right, uint256 wrong) =
            verdict == ACCEPTED ? (count.accepts, count.rejects) : (count.rejects, count.accepts);
        if (right == 0 || verdict != appeals.caseOf(_mixed, leaf).levels[0].claim) return 1 ether;
        // Seats that had been wrong: all, all, none; and a part of the node's stake.
        uint256 fines = (leaf == 0 ? 12.1 ether : leaf == 1 ? 12 ether : 0) + wrong * 10 ether;
        return fines / right < 1 ether ? fines / right : 1 ether;
    }

    function _meaning(uint256 vote) private pure returns (IVerdicts.Verdict) {
        return vote < 4 ? ACCEPTED : vote < 6 ? REJECTED : INCONCLUSIVE;
    }

    function _stakesOf(IStaking.Seat[] memory seats) private view returns (uint256[] memory stakes) {
        stakes = new uint256[](seats.length);
        for (uint256 i = 0; i < seats.length; ++i) {
            stakes[i] = staking.stakeOf(seats[i].verifier).active;
        }
    }

    function _disjoint(IStaking.Seat[] memory some, IStaking.Seat[] memory others) private pure {
        for (uint256 i = 0; i < some.length; ++i) {
            for (uint256 k = 0; k < others.length; ++k) {
                Check.yes(some[i].verifier != others[k].verifier, "nobody twice");
            }
        }
    }

    function _withdrawn(address who, uint256 amount) private {
        uint256 before = token.balanceOf(who);
        vm.expectEmit(address(appeals));
        emit IAppeals.CreditWithdrawn(who, amount);
        vm.prank(who);
        appeals.withdrawCredit();
        Check.eq(token.balanceOf(who) - before, amount, "paid out");
        Check.eq(appeals.creditOf(who), 0, "once");
    }

    /// Appeals holds what it owes, to the wei, and so does Staking.
    function _money(uint256 owed) private view {
        Check.eq(token.balanceOf(address(appeals)), owed, "bonds and credits");
    }

    function _drawRefused(IStaking.Seat[][] memory judges, uint256 level) private {
        Header memory header = _headerOf(_mixed);
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsWrongCommittee.selector, _mixed, level));
        appeals.draw(header, 0, judges);
    }

    function _wrongPhase(IAppeals.Phase actual, IAppeals.Phase required) private {
        vm.expectRevert(abi.encodeWithSelector(IAppeals.AppealsWrongPhase.selector, _mixed, 0, actual, required));
    }

    function _tryCommit(uint256 seat) private {
        IStaking.Seat[] memory seats = _jury(_mixed, 0);
        vm.prank(seats[seat].verifier);
        appeals.commit(_mixed, 0, seats, seat, "commitment");
    }

    function _tryReveal(uint256 seat, IVerdicts.Verdict vote) private {
        IStaking.Seat[] memory seats = _jury(_mixed, 0);
        vm.prank(seats[seat].verifier);
        appeals.reveal(_mixed, 0, seats, seat, vote, SALT);
    }

    function _tryResolve() private {
        appeals.resolve(_headerOf(_mixed), 0, _jury(_mixed, 0));
    }
}
