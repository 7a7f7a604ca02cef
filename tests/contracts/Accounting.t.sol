// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Batches} from "../../contracts/Batches.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {ICommittees} from "../../contracts/interfaces/ICommittees.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {BatchId, ChallengeId, Role} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice Money and locks of batches, to the last wei.
contract AccountingTest is World {
    function setUp() external {
        _calibratedWorld();
    }

    function testFuzz_tokensHeldAreCreditsAndOpenFees(uint8 leaves, uint8 accepts, uint8 rejects, bool reveals) external {
        uint256 count = 1 + leaves % 8;
        uint256 mask = (1 << count) - 1;
        (accepts, rejects) = (uint8(accepts & mask), uint8(rejects & mask & ~accepts));
        BatchId open = _anchor("open", count);
        _holds(batches.batchOf(open).verifierFee);
        BatchId id = _drawn("judged", count);
        _holds(batches.batchOf(open).verifierFee + batches.batchOf(id).verifierFee);
        _commit(id, 0, mask, 0);
        _commit(id, 1, accepts, rejects);
        _commit(id, 2, 0, mask);
        _reveal(id, 0, mask, 0);
        _reveal(id, 1, accepts, rejects);
        if (reveals) _reveal(id, 2, 0, mask);
        vm.warp(batches.batchOf(id).deadline + 1);
        batches.settle(id);
        _holds(batches.batchOf(open).verifierFee);
    }

    function testSharesOfTheSilentAreBurned() external {
        BatchId id = _drawn("burned", 4);
        _commit(id, 0, 15, 0);
        _commit(id, 1, 15, 0);
        vm.warp(batches.batchOf(id).deadline + 1);
        _reveal(id, 0, 15, 0);
        _reveal(id, 1, 15, 0);
        uint256 supply = token.totalSupply();
        address silent = batches.seatsOf(id)[2].verifier;
        uint256 credit = batches.creditOf(silent);
        batches.settle(id);
        Check.eq(supply - token.totalSupply(), 0.04 ether + 10 ether, "a third of the fee, and the penalty");
        Check.eq(batches.creditOf(silent), credit, "silence earns nothing");
        _holds(0);
    }

    function testAnInconclusiveVoteIsPaid() external {
        BatchId id = _drawn("inconclusive", 4);
        uint256 credit = batches.creditOf(batches.seatsOf(id)[2].verifier);
        _vote(id, 15, 0, 15, 0, 0, 0);
        batches.settle(id);
        address verifier = batches.seatsOf(id)[2].verifier;
        Check.eq(batches.creditOf(verifier) - credit, 0.04 ether, "paid");
        Check.eq(staking.stakeOf(verifier).active, STAKE, "not penalised");
    }

    function testASplitVoteSlashesNobodyAndPaysEverybody() external {
        BatchId id = _drawn("split", 1);
        _vote(id, 1, 0, 0, 1, 0, 0);
        batches.settle(id);
        Check.eq(batches.batchOf(id).accepted | batches.batchOf(id).rejected, 0, "undecided");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "node");
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            Check.eq(staking.stakeOf(_verifier(i)).active, STAKE, "verifier");
        }
    }

    /// A seat that found too little free stake locks less; releasing it must not release what others locked.
    function testAnUndercoveredSeatReleasesOnlyWhatItLocked() external {
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            vm.prank(_verifier(i));
            staking.unbond(STAKE - 210 ether); // three seats and a half
        }
        BatchId[6] memory ids;
        for (uint256 i = 0; i < ids.length; ++i) {
            ids[i] = _drawn(keccak256(abi.encode(i)), 1); // 18 seats; four verifiers cover 14
        }
        uint256[VERIFIERS] memory free;
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            free[i] = staking.freeStakeOf(_verifier(i));
        }
        BatchId last = ids[ids.length - 1];
        IBatches.Seat[3] memory seats = batches.seatsOf(last);
        _vote(last, 1, 0, 1, 0, 1, 0);
        batches.settle(last);
        bool undercovered = false;
        for (uint256 k = 0; k < 3; ++k) {
            for (uint256 i = 0; i < VERIFIERS; ++i) {
                if (_verifier(i) != seats[k].verifier) continue;
                uint256 released = staking.freeStakeOf(_verifier(i)) - free[i];
                uint256 others = 0;
                for (uint256 b = 0; b + 1 < ids.length; ++b) {
                    if (_sits(ids[b], _verifier(i))) others += 60 ether;
                }
                uint256 covered = others > 210 ether ? 0 : 210 ether - others;
                if (covered > 60 ether) covered = 60 ether;
                Check.eq(released, covered, "released what it locked");
                if (covered < 60 ether) undercovered = true;
            }
        }
        Check.yes(undercovered, "the case occurred");
    }

    function testAnExpiredBatchReturnsItsFee() external {
        uint256 before = token.balanceOf(NODE);
        BatchId id = _anchor("expire", 4);
        vm.roll(batches.batchOf(id).seedBlock + 257);
        uint256 supply = token.totalSupply();
        batches.expire(id);
        Check.eq(supply - token.totalSupply(), 1 ether, "one leaf's stake is burned");
        Check.eq(batches.creditOf(NODE), 0.12 ether, "the fee goes back");
        vm.prank(NODE);
        batches.withdrawCredit();
        Check.eq(token.balanceOf(NODE), before, "whole");
        _holds(0);
    }

    function testAnExpiredCalibrationLosesItsFeeAndNoStake() external {
        ChallengeId challenge = _request(NODE, Role.Node);
        _mine(3);
        calibration.seal(challenge);
        vm.prank(NODE);
        BatchId id = batches.anchorCalibration(challenge, "late");
        Check.eq(staking.stakeOf(NODE).locked, 0, "nothing is locked");
        vm.roll(batches.batchOf(id).seedBlock + 257);
        uint256 supply = token.totalSupply();
        batches.expire(id);
        Check.eq(supply - token.totalSupply(), 0.06 ether, "the fee is burned");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "the stake is whole");
        Check.eq(batches.creditOf(NODE), 0, "and nothing goes back");
        _holds(0);
    }

    function testASlashReachesStakeThatIsLeaving() external {
        BatchId id = _drawn("dodge", 100);
        vm.startPrank(NODE);
        vm.expectPartialRevert(IStaking.StakingInsufficientFree.selector);
        staking.unbond(901 ether);
        staking.unbond(900 ether);
        vm.stopPrank();
        uint256 all = (1 << 100) - 1;
        _vote(id, 0, all, 0, all, 0, all);
        batches.settle(id);
        Check.eq(staking.stakeOf(NODE).active, 0, "all that was locked is gone");
        Check.eq(staking.stakeOf(NODE).unbonding, 900 ether, "what was free leaves");
        vm.prank(NODE);
        vm.expectPartialRevert(IBatches.BatchesNotCalibrated.selector);
        batches.anchor(model, "below the minimum", 1);
    }

    function testSettlementWaitsForItsDeadlines() external {
        BatchId id = _drawn("early", 1);
        vm.expectPartialRevert(IBatches.BatchesDeadlineNotReached.selector);
        batches.settle(id);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        vm.warp(batches.batchOf(id).deadline + 1);
        address absent = batches.seatsOf(id)[2].verifier;
        vm.prank(absent);
        vm.expectPartialRevert(IBatches.BatchesNotCommitted.selector);
        batches.reveal(id, 1, 0, SALT);
        vm.expectPartialRevert(IBatches.BatchesUnknownBatch.selector);
        batches.settle(BatchId.wrap("none"));
        batches.settle(id); // opens the reveal
        _reveal(id, 0, 1, 0);
        _reveal(id, 1, 1, 0);
        batches.settle(id);
        vm.expectPartialRevert(IBatches.BatchesWrongState.selector);
        batches.settle(id);
    }

    function testNoCounterpartMayBeMissing() external {
        Batches.Contracts memory none;
        vm.expectRevert(abi.encodeWithSelector(Batches.BatchesZeroAddress.selector));
        new Batches(none, _batchParameters());
    }

    function _sits(BatchId id, address verifier) private view returns (bool) {
        IBatches.Seat[3] memory seats = batches.seatsOf(id);
        return seats[0].verifier == verifier || seats[1].verifier == verifier || seats[2].verifier == verifier;
    }

    function _holds(uint256 openFees) private view {
        uint256 owed = batches.creditOf(NODE);
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            owed += batches.creditOf(_verifier(i));
        }
        Check.eq(token.balanceOf(address(batches)), owed + openFees, "tokens held");
    }
}

/// @notice Random histories of several batches at once. Never reverts.
contract BatchesHandler is World {
    uint256 private constant MAX_OPEN = 12;

    BatchId[] private _ids;
    mapping(BatchId id => mapping(address verifier => uint256[2])) private _votes;
    uint256 private _time;

    constructor() {
        _calibratedWorld();
        _time = START;
    }

    function anchor(uint256 leaves) external {
        if (_ids.length >= MAX_OPEN) return;
        leaves = 1 + leaves % 20;
        if (staking.freeStakeOf(NODE) < leaves * 1 ether || !calibration.isCalibrated(NODE, Role.Node, model)) return;
        _ids.push(_anchor(keccak256(abi.encode("random", _ids.length)), leaves));
    }

    function draw(uint256 which) external {
        if (_ids.length == 0 || !_is(which, IBatches.State.Anchored)) return;
        try this.drawNow(_id(which)) {}
        catch (bytes memory reason) {
            // The verifiers may have left.
            Check.yes(bytes4(reason) == ICommittees.CommitteesTooFew.selector, "only for want of verifiers");
        }
    }

    function vote(uint256 which, uint256 seat, uint256 accepts, uint256 rejects) external {
        if (_ids.length == 0 || !_is(which, IBatches.State.Committing)) return;
        BatchId id = _id(which);
        seat %= 3;
        if (batches.seatsOf(id)[seat].commitment != 0 || _time > batches.batchOf(id).deadline) return;
        (accepts, rejects) = _within(id, accepts, rejects);
        _votes[id][batches.seatsOf(id)[seat].verifier] = [accepts, rejects];
        _commit(id, seat, accepts, rejects);
    }

    function reveal(uint256 which, uint256 seat) external {
        if (_ids.length == 0 || !_is(which, IBatches.State.Revealing)) return;
        BatchId id = _id(which);
        IBatches.Seat memory seat_ = batches.seatsOf(id)[seat % 3];
        if (seat_.commitment == 0 || seat_.revealed || _time > batches.batchOf(id).deadline) return;
        uint256[2] memory cast = _votes[id][seat_.verifier];
        _reveal(id, seat % 3, cast[0], cast[1]);
    }

    /// Settles what can be; lets time pass first for what waits for a deadline.
    function settle(uint256 which, bool wait) external {
        if (_ids.length == 0) return;
        BatchId id = _id(which);
        if (_is(which, IBatches.State.Committing) || _is(which, IBatches.State.Revealing)) {
            if (wait && _time <= batches.batchOf(id).deadline) {
                _time = batches.batchOf(id).deadline + 1;
                vm.warp(_time);
            }
            try batches.settle(id) {}
            catch (bytes memory reason) {
                Check.yes(bytes4(reason) == IBatches.BatchesDeadlineNotReached.selector, "only too early");
            }
        }
    }

    function expire(uint256 which) external {
        if (_ids.length == 0 || !_is(which, IBatches.State.Anchored)) return;
        uint256 expired = batches.batchOf(_id(which)).seedBlock + 257;
        if (block.number < expired) _mine(expired - block.number);
        batches.expire(_id(which));
    }

    function unbondAndRefresh(uint256 who, uint256 amount) external {
        address verifier = _verifier(who % VERIFIERS);
        uint256 free = staking.freeStakeOf(verifier);
        if (free == 0) return;
        vm.prank(verifier);
        staking.unbond(1 + amount % free);
        committees.refresh(model, verifier);
    }

    function restake(uint256 who) external {
        address verifier = _verifier(who % VERIFIERS);
        if (token.balanceOf(verifier) < 100 ether) return;
        vm.prank(verifier);
        staking.stake(100 ether);
        committees.refresh(model, verifier);
    }

    function withdraw(uint256 who) external {
        address account = who % 5 == 4 ? NODE : _verifier(who % VERIFIERS);
        if (batches.creditOf(account) == 0) return;
        vm.prank(account);
        batches.withdrawCredit();
    }

    /// Tokens of `Batches`, and what it owes: credits and the fees of open batches.
    function money() external view returns (uint256 held, uint256 owed) {
        held = token.balanceOf(address(batches));
        owed = batches.creditOf(NODE);
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            owed += batches.creditOf(_verifier(i));
        }
        for (uint256 i = 0; i < _ids.length; ++i) {
            if (_open(_ids[i])) owed += batches.batchOf(_ids[i]).verifierFee;
        }
    }

    /// What the node has locked, and what its open batches put at stake.
    function nodeLock() external view returns (uint256 locked, uint256 atStake) {
        locked = staking.stakeOf(NODE).locked;
        for (uint256 i = 0; i < _ids.length; ++i) {
            IBatches.Batch memory batch = batches.batchOf(_ids[i]);
            if (_open(_ids[i])) atStake += uint256(batch.stakePerLeaf) * batch.leafCount;
        }
    }

    /// What all operators have at stake, and the tokens behind it.
    function stakes() external view returns (uint256 held, uint256 books) {
        held = token.balanceOf(address(staking));
        for (uint256 i = 0; i <= VERIFIERS; ++i) {
            IStaking.Stake memory s = staking.stakeOf(i < VERIFIERS ? _verifier(i) : NODE);
            Check.yes(s.locked <= s.active, "locked within active");
            books += uint256(s.active) + s.unbonding;
        }
    }

    function drawNow(BatchId id) external {
        if (msg.sender != address(this)) return;
        _draw(id);
    }

    function _within(BatchId id, uint256 accepts, uint256 rejects) private view returns (uint256, uint256) {
        uint256 mask = (1 << batches.batchOf(id).leafCount) - 1;
        return (accepts & mask, rejects & mask & ~accepts);
    }

    function _id(uint256 which) private view returns (BatchId) {
        return _ids[which % _ids.length];
    }

    function _is(uint256 which, IBatches.State state) private view returns (bool) {
        return batches.batchOf(_id(which)).state == state;
    }

    function _open(BatchId id) private view returns (bool) {
        IBatches.State state = batches.batchOf(id).state;
        return state != IBatches.State.Settled && state != IBatches.State.Void;
    }
}

contract BatchesInvariants {
    BatchesHandler private _handler;

    function setUp() external {
        _handler = new BatchesHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariant_tokensAreCreditsAndOpenFees() external view {
        (uint256 held, uint256 owed) = _handler.money();
        Check.eq(held, owed, "tokens of Batches");
    }

    function invariant_openBatchesAreBackedByLockedStake() external view {
        (uint256 locked, uint256 atStake) = _handler.nodeLock();
        Check.eq(locked, atStake, "locked stake of the node");
    }

    function invariant_stakesAreBackedByTokens() external view {
        (uint256 held, uint256 books) = _handler.stakes();
        Check.eq(held, books, "tokens of Staking");
    }
}
