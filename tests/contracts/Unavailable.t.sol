// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AppealWorld} from "./AppealWorld.sol";
import {Check, vm} from "./Vm.sol";
import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IFinality} from "../../contracts/interfaces/IFinality.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {BatchId, Role} from "../../contracts/types/Types.sol";

/// @notice Evidence that is shown to some, or later: it must pay nobody, and cost nobody but who withholds.
contract UnavailableTest is AppealWorld {
    uint256 private constant BOND = 28 ether;
    uint256 private constant FEE = 0.03 ether; // a leaf
    // Both bits of a leaf: it was not shown.
    uint256 private constant HIDDEN = 1;

    function setUp() external {
        _appealWorld();
    }

    function testAttackWithholdingFromTheThreeCostsTheNodeWhatACheatDoesAndNobodyElseAnything() external {
        BatchId id = _drawn("hidden", 2);
        uint256[3] memory stakes = _stakes(id);
        uint256 supply = token.totalSupply();
        _vote(id, 3, 3, 3, 3, 3, 3);
        _verdictOf(id, 0, UNAVAILABLE, false);
        _finalize(id);
        _verdictOf(id, 0, UNAVAILABLE, true);
        Check.eq(STAKE - staking.stakeOf(NODE).active, 2 ether, "as for two rejections");
        Check.eq(payments.refundOf(id, 1), 0.4 ether, "and as much for each client");
        Check.eq(reputation.recordOf(NODE, Role.Node, model).rejectedMicro, 2e6, "on its record");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(staking.stakeOf(_seatOf(id, i)).active, stakes[i], "no fine, and no fee");
            Check.eq(reputation.recordOf(_seatOf(id, i), Role.Verifier, model).rejectedMicro, 0, "no fault");
        }
        Check.eq(supply - token.totalSupply(), 2 * FEE + 1.2 ether, "burned: the fee, and what clients do not get");
    }

    function testAttackWithholdingFromTheThreeAndShowingTheSevenGainsTheNodeNothing() external {
        BatchId id = _drawn("hidden", 1);
        (uint256 before, uint256[3] memory stakes) = (_wealthOf(NODE), _stakes(id));
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN);
        _appeal(NODE, id, 0, ACCEPTED);
        _hear(id, 0, 7, 0);
        _conclude(id, 0);
        _finalize(id);
        _verdictOf(id, 0, ACCEPTED, true);
        Check.eq(before - _wealthOf(NODE), 7 ether, "it pays the jury that it made necessary");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(staking.stakeOf(_seatOf(id, i)).active, stakes[i], "who was shown nothing was not wrong");
        }
    }

    function testAJurorWhoIsWrongPaysTheJuryBeforeWhoShowsLate() external {
        BatchId id = _drawn("hidden", 1);
        uint256 before = _wealthOf(NODE);
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN);
        _appeal(NODE, id, 0, ACCEPTED);
        _hear(id, 0, 6, 1);
        _conclude(id, 0);
        _finalize(id);
        _verdictOf(id, 0, ACCEPTED, true);
        Check.eq(_wealthOf(NODE), before + 10 ether - 6 ether, "half of the fine, less six fees");
    }

    function testAttackWithholdingFromTwoOfThreeGainsTheNodeNothing() external {
        BatchId id = _drawn("hidden", 1);
        (uint256 before, uint256[3] memory stakes) = (_wealthOf(NODE), _stakes(id));
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, 1, 0);
        _verdictOf(id, 0, UNAVAILABLE, false);
        _appeal(NODE, id, 0, ACCEPTED);
        _hear(id, 0, 7, 0);
        _conclude(id, 0);
        _finalize(id);
        Check.eq(before - _wealthOf(NODE), 7 ether, "it pays the jury");
        Check.eq(staking.stakeOf(_seatOf(id, 0)).active, stakes[0], "not wrong");
        Check.eq(staking.stakeOf(_seatOf(id, 1)).active, stakes[1], "not wrong");
        Check.eq(staking.stakeOf(_seatOf(id, 2)).active - stakes[2], FEE / 3, "who saw it is paid");
    }

    function testAttackWithholdingFromOneSeatCostsItNothing() external {
        BatchId id = _drawn("hidden", 1);
        uint256[3] memory stakes = _stakes(id);
        _vote(id, HIDDEN, HIDDEN, 1, 0, 1, 0);
        _finalize(id);
        _verdictOf(id, 0, ACCEPTED, true);
        Check.eq(staking.stakeOf(_seatOf(id, 0)).active, stakes[0], "no fine");
        Check.eq(reputation.recordOf(_seatOf(id, 0), Role.Verifier, model).rejectedMicro, 0, "no fault");
    }

    function testAttackAGoodLeafCalledACanaryAndWithheldFromTheSevenGainsTheNodeNothing() external {
        BatchId id = _drawn("canary", 1);
        (uint256 before, uint256[3] memory stakes) = (_wealthOf(NODE), _stakes(id));
        _vote(id, 1, 0, 1, 0, 1, 0);
        vm.prank(address(canaries));
        finality.noteCanaries(_headerOf(id), 1);
        _appeal(NODE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        _hideFrom(id, 0);
        _resolve(id, 0);
        _conclude(id, 0);
        _finalize(id);
        _verdictOf(id, 0, UNAVAILABLE, true);
        Check.eq(_wealthOf(NODE), before, "no prize");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(staking.stakeOf(_seatOf(id, i)).active, stakes[i], "nobody is fined for what is hidden");
        }
    }

    function testAttackACheatOfACapturedCommitteeIsNotSavedByWithholdingItFromTheJury() external {
        BatchId id = _settled("cheat", 1);
        uint256[3] memory stakes = _stakes(id);
        uint256 before = staking.stakeOf(NODE).active;
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        _hideFrom(id, 0);
        _resolve(id, 0);
        _conclude(id, 0);
        _finalize(id);
        _verdictOf(id, 0, UNAVAILABLE, true);
        Check.eq(before - staking.stakeOf(NODE).active, 1 ether, "as if it had been rejected");
        Check.eq(payments.refundOf(id, 0), 0.4 ether, "the client is refunded");
        Check.eq(appeals.creditOf(ALICE), BOND + 0.1 ether, "bond, and a part of the node's stake");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(staking.stakeOf(_seatOf(id, i)).active, stakes[i], "nothing shows that they were wrong");
        }
    }

    function testAttackCallingGoodWhatIsNotShownLosesTheBond() external {
        BatchId id = _drawn("hidden", 1);
        uint256 before = _wealthOf(NODE);
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN);
        _appeal(NODE, id, 0, ACCEPTED);
        _drawAppeal(id, 0);
        uint256 juror = staking.stakeOf(_juror(id, 0, 0)).active;
        _hideFrom(id, 0);
        _resolve(id, 0);
        _conclude(id, 0);
        _finalize(id);
        Check.eq(before - _wealthOf(NODE), BOND + 1 ether, "the bond and the leaf's stake");
        Check.eq(staking.stakeOf(_juror(id, 0, 0)).active, juror, "who was shown nothing did no work");
    }

    function testAttackFourJurorsWhoAbstainTakeNoBondFromWhoShowsWhatTwoSeatsDidNotSee() external {
        BatchId id = _drawn("shown", 1);
        uint256 before = _wealthOf(NODE);
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, 1, 0);
        _appeal(NODE, id, 0, ACCEPTED);
        // It shows it to all seven, three say what they see.
        _hear(id, 0, 3, 0);
        _conclude(id, 0);
        _finalize(id);
        _verdictOf(id, 0, UNAVAILABLE, true);
        Check.eq(before - _wealthOf(NODE), 1 ether, "the leaf's stake: no jury said that it did not show it");
    }

    function testWhoDoubtsWhatWasNotShownKeepsTheBondWhereNoJuryDecides() external {
        BatchId id = _drawn("shown", 1);
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, 0, 1);
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 0, 3);
        _conclude(id, 0);
        Check.eq(appeals.creditOf(ALICE), BOND, "nobody was shown to be right or wrong");
    }

    function testAttackShowingItToAMinorityOfThoseWhoAreHeardSavesNoBond() external {
        BatchId id = _drawn("hidden", 1);
        uint256 before = _wealthOf(NODE);
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN);
        _appeal(NODE, id, 0, ACCEPTED);
        _drawAppeal(id, 0);
        // Two are silent, so three are no majority of the seats, but of those who are heard.
        for (uint256 i = 0; i < 5; ++i) {
            _commitAppeal(id, 0, i, i < 2 ? INCONCLUSIVE : UNAVAILABLE);
        }
        _wait(appeals.caseOf(id, 0).clock - timestamp + 1);
        for (uint256 i = 0; i < 5; ++i) {
            _revealAppeal(id, 0, i, i < 2 ? INCONCLUSIVE : UNAVAILABLE);
        }
        _wait(_values().revealSeconds + 1);
        _resolve(id, 0);
        _conclude(id, 0);
        _finalize(id);
        Check.eq(before - _wealthOf(NODE), BOND + 1 ether, "the bond and the leaf's stake");
    }

    function testAttackAskingAgainAboutWhatIsHiddenEarnsNoBounty() external {
        BatchId id = _drawn("hidden", 1);
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        _hideFrom(id, 0);
        _resolve(id, 0);
        _conclude(id, 0);
        Check.eq(appeals.creditOf(ALICE), 0, "it turned nothing, and troubled seven");
        Check.eq(token.balanceOf(address(appeals)), 0, "burned");
    }

    function testAttackASecondAppealTakesNoPrizeFromWhoExposedIt() external {
        BatchId id = _settled("cheat", 1);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        _hideFrom(id, 0);
        _resolve(id, 0);
        _appealAgain(BOB, id, 0, REJECTED);
        _reach(appeals.caseOf(id, 0).clock + EPOCH_BLOCKS + 1);
        appeals.expire(id, 0);
        _concludeNow(id, 0);
        Check.eq(appeals.creditOf(BOB), 0, "never drawn");
        Check.eq(appeals.creditOf(ALICE), BOND + 60 ether + 0.1 ether, "who turned it");
    }

    function testARejectionStandsBeforeAJuryThatIsShownNothing() external {
        BatchId id = _drawn("rejected", 1);
        _vote(id, 0, 1, 0, 1, 0, 1);
        uint256[3] memory stakes = _stakes(id);
        _appeal(NODE, id, 0, ACCEPTED);
        _drawAppeal(id, 0);
        _hideFrom(id, 0);
        _resolve(id, 0);
        _verdictOf(id, 0, REJECTED, false);
        _conclude(id, 0);
        _finalize(id);
        _verdictOf(id, 0, REJECTED, true);
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(staking.stakeOf(_seatOf(id, i)).active - stakes[i], FEE / 3, "they keep their fee");
        }
        Check.eq(appeals.creditOf(NODE), 0, "who says that it is good must show it");
    }

    function testAttackTwoSeatsThatSayNothingWasShownEarnNothingByIt() external {
        // They cost the node its leaf until it shows it to seven; as rejections they would cost them, too.
        BatchId id = _drawn("two", 1);
        address liar = _seatOf(id, 0);
        uint256 stake = staking.stakeOf(liar).active;
        uint256 score = reputation.scoreBps(liar, Role.Verifier, model);
        _vote(id, HIDDEN, HIDDEN, HIDDEN, HIDDEN, 1, 0);
        _appeal(NODE, id, 0, ACCEPTED);
        _hear(id, 0, 7, 0);
        _conclude(id, 0);
        _finalize(id);
        Check.eq(staking.stakeOf(liar).active, stake, "nothing earned");
        Check.atMost(reputation.scoreBps(liar, Role.Verifier, model), score, "nor any reputation");
    }

    function testAttackTwoSeatsThatSayItOfAWholeBatchHaveItsNodePayForFewJuries() external {
        BatchId id = _drawn("whole", 4);
        uint256 before = _wealthOf(NODE);
        _vote(id, 15, 15, 15, 15, 15, 0);
        for (uint256 leaf = 0; leaf < 4; ++leaf) {
            _appeal(NODE, id, leaf, ACCEPTED);
        }
        for (uint256 leaf = 0; leaf < 4; ++leaf) {
            _hear(id, leaf, 7, 0);
        }
        for (uint256 leaf = 0; leaf < 4; ++leaf) {
            _conclude(id, leaf);
        }
        _finalize(id);
        // An overturned vote costs 8 of 20 at most: two leaves.
        Check.eq(before - _wealthOf(NODE), 2 * 7 ether, "two juries, and the bonds back");
        Check.eq(batches.batchOf(id).unavailable, 15, "as settled");
        _verdictOf(id, 3, ACCEPTED, true);
    }

    function testFuzz_attackNoVoteIsEverPaidForSayingThatNothingWasShown(uint256 random) external {
        BatchId id = _drawn("any", 4);
        uint256 stake = staking.stakeOf(_seatOf(id, 0)).active;
        uint256[4] memory words = [random & 15, (random >> 4) & 15, (random >> 8) & 15, (random >> 12) & 15];
        _vote(id, 15, 15, words[0], words[1], words[2], words[3]);
        _finalize(id);
        Check.eq(staking.stakeOf(_seatOf(id, 0)).active, stake, "neither paid nor fined");
    }

    function _stakes(BatchId id) private view returns (uint256[3] memory stakes) {
        for (uint256 i = 0; i < 3; ++i) {
            stakes[i] = staking.stakeOf(_seatOf(id, i)).active;
        }
    }

    /// With what is in the appeals' hands.
    function _wealthOf(address who) private view returns (uint256) {
        IStaking.Stake memory stake = staking.stakeOf(who);
        return token.balanceOf(who) + stake.active + staking.creditOf(who) + appeals.creditOf(who);
    }
}
