// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Batches} from "../../contracts/Batches.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Majority} from "../../contracts/libraries/Majority.sol";
import {BatchId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

contract BatchesTest is World {
    function setUp() external {
        _calibratedWorld();
    }

    function testAnAcceptedBatchPaysItsVerifiersAndFreesTheNode() external {
        uint256 before = token.balanceOf(NODE);
        uint256 credit = batches.creditOf(_verifier(0)) + batches.creditOf(_verifier(1)) + batches.creditOf(_verifier(2))
            + batches.creditOf(_verifier(3));
        BatchId id = _drawn("root", 4);
        Check.eq(staking.stakeOf(NODE).locked, 4 ether, "stake is locked per leaf");
        _vote(id, 15, 0, 15, 0, 15, 0);
        batches.settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
        Check.eq(batches.batchOf(id).accepted, 15, "accepted");
        Check.eq(staking.stakeOf(NODE).locked, 0, "freed");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "not slashed");
        Check.eq(before - token.balanceOf(NODE), 0.12 ether, "the node paid the fee");
        uint256 credited = batches.creditOf(_verifier(0)) + batches.creditOf(_verifier(1))
            + batches.creditOf(_verifier(2)) + batches.creditOf(_verifier(3));
        Check.eq(credited - credit, 0.12 ether, "the verifiers earned it");
        Check.eq(reputation.recordOf(NODE, Role.Node, model).accepted, 4, "reputation");
        _solvent();
    }

    function testFuzz_settlementIsTheBitwiseMajority(uint8 a0, uint8 r0, uint8 a1, uint8 r1, uint8 a2, uint8 r2)
        external
    {
        (r0, r1, r2) = (r0 & ~a0, r1 & ~a1, r2 & ~a2);
        BatchId id = _drawn(keccak256(abi.encode(a0, r0, a1, r1, a2, r2)), 8);
        _vote(id, a0, r0, a1, r1, a2, r2);
        batches.settle(id);
        uint256 accepted = Majority.ofThree(a0, a1, a2);
        uint256 rejected = Majority.ofThree(r0, r1, r2);
        Check.eq(batches.batchOf(id).accepted, accepted, "accepted");
        Check.eq(batches.batchOf(id).rejected, rejected, "rejected");
        Check.eq(accepted & rejected, 0, "never both");
        uint256 rejections = Majority.popcount(rejected);
        Check.eq(STAKE - staking.stakeOf(NODE).active, rejections * 1 ether, "slashed only what two rejected");
        Check.eq(reputation.recordOf(NODE, Role.Node, model).rejected, rejections, "reputation");
        Check.eq(token.balanceOf(address(payments)), rejections * 0.4 ether, "kept for refunds");
        IBatches.Seat[3] memory seats = batches.seatsOf(id);
        for (uint256 i = 0; i < 3; ++i) {
            bool wrong = Majority.contradicts(seats[i].accepts, seats[i].rejects, accepted, rejected);
            Check.eq(staking.stakeOf(seats[i].verifier).active, wrong ? STAKE - 20 ether : STAKE, "wrong votes pay");
            Check.eq(staking.stakeOf(seats[i].verifier).locked, 0, "seats are freed");
        }
        _solvent();
    }

    function testAFullBatchOf256() external {
        BatchId id = _drawn("full", 256);
        _vote(id, type(uint256).max, 0, type(uint256).max, 0, type(uint256).max - 1, 1);
        batches.settle(id);
        Check.eq(batches.batchOf(id).accepted, type(uint256).max, "all accepted");
        Check.eq(reputation.recordOf(NODE, Role.Node, model).accepted, 256, "all counted");
        _solvent();
    }

    function testACopiedCommitmentCannotBeRevealed() external {
        BatchId id = _drawn("copy", 1);
        IBatches.Seat[3] memory seats = batches.seatsOf(id);
        bytes32 original = _commitment(id, seats[0].verifier, 1, 0);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(seats[i].verifier);
            batches.commit(id, original);
        }
        _reveal(id, 0, 1, 0);
        vm.prank(seats[1].verifier);
        vm.expectPartialRevert(IBatches.BatchesCommitmentMismatch.selector);
        batches.reveal(id, 1, 0, SALT);
    }

    function testWhoDoesNotRevealPaysMoreThanAWrongVoteAndTheBatchSettles() external {
        BatchId id = _drawn("silent", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        _commit(id, 2, 0, 1);
        _reveal(id, 0, 1, 0);
        _reveal(id, 1, 1, 0);
        vm.expectPartialRevert(IBatches.BatchesDeadlineNotReached.selector);
        batches.settle(id);
        vm.warp(batches.batchOf(id).deadline + 1);
        batches.settle(id);
        address silent = batches.seatsOf(id)[2].verifier;
        Check.eq(batches.batchOf(id).accepted, 1, "two are enough");
        Check.eq(staking.stakeOf(silent).active, STAKE - 25 ether, "silence costs");
        Check.eq(reputation.recordOf(silent, Role.Verifier, model).missed, 1, "and is on record");
        _solvent();
    }

    function testWhoDoesNotCommitPaysLess() external {
        BatchId id = _drawn("absent", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        vm.warp(batches.batchOf(id).deadline + 1);
        _reveal(id, 0, 1, 0);
        _reveal(id, 1, 1, 0);
        batches.settle(id);
        Check.eq(staking.stakeOf(batches.seatsOf(id)[2].verifier).active, STAKE - 10 ether, "penalty");
        Check.eq(batches.batchOf(id).accepted, 1, "settled by two");
        _solvent();
    }

    function testSettleOpensTheRevealWhenTheCommitDeadlinePassed() external {
        BatchId id = _drawn("open", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        vm.warp(batches.batchOf(id).deadline + 1);
        batches.settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Revealing), "revealing");
        _reveal(id, 0, 1, 0);
        _reveal(id, 1, 1, 0);
        batches.settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
    }

    function testBelowTwoRevealsTheCommitteeIsRedrawnAndThenTheBatchVoid() external {
        BatchId id = _drawn("redraw", 2);
        uint256 before = token.balanceOf(NODE) + batches.creditOf(NODE);
        _commit(id, 0, 1, 0);
        address spoke = batches.seatsOf(id)[0].verifier;
        address absent = batches.seatsOf(id)[1].verifier;
        vm.warp(batches.batchOf(id).deadline + 1);
        batches.settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Anchored), "waits for a new draw");
        Check.eq(batches.batchOf(id).round, 1, "round");
        Check.eq(staking.stakeOf(spoke).active, STAKE, "who committed loses nothing");
        Check.eq(staking.stakeOf(absent).active, STAKE - 10 ether, "who did not, does");
        _draw(id);
        vm.warp(batches.batchOf(id).deadline + 1);
        batches.settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Void), "void after the last round");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "the node loses nothing");
        Check.eq(staking.stakeOf(NODE).locked, 0, "and is free");
        Check.eq(token.balanceOf(NODE) + batches.creditOf(NODE), before + 0.06 ether, "and has its fee back");
        // Judged by nobody, the same answers may be anchored again.
        Check.eq(BatchId.unwrap(_anchor("redraw", 2)), BatchId.unwrap(id), "the same batch");
        Check.eq(batches.batchOf(id).round, 0, "afresh");
        _solvent();
    }

    function testAnExpiredDrawIsNoFreeRedraw() external {
        BatchId id = _anchor("expire", 3);
        uint256 seedBlock = batches.batchOf(id).seedBlock;
        vm.expectPartialRevert(IBatches.BatchesSeedNotExpired.selector);
        batches.expire(id);
        vm.roll(seedBlock + 257);
        vm.expectPartialRevert(IBatches.BatchesSeedExpired.selector);
        batches.draw(id);
        batches.expire(id);
        Check.eq(_state(id), uint256(IBatches.State.Void), "void");
        Check.eq(staking.stakeOf(NODE).active, STAKE - 1 ether, "the node forfeits one leaf's stake");
        Check.eq(staking.stakeOf(NODE).locked, 0, "the rest is free");
        _solvent();
    }

    function testTheSeedBlockIsFixedAtAnchorTime() external {
        BatchId id = _anchor("seed", 1);
        vm.expectPartialRevert(IBatches.BatchesSeedBlockNotReached.selector);
        batches.draw(id);
        uint256 seedBlock = batches.batchOf(id).seedBlock;
        _draw(id);
        Check.eq(batches.batchOf(id).seedBlock, seedBlock, "unchanged");
        IBatches.Seat[3] memory seats = batches.seatsOf(id);
        Check.yes(
            seats[0].verifier != seats[1].verifier && seats[1].verifier != seats[2].verifier
                && seats[0].verifier != seats[2].verifier,
            "three distinct verifiers"
        );
    }

    function testRefusedVotes() external {
        BatchId id = _drawn("refused", 3);
        address first = batches.seatsOf(id)[0].verifier;
        vm.expectPartialRevert(IBatches.BatchesNoSeat.selector);
        batches.commit(id, "c");
        vm.startPrank(first);
        vm.expectPartialRevert(IBatches.BatchesCommitmentZero.selector);
        batches.commit(id, 0);
        vm.stopPrank();
        _commit(id, 0, 8, 0); // a bit beyond the leaves
        vm.prank(first);
        vm.expectPartialRevert(IBatches.BatchesAlreadyCommitted.selector);
        batches.commit(id, "again");
        vm.prank(first);
        vm.expectPartialRevert(IBatches.BatchesWrongState.selector);
        batches.reveal(id, 8, 0, SALT);
        _commit(id, 1, 3, 1); // contradicts itself
        _commit(id, 2, 7, 0);
        vm.prank(first);
        vm.expectPartialRevert(IBatches.BatchesVoteOutOfRange.selector);
        batches.reveal(id, 8, 0, SALT);
        address second = batches.seatsOf(id)[1].verifier;
        vm.prank(second);
        vm.expectPartialRevert(IBatches.BatchesVoteContradicts.selector);
        batches.reveal(id, 3, 1, SALT);
        _reveal(id, 2, 7, 0);
        address third = batches.seatsOf(id)[2].verifier;
        vm.prank(third);
        vm.expectPartialRevert(IBatches.BatchesAlreadyRevealed.selector);
        batches.reveal(id, 7, 0, SALT);
        vm.warp(batches.batchOf(id).deadline + 1);
        vm.prank(second);
        vm.expectPartialRevert(IBatches.BatchesDeadlinePassed.selector);
        batches.reveal(id, 3, 1, SALT);
    }

    function testLateCommitsAreRefused() external {
        BatchId id = _drawn("late", 1);
        vm.warp(batches.batchOf(id).deadline + 1);
        address first = batches.seatsOf(id)[0].verifier;
        vm.prank(first);
        vm.expectPartialRevert(IBatches.BatchesDeadlinePassed.selector);
        batches.commit(id, "late");
    }

    function testRefusedAnchors() external {
        vm.startPrank(NODE);
        vm.expectPartialRevert(IBatches.BatchesLeafCountOutOfBounds.selector);
        batches.anchor(model, "r", 0);
        vm.expectPartialRevert(IBatches.BatchesLeafCountOutOfBounds.selector);
        batches.anchor(model, "r", 257);
        vm.expectPartialRevert(IBatches.BatchesRootZero.selector);
        batches.anchor(model, 0, 1);
        vm.expectPartialRevert(IBatches.BatchesNotCalibrated.selector);
        batches.anchor(ModelId.wrap("other"), "r", 1);
        batches.anchor(model, "r", 1);
        vm.expectPartialRevert(IBatches.BatchesAlreadyAnchored.selector);
        batches.anchor(model, "r", 1);
        vm.stopPrank();
        address verifier = _verifier(0);
        vm.prank(verifier);
        vm.expectPartialRevert(IBatches.BatchesNotCalibrated.selector);
        batches.anchor(model, "r", 1);
        vm.expectPartialRevert(IBatches.BatchesUnknownBatch.selector);
        batches.draw(BatchId.wrap("none"));
    }

    function testANodeCannotAnchorMoreThanItsStakeCovers() external {
        for (uint256 i = 0; i < 3; ++i) {
            _anchor(keccak256(abi.encode(i)), 256);
        }
        vm.prank(NODE);
        vm.expectPartialRevert(IStaking.StakingInsufficientFree.selector);
        batches.anchor(model, "too much", 256);
    }

    function testCreditsAreWithdrawnOnce() external {
        address rich = batches.creditOf(_verifier(0)) > 0 ? _verifier(0) : _verifier(1);
        uint256 credit = batches.creditOf(rich);
        uint256 before = token.balanceOf(rich);
        vm.startPrank(rich);
        batches.withdrawCredit();
        vm.expectPartialRevert(IBatches.BatchesNothingToWithdraw.selector);
        batches.withdrawCredit();
        vm.stopPrank();
        Check.eq(token.balanceOf(rich), before + credit, "paid");
        _solvent();
    }

    function testParametersAreBounded() external {
        for (uint256 i = 0; i < 9; ++i) {
            IBatches.Parameters memory p = _batchParameters();
            if (i == 0) p.stakePerLeafWei = 0;
            if (i == 1) p.refundPerLeafWei = p.stakePerLeafWei / 2 + 1;
            if (i == 2) p.noRevealPenaltyWei = p.wrongVotePenaltyWei - 1;
            if (i == 3) p.noCommitPenaltyWei = p.wrongVotePenaltyWei + 1;
            if (i == 4) p.seatStakeWei = p.noRevealPenaltyWei - 1;
            if (i == 5) p.drawDelayBlocks = 65;
            if (i == 6) p.commitSeconds = 0;
            if (i == 7) p.revealSeconds = 8 days;
            if (i == 8) p.maxRounds = 9;
            Batches.Contracts memory none;
            vm.expectPartialRevert(IBatches.BatchesParameterOutOfBounds.selector);
            new Batches(none, p);
        }
    }

    /// Tokens of Batches equal what it owes: credits, and fees of batches that are open.
    function _solvent() private view {
        uint256 owed = batches.creditOf(NODE);
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            owed += batches.creditOf(_verifier(i));
        }
        uint256 held = token.balanceOf(address(batches));
        Check.yes(held >= owed, "credits are covered");
    }
}
