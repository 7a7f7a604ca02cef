// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchTerms} from "../../contracts/interfaces/IBatchTerms.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {ICalibration} from "../../contracts/interfaces/ICalibration.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IReputation} from "../../contracts/interfaces/IReputation.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {Majority} from "../../contracts/libraries/Majority.sol";
import {BatchId, ChallengeId, Header, ModelId, Role} from "../../contracts/types/Types.sol";
import {Check, Vm, vm} from "./Vm.sol";
import {World} from "./World.sol";

interface IPausable {
    error EnforcedPause();

    function pause() external;
    function unpause() external;
}

/// @notice With a fee that three seats cannot share without a rest.
abstract contract BatchesWorld is World {
    address internal constant STRANGER = address(0xbad);
    uint256 internal constant FEE = 0.03 ether + 1;

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

    function _clock(BatchId id) internal view returns (uint256) {
        return batches.batchOf(id).clock;
    }

    function _missed(address verifier) internal view returns (uint256) {
        return reputation.recordOf(verifier, Role.Verifier, model).missedMicro;
    }

    function _refusedCommit(bytes memory error_, BatchId id, address who, uint256 seat, bytes32 commitment) internal {
        IStaking.Seat[] memory seats = _seatsOf(id);
        vm.expectRevert(error_);
        vm.prank(who);
        batches.commit(id, seats, seat, commitment);
    }

    function _refusedReveal(
        bytes memory error_,
        BatchId id,
        address who,
        uint256 seat,
        uint256 accepts,
        uint256 rejects
    ) internal {
        IStaking.Seat[] memory seats = _seatsOf(id);
        vm.expectRevert(error_);
        vm.prank(who);
        batches.reveal(_headerOf(id), seats, seat, accepts, rejects, 7, SALT);
    }

    function _refusedSettle(bytes memory error_, BatchId id) internal {
        vm.expectRevert(error_);
        batches.settle(_headerOf(id), _seatsOf(id));
    }

    function _refusedDraw(bytes memory error_, BatchId id) internal {
        vm.expectRevert(error_);
        batches.draw(_headerOf(id));
    }

    function _deadlineNotReached(uint256 deadline) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatches.BatchesDeadlineNotReached.selector, deadline);
    }

    function _deadlinePassed(uint256 deadline) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatches.BatchesDeadlinePassed.selector, deadline);
    }

    function _wrongState(BatchId id, IBatches.State actual, IBatches.State required)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(IBatches.BatchesWrongState.selector, id, actual, required);
    }

    function _noSeat(BatchId id, address who) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatches.BatchesNoSeat.selector, id, who);
    }

    /// Tokens of `Staking` are stake, credits and fees that are not paid yet, to the wei.
    function _holds(uint256 openFees) internal view {
        Check.eq(token.balanceOf(address(staking)), _owedByStaking() + openFees, "tokens held");
    }

    function _waitForReveals(BatchId id) internal {
        _goTo(_clock(id) + _values().revealSeconds + 1);
    }

    function _waitForCommits(BatchId id) internal {
        _goTo(_clock(id) + 1);
    }

    function _goTo(uint256 time) internal {
        timestamp = time;
        vm.warp(time);
    }
}

contract BatchesTest is BatchesWorld {
    function setUp() external {
        _calibratedWorld();
    }

    function testAnAcceptedBatchPaysItsVerifiersAndFreesTheNode() external {
        uint256 before = _owedByStaking();
        BatchId id = _anchor("root", 4);
        Check.eq(_locked(NODE), 4 ether, "stake is locked per leaf");
        Check.eq(before - _owedByStaking(), 4 * FEE, "the node paid the fee");
        _draw(id);
        _vote(id, 15, 0, 15, 0, 15, 0);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
        Check.eq(batches.batchOf(id).accepted, 15, "accepted");
        _holds(4 * FEE);
        _finalize(id);
        Check.eq(_state(id), uint256(IBatches.State.Final), "final");
        Check.eq(before - _owedByStaking(), 4 * FEE - 3 * _share(4), "the verifiers earned it, but for the rest");
        Check.eq(_locked(NODE), 0, "freed");
        Check.eq(_active(NODE), STAKE, "not slashed");
        _holds(0);
    }

    function testAnchoringIsToldWithAllThatItFixes() external {
        BatchId id = batches.batchIdOf(Header(NODE, model, "root", "canary"));
        Check.eq(
            BatchId.unwrap(id),
            keccak256(abi.encode(block.chainid, batches, NODE, model, bytes32("root"), bytes32("canary"))),
            "the id follows from the header"
        );
        Check.eq(batches.batchOf(id).leafCount, 0, "not there yet");
        vm.expectEmit(address(batches));
        emit IBatches.BatchAnchored(
            id, NODE, model, "root", "canary", 5, ChallengeId.wrap(0), blockNumber + 2, 1
        );
        _anchor("root", "canary", 5);
        IBatches.Batch memory batch = batches.batchOf(id);
        Check.eq(uint256(batch.state), uint256(IBatches.State.Anchored), "anchored");
        Check.eq(batch.leafCount, 5, "leaves");
        Check.eq(batch.clock, blockNumber + 2, "seed block");
        Check.eq(batch.terms, 1, "terms");
        Check.yes(!batch.calibration && !batch.marked && !batch.signed, "nothing else");
        Check.eq(uint256(batch.round) + batch.ballots + batch.penalised + batch.committee, 0, "nothing else");
    }

    function testAnchorsThatAreRefused() external {
        bytes4 leaves = IBatches.BatchesLeafCountOutOfBounds.selector;
        _refusedAnchor(abi.encodeWithSelector(leaves, 0, 256), NODE, model, "r", 0);
        _refusedAnchor(abi.encodeWithSelector(leaves, 257, 256), NODE, model, "r", 257);
        _refusedAnchor(abi.encodeWithSelector(IBatches.BatchesRootZero.selector), NODE, model, 0, 1);
        ModelId other = ModelId.wrap("other");
        bytes4 notCalibrated = IBatches.BatchesNotCalibrated.selector;
        _refusedAnchor(abi.encodeWithSelector(notCalibrated, NODE, other), NODE, other, "r", 1);
        _refusedAnchor(abi.encodeWithSelector(notCalibrated, STRANGER, model), STRANGER, model, "r", 1);
        // Calibrated as a verifier only.
        address verifier = _verifier(0);
        _refusedAnchor(abi.encodeWithSelector(notCalibrated, verifier, model), verifier, model, "r", 1);
        BatchId id = _anchor("r", 1);
        _refusedAnchor(abi.encodeWithSelector(IBatches.BatchesAlreadyAnchored.selector, id), NODE, model, "r", 1);
        _draw(id);
        _vote(id, 1, 0, 1, 0, 1, 0);
        _finalize(id);
        _refusedAnchor(abi.encodeWithSelector(IBatches.BatchesAlreadyAnchored.selector, id), NODE, model, "r", 1);
    }

    function testAnExpiredCalibrationAnchorsNothing() external {
        uint256 until = calibration.validUntil(NODE, Role.Node, model);
        _goTo(until);
        _anchor("in time", 1);
        _goTo(until + 1);
        _refusedAnchor(
            abi.encodeWithSelector(IBatches.BatchesNotCalibrated.selector, NODE, model), NODE, model, "late", 1
        );
    }

    function testANodeAnchorsNoMoreThanItsStakeCovers() external {
        for (uint256 i = 0; i < 3; ++i) {
            _anchor(_root(bytes32(i + 1) << 64, 0), 256);
        }
        _refusedAnchor(
            abi.encodeWithSelector(IStaking.StakingInsufficientFree.selector, 232 ether, 233 ether),
            NODE,
            model,
            "too much",
            233
        );
        _anchor("just enough", 232);
        Check.eq(_locked(NODE), STAKE, "all of it");
    }

    function testANodeAnchorsNothingThatItsCreditDoesNotPay() external {
        vm.startPrank(NODE);
        staking.withdrawCredit();
        staking.addCredit(2 * FEE);
        vm.stopPrank();
        _refusedAnchor(
            abi.encodeWithSelector(IStaking.StakingInsufficientCredit.selector, 2 * FEE, 3 * FEE),
            NODE,
            model,
            "r",
            3
        );
        _anchor("r", 2);
        Check.eq(staking.creditOf(NODE), 0, "paid");
    }

    function testAPauseStopsNewBatchesAndNothingElse() external {
        BatchId forgotten = _anchor("forgotten", 1);
        _mine(3 + EPOCH_BLOCKS);
        BatchId id = _anchor("open", 1);
        BatchId late = _anchor("late", 1);
        ChallengeId challenge = _request(NODE, Role.Node);
        vm.prank(GUARDIAN);
        IPausable(address(batches)).pause();
        _refusedAnchor(abi.encodeWithSelector(IPausable.EnforcedPause.selector), NODE, model, "r", 1);
        _expire(forgotten);
        _draw(id);
        _draw(late);
        _vote(id, 1, 0, 1, 0, 1, 0);
        _waitForCommits(late);
        _settle(late);
        _finalize(id);
        Check.eq(_state(id), uint256(IBatches.State.Final), "judged");
        BatchId calibrating = _answer(challenge, "asked before");
        _vote(calibrating, 3, 0, 3, 0, 3, 0);
        vm.startPrank(NODE);
        staking.unbond(NODE, 900 ether);
        _wait(UNBONDING);
        staking.withdraw(NODE);
        staking.withdrawCredit();
        vm.stopPrank();
        IPausable(address(batches)).unpause();
        vm.prank(NODE);
        staking.addCredit(FEE);
        _anchor("r", 1);
    }

    function testTheCommitteeFollowsFromTheSeedBlock() external {
        BatchId id = _anchor("root", 4);
        uint256 seedBlock = _clock(id);
        _reach(seedBlock);
        _refusedDraw(
            abi.encodeWithSelector(IBatches.BatchesSeedBlockNotReached.selector, seedBlock, seedBlock), id
        );
        // However late.
        _reach(seedBlock + EPOCH_BLOCKS);
        address[] memory expected = _named(id);
        bytes32 seed = keccak256(abi.encode(seeds.seedOf(seedBlock, 0), id, uint8(0)));
        IStaking.Seat[] memory seats = new IStaking.Seat[](3);
        for (uint256 i = 0; i < 3; ++i) {
            seats[i] = IStaking.Seat(expected[i], 60 ether);
        }
        vm.expectEmit(address(batches));
        emit IBatches.CommitteeDrawn(id, 0, seats, seed, timestamp + 120);
        batches.draw(_headerOf(id));
        IBatches.Batch memory batch = batches.batchOf(id);
        Check.eq(uint256(batch.state), uint256(IBatches.State.Drawn), "drawn");
        Check.eq(batch.clock, timestamp + 120, "commit deadline");
        bytes memory packed = abi.encode(
            seats[0].verifier, seats[0].locked, seats[1].verifier, seats[1].locked, seats[2].verifier, seats[2].locked
        );
        Check.eq(batch.committee, uint256(keccak256(packed)) >> 96, "seats are kept as their hash");
        for (uint256 i = 0; i < 3; ++i) {
            Check.yes(expected[i] != NODE && expected[i] != expected[(i + 1) % 3], "distinct, none the node");
            Check.eq(_locked(expected[i]), 60 ether, "locked for the seat");
        }
        _refusedDraw(_wrongState(id, IBatches.State.Drawn, IBatches.State.Anchored), id);
    }

    function testADrawThatIsTooLateIsNoDraw() external {
        BatchId id = _anchor("root", 3);
        uint256 last = _clock(id) + EPOCH_BLOCKS;
        _reach(last);
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesSeedNotExpired.selector, last));
        batches.expire(_headerOf(id));
        _reach(last + 1);
        _refusedDraw(abi.encodeWithSelector(IBatches.BatchesSeedExpired.selector, last), id);
        uint256 supply = token.totalSupply();
        vm.expectEmit(address(batches));
        emit IBatches.BatchVoided(id, IBatches.VoidReason.DrawExpired);
        _expire(id);
        Check.eq(_state(id), uint256(IBatches.State.Void), "void");
        Check.eq(supply - token.totalSupply(), 3 * FEE + 1 ether, "the fee and a leaf's stake are burned");
        Check.eq(uint256(batches.batchOf(id).committee), 0, "nobody's");
        Check.eq(_active(NODE), STAKE - 1 ether, "expiry is no free redraw");
        Check.eq(_locked(NODE), 0, "the rest is free");
        _holds(0);
        vm.expectRevert(_wrongState(id, IBatches.State.Void, IBatches.State.Anchored));
        batches.expire(_headerOf(id));
        Check.eq(BatchId.unwrap(_anchor("root", 3)), BatchId.unwrap(id), "judged by nobody, it may come again");
    }

    function testAFeeOfOneWeiIsBurnedWithTheBatch() external {
        IParameters.Values memory values = _values();
        (values.verifierFeePerLeafWei, values.verifierFeePerTokenWei) = (1, 0);
        parameters.set(values);
        BatchId id = _anchor("cheap", 1);
        _reach(_clock(id) + EPOCH_BLOCKS + 1);
        uint256 supply = token.totalSupply();
        _expire(id);
        Check.eq(supply - token.totalSupply(), 1 ether + 1, "the fee and a leaf's stake");
        _holds(0);
    }

    function testAnExpiredCalibrationLosesItsFeeOnly() external {
        ChallengeId challenge = _request(NODE, Role.Node);
        _mine(3);
        _seal(challenge);
        vm.prank(NODE);
        batches.anchorCalibration(challenge, "late", NO_CANARY, 1);
        Check.eq(_locked(NODE), 0, "nothing is locked");
        _mine(19);
        uint256 supply = token.totalSupply();
        vm.recordLogs();
        batches.expire(Header(NODE, model, "late", NO_CANARY));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            Check.yes(logs[i].topics[0] != IStaking.Slashed.selector, "nobody is slashed, not even of nothing");
        }
        Check.eq(supply - token.totalSupply(), 2 * FEE, "the fee is burned");
        Check.eq(_active(NODE), STAKE, "the stake is whole");
        _holds(0);
    }

    function testUnknownBatchesAreRefused() external {
        Header memory header = Header(NODE, model, "nothing", NO_CANARY);
        BatchId id = batches.batchIdOf(header);
        IStaking.Seat[] memory none = new IStaking.Seat[](0);
        bytes memory unknown = abi.encodeWithSelector(IBatches.BatchesUnknownBatch.selector, id);
        vm.expectRevert(unknown);
        batches.draw(header);
        vm.expectRevert(unknown);
        batches.expire(header);
        vm.expectRevert(unknown);
        batches.commit(id, none, 0, "c");
        vm.expectRevert(unknown);
        batches.reveal(header, none, 0, 0, 0, 0, 0);
        vm.expectRevert(unknown);
        batches.settle(header, none);
        vm.expectRevert(unknown);
        batches.settleSigned(header, none, 0, 0, 0, "", "");
    }

    function testAnotherCommitteeIsRefused() external {
        BatchId id = _drawn("root", 1);
        bytes memory wrong = abi.encodeWithSelector(IBatches.BatchesWrongCommittee.selector, id);
        for (uint256 i = 0; i < 4; ++i) {
            IStaking.Seat[] memory seats = _seatsOf(id);
            if (i == 0) seats[0].verifier = STRANGER;
            if (i == 1) seats[2].locked -= 1;
            if (i == 2) (seats[0], seats[1]) = (seats[1], seats[0]);
            if (i == 3) seats = new IStaking.Seat[](0);
            vm.expectRevert(wrong);
            batches.commit(id, seats, 0, "c");
            vm.expectRevert(wrong);
            batches.reveal(_headerOf(id), seats, 0, 1, 0, 7, SALT);
            vm.expectRevert(wrong);
            batches.settle(_headerOf(id), seats);
            vm.expectRevert(wrong);
            batches.settleSigned(_headerOf(id), seats, 0, 1, 0, "", "");
        }
    }

    function testCommitsThatAreRefused() external {
        BatchId id = _anchor("root", 1);
        _refusedCommit(_wrongState(id, IBatches.State.Anchored, IBatches.State.Drawn), id, STRANGER, 0, "c");
        _draw(id);
        address first = _seatOf(id, 0);
        _refusedCommit(_noSeat(id, STRANGER), id, STRANGER, 0, "c");
        _refusedCommit(_noSeat(id, first), id, first, 1, "c");
        _refusedCommit(_noSeat(id, first), id, first, 3, "c");
        _refusedCommit(abi.encodeWithSelector(IBatches.BatchesCommitmentZero.selector), id, first, 0, 0);
        uint256 deadline = _clock(id);
        _goTo(deadline);
        bytes32 commitment = _commitment(id, first, 1, 0);
        vm.expectEmit(address(batches));
        emit IBatches.VoteCommitted(id, first, 0, commitment);
        _commit(id, 0, 1, 0);
        _refusedCommit(
            abi.encodeWithSelector(IBatches.BatchesAlreadyCommitted.selector, id, first), id, first, 0, "again"
        );
        _goTo(deadline + 1);
        address second = _seatOf(id, 1);
        _refusedCommit(_deadlinePassed(deadline), id, second, 1, "late");
    }

    function testTheThirdCommitmentOpensTheReveal() external {
        BatchId id = _drawn("root", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        _refusedReveal(_deadlineNotReached(_clock(id)), id, _seatOf(id, 0), 0, 1, 0);
        address third = _seatOf(id, 2);
        bytes32 commitment = _commitment(id, third, 1, 0);
        IStaking.Seat[] memory seats = _seatsOf(id);
        vm.expectEmit(address(batches));
        emit IBatches.VoteCommitted(id, third, 0, commitment);
        vm.expectEmit(address(batches));
        emit IBatches.RevealOpened(id, 0, timestamp + 60);
        vm.prank(third);
        batches.commit(id, seats, 2, commitment);
        Check.eq(_clock(id), timestamp, "since when");
        (bool revealed,,) = batches.voteOf(id, 0, 0);
        Check.yes(!revealed, "a commitment is no vote");
        vm.expectEmit(address(batches));
        emit IBatches.VoteRevealed(id, _seatOf(id, 0), 0, 1, 0, 7);
        _reveal(id, 0, 1, 0);
        (revealed,,) = batches.voteOf(id, 0, 0);
        Check.yes(revealed, "revealed");
        (revealed,,) = batches.voteOf(id, 1, 0);
        Check.yes(!revealed, "in another round");
        (revealed,,) = batches.voteOf(id, 0, 3);
        Check.yes(!revealed, "no such seat");
    }

    function testRevealsThatAreRefused() external {
        BatchId id = _anchor("root", 3);
        _refusedReveal(_wrongState(id, IBatches.State.Anchored, IBatches.State.Drawn), id, STRANGER, 0, 7, 0);
        _draw(id);
        address first = _seatOf(id, 0);
        _commit(id, 0, 8, 0); // a bit beyond the leaves
        _commit(id, 1, 3, 1); // contradicts itself
        uint256 deadline = _clock(id);
        _refusedReveal(_deadlineNotReached(deadline), id, first, 0, 8, 0);
        _goTo(deadline);
        _refusedReveal(_deadlineNotReached(deadline), id, first, 0, 8, 0);
        _goTo(deadline + 1);
        address third = _seatOf(id, 2);
        _refusedReveal(
            abi.encodeWithSelector(IBatches.BatchesNotCommitted.selector, id, third), id, third, 2, 7, 0
        );
        _refusedReveal(_noSeat(id, STRANGER), id, STRANGER, 0, 7, 0);
        _refusedReveal(_noSeat(id, third), id, third, 0, 7, 0);
        _refusedReveal(
            abi.encodeWithSelector(IBatches.BatchesVoteOutOfRange.selector, 8, 3), id, first, 0, 8, 0
        );
        _refusedReveal(
            abi.encodeWithSelector(IBatches.BatchesVoteOutOfRange.selector, 1 << 255, 3), id, first, 0, 0, 1 << 255
        );
        address second = _seatOf(id, 1);
        _refusedReveal(
            abi.encodeWithSelector(
                IBatches.BatchesCommitmentMismatch.selector,
                _commitment(id, second, 3, 1),
                _commitment(id, second, 2, 1)
            ),
            id,
            second,
            1,
            2,
            1
        );
        _goTo(deadline + 61);
        _refusedReveal(_deadlinePassed(deadline + 60), id, second, 1, 3, 1);
    }

    function testAVoteIsRevealedOnce() external {
        BatchId id = _drawn("root", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        _commit(id, 2, 1, 0);
        _goTo(_clock(id) + 60);
        _reveal(id, 0, 1, 0);
        address first = _seatOf(id, 0);
        _refusedReveal(
            abi.encodeWithSelector(IBatches.BatchesAlreadyRevealed.selector, id, first), id, first, 0, 1, 0
        );
    }

    function testACopiedCommitmentCannotBeRevealed() external {
        BatchId id = _drawn("root", 1);
        bytes32 original = _commitment(id, _seatOf(id, 0), 1, 0);
        IStaking.Seat[] memory seats = _seatsOf(id);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(seats[i].verifier);
            batches.commit(id, seats, i, original);
        }
        _reveal(id, 0, 1, 0);
        bytes32 own = _commitment(id, seats[1].verifier, 1, 0);
        _refusedReveal(
            abi.encodeWithSelector(IBatches.BatchesCommitmentMismatch.selector, original, own),
            id,
            seats[1].verifier,
            1,
            1,
            0
        );
    }

    function testTheLastRevealSettles() external {
        BatchId id = _drawn("root", 4);
        _commit(id, 0, 15, 0);
        _commit(id, 1, 15, 0);
        _commit(id, 2, 15, 0);
        _reveal(id, 0, 15, 0);
        _reveal(id, 1, 15, 0);
        Check.eq(_state(id), uint256(IBatches.State.Drawn), "not yet");
        _wait(9);
        address third = _seatOf(id, 2);
        IStaking.Seat[] memory seats = _seatsOf(id);
        vm.expectEmit(address(batches));
        emit IBatches.VoteRevealed(id, third, 0, 15, 0, 7);
        vm.expectEmit(address(batches));
        emit IBatches.BatchSettled(id, NODE, model, 15, 0, 0, false);
        vm.prank(third);
        batches.reveal(_headerOf(id), seats, 2, 15, 0, 7, SALT);
        Check.eq(_clock(id), timestamp, "since when");
        _refusedSettle(_wrongState(id, IBatches.State.Settled, IBatches.State.Drawn), id);
    }

    function testFuzz_settlementIsTheBitwiseMajority(uint8[3] memory a, uint8[3] memory r) external {
        BatchId id = _drawn("fuzz", 8);
        uint256[3] memory before;
        for (uint256 i = 0; i < 3; ++i) {
            before[i] = _active(_seatOf(id, i));
            r[i] &= ~a[i];
        }
        uint256 supply = token.totalSupply();
        _vote(id, a[0], r[0], a[1], r[1], a[2], r[2]);

        IBatches.Batch memory batch = batches.batchOf(id);
        Check.eq(batch.accepted, Majority.ofThree(a[0], a[1], a[2]), "accepted");
        Check.eq(batch.rejected, Majority.ofThree(r[0], r[1], r[2]), "rejected");
        Check.eq(batch.accepted & batch.rejected, 0, "never both");
        for (uint256 i = 0; i < 3; ++i) {
            address verifier = _seatOf(id, i);
            Check.eq(_active(verifier), before[i], "unpaid until nothing can change it");
            Check.eq(_locked(verifier), 60 ether, "and locked");
            (bool revealed, uint256 accepts, uint256 rejects) = batches.voteOf(id, 0, i);
            Check.yes(revealed && accepts == a[i] && rejects == r[i], "votes can be read");
        }
        Check.eq(token.totalSupply(), supply, "nothing is burned");
        Check.eq(_active(NODE), STAKE, "the node's stake waits, too");
        Check.eq(_locked(NODE), 8 ether, "locked");
        Check.eq(token.balanceOf(address(payments)), 0, "no refunds yet");
        _holds(8 * FEE);
    }

    function testAFullBatchOf256() external {
        uint256 all = type(uint256).max;
        BatchId id = _drawn("full", 256);
        _vote(id, all, 0, all, 0, all - 1, 1);
        Check.eq(batches.batchOf(id).accepted, all, "all accepted");
        Check.eq(batches.batchOf(id).leafCount, 256, "all leaves");
        _finalize(id);
        Check.eq(reputation.recordOf(NODE, Role.Node, model).acceptedMicro, 256e6, "all counted");
        _holds(0);
    }

    function testAnInconclusiveVoteEarnsNothingAndCostsNothing() external {
        BatchId id = _drawn("inconclusive", 4);
        uint256 before = _active(_seatOf(id, 2));
        _vote(id, 15, 0, 15, 0, 0, 0);
        _finalize(id);
        Check.eq(_active(_seatOf(id, 2)), before, "neither");
        Check.eq(_locked(_seatOf(id, 2)), 0, "freed");
    }

    function testASplitVoteSlashesNobodyAndPaysNobody() external {
        BatchId id = _drawn("split", 1);
        uint256 before = _owedByStaking();
        _vote(id, 1, 0, 0, 1, 0, 0);
        Check.eq(batches.batchOf(id).accepted | batches.batchOf(id).rejected, 0, "undecided");
        _finalize(id);
        Check.eq(_owedByStaking(), before, "neither");
        Check.eq(_active(NODE), STAKE, "not slashed");
        _holds(0);
    }

    function testWhoDoesNotRevealPaysMostAndTheBatchSettles() external {
        BatchId id = _drawn("silent", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        _commit(id, 2, 0, 1);
        uint256 opened = _clock(id);
        _refusedSettle(_deadlineNotReached(opened), id);
        _reveal(id, 0, 1, 0);
        _reveal(id, 1, 1, 0);
        _goTo(opened + 60);
        _refusedSettle(_deadlineNotReached(opened + 60), id);
        _goTo(opened + 61);
        address silent = _seatOf(id, 2);
        (uint256 before, uint256 missed) = (_active(silent), _missed(silent));
        uint256 merits = reputation.recordOf(silent, Role.Verifier, model).acceptedMicro;
        uint256 supply = token.totalSupply();
        vm.expectEmit(address(batches));
        emit IBatches.BatchSettled(id, NODE, model, 1, 0, 0, false);
        vm.expectEmit(address(batches));
        emit IBatches.VerifierPenalized(id, silent, 0, IBatches.PenaltyReason.NoReveal, 25 ether);
        _settle(id);
        Check.eq(before - _active(silent), 25 ether, "more than a wrong vote");
        Check.eq(_locked(silent), 0, "the seat is freed");
        Check.yes(_missed(silent) > missed, "on record");
        Check.eq(reputation.recordOf(silent, Role.Verifier, model).acceptedMicro, merits, "which has no merit in it");
        Check.eq(supply - token.totalSupply(), 25 ether, "burned");
        (bool revealed, uint256 accepts, uint256 rejects) = batches.voteOf(id, 0, 2);
        Check.yes(!revealed && accepts == 0 && rejects == 0, "no vote");
        _finalize(id);
        Check.eq(supply - token.totalSupply(), 25 ether + FEE - 2 * _share(1), "what it would have earned is burned");
        Check.eq(before - _active(silent), 25 ether, "once");
        _holds(0);
    }

    function testWhoDoesNotCommitPaysLess() external {
        BatchId id = _drawn("absent", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 1, 1, 0);
        uint256 deadline = _clock(id);
        _goTo(deadline);
        _refusedSettle(_deadlineNotReached(deadline), id);
        _goTo(deadline + 1);
        _refusedSettle(_deadlineNotReached(deadline + 60), id);
        _reveal(id, 0, 1, 0);
        _refusedSettle(_deadlineNotReached(deadline + 60), id);
        _reveal(id, 1, 1, 0);
        address absent = _seatOf(id, 2);
        uint256 before = _active(absent);
        vm.expectEmit(address(batches));
        emit IBatches.VerifierPenalized(id, absent, 0, IBatches.PenaltyReason.NoCommit, 10 ether);
        _settle(id); // at once: nobody else can reveal
        Check.eq(before - _active(absent), 10 ether, "less than a wrong vote");
        Check.eq(batches.batchOf(id).accepted, 1, "settled by two");
        _finalize(id);
        _holds(0);
    }

    function testTwoWhoDisagreeSettleNothing() external {
        BatchId id = _drawn("two", 2);
        _commit(id, 0, 3, 0);
        _commit(id, 1, 1, 2);
        _waitForCommits(id);
        _reveal(id, 0, 3, 0);
        _reveal(id, 1, 1, 2);
        _settle(id);
        Check.eq(batches.batchOf(id).accepted, 1, "what both accept");
        Check.eq(batches.batchOf(id).rejected, 0, "one is no majority");
    }

    function testWithOneCommitmentTheCommitteeIsRedrawn() external {
        BatchId id = _drawn("redraw", 2);
        _commit(id, 0, 1, 0);
        (address spoke, address absent) = (_seatOf(id, 0), _seatOf(id, 1));
        (uint256 spokeHad, uint256 absentHad) = (_active(spoke), _active(absent));
        _waitForCommits(id);
        vm.expectEmit(address(batches));
        emit IBatches.CommitteeRedrawn(id, 1, blockNumber + 2);
        vm.recordLogs();
        _settle(id);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 counts = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IReputation.ReputationChanged.selector) continue;
            // Below role and score: accepted, rejected and missed, 64 bits each.
            counts += abi.decode(logs[i].data, (uint256)) & type(uint192).max;
        }
        Check.eq(counts, 2e6, "two have missed one outcome each, and nothing else is said of anybody");
        IBatches.Batch memory batch = batches.batchOf(id);
        Check.eq(uint256(batch.state), uint256(IBatches.State.Anchored), "waits for a draw");
        Check.eq(batch.round, 1, "round");
        Check.eq(batch.clock, blockNumber + 2, "of a later block");
        Check.eq(uint256(batch.committee) + batch.ballots, 0, "afresh");
        Check.eq(_active(spoke), spokeHad, "who committed loses nothing and earns nothing");
        Check.eq(absentHad - _active(absent), 10 ether, "who did not, does");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(_locked(_seatOf(id, i)), 0, "all seats are freed");
        }
        Check.eq(_locked(NODE), 2 ether, "the node stays locked");
        _holds(2 * FEE);
        // The second committee settles it as if it were the first.
        _draw(id);
        _vote(id, 3, 0, 3, 0, 3, 0);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
        Check.eq(batches.batchOf(id).accepted, 3, "accepted");
        _holds(2 * FEE);
    }

    function testWithOneRevealWhoKeptSilentPaysAndTheCommitteeIsRedrawn() external {
        BatchId id = _drawn("redraw", 2);
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, 1, 2);
        }
        _reveal(id, 0, 1, 2);
        uint256[3] memory had = [_active(_seatOf(id, 0)), _active(_seatOf(id, 1)), _active(_seatOf(id, 2))];
        _waitForReveals(id);
        _settle(id);
        Check.eq(batches.batchOf(id).round, 1, "redrawn");
        Check.eq(_active(_seatOf(id, 0)), had[0], "who revealed loses nothing");
        Check.eq(had[1] - _active(_seatOf(id, 1)), 25 ether, "silence after a commitment");
        Check.eq(had[2] - _active(_seatOf(id, 2)), 25 ether, "silence after a commitment");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(_locked(_seatOf(id, i)), 0, "all seats are freed");
        }
        _holds(2 * FEE);
    }

    function testWithTwoCommitmentsAndNoRevealAllPayTheirOwnSilence() external {
        BatchId id = _drawn("redraw", 1);
        _commit(id, 0, 1, 0);
        _commit(id, 2, 1, 0);
        uint256[3] memory had = [_active(_seatOf(id, 0)), _active(_seatOf(id, 1)), _active(_seatOf(id, 2))];
        _waitForReveals(id);
        _settle(id);
        Check.eq(had[0] - _active(_seatOf(id, 0)), 25 ether, "no reveal");
        Check.eq(had[1] - _active(_seatOf(id, 1)), 10 ether, "no commitment");
        Check.eq(had[2] - _active(_seatOf(id, 2)), 25 ether, "no reveal");
        _holds(FEE);
    }

    function testAVoteOfAnEarlierRoundIsNone() external {
        BatchId id = _drawn("redraw", 1);
        _commit(id, 0, 1, 0);
        bytes32 old = _commitment(id, _seatOf(id, 0), 1, 0);
        _waitForCommits(id);
        _reveal(id, 0, 1, 0);
        _settle(id);
        _draw(id);
        (bool revealed,,) = batches.voteOf(id, 0, 0);
        Check.yes(!revealed, "of the first round");
        // Its commitment opens nothing in the second round, not even as the same verifier's.
        address first = _seatOf(id, 0);
        IStaking.Seat[] memory seats = _seatsOf(id);
        vm.prank(first);
        batches.commit(id, seats, 0, old);
        _commit(id, 1, 1, 0);
        _commit(id, 2, 1, 0);
        _refusedReveal(
            abi.encodeWithSelector(
                IBatches.BatchesCommitmentMismatch.selector, old, _commitment(id, first, 1, 0)
            ),
            id,
            first,
            0,
            1,
            0
        );
    }

    function testAfterTheLastRoundTheBatchIsVoidAndTheFeeBurned() external {
        BatchId id = _void("void", 2);
        Check.eq(_state(id), uint256(IBatches.State.Void), "void");
        Check.eq(uint256(batches.batchOf(id).committee), 0, "nobody's any more");
        Check.eq(_active(NODE), STAKE, "the node loses nothing");
        Check.eq(_locked(NODE), 0, "and is free");
        _holds(0);
        (uint256 leaves, uint256 accepted, uint256 rejected,, bool settled, bool isFinal) = batches.resultOf(id);
        Check.yes(leaves == 2 && accepted == 0 && rejected == 0 && !settled && !isFinal, "no result");
        Check.eq(BatchId.unwrap(_anchor("void", 2)), BatchId.unwrap(id), "the same answers again");
        Check.eq(batches.batchOf(id).round, 0, "afresh");
        _draw(id);
        _vote(id, 3, 0, 3, 0, 3, 0);
        Check.eq(batches.batchOf(id).accepted, 3, "judged");
        _finalize(id);
        _holds(0);
    }

    /// What was rejected before the batch was void must not turn an inconclusive vote into a rejection.
    function testVotesOnAVoidBatchAreForgotten() external {
        BatchId id = _drawn("void", 1);
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, 0, 1);
        }
        _reveal(id, 0, 0, 1);
        _waitForReveals(id);
        _settle(id);
        _draw(id);
        _waitForCommits(id);
        _settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Void), "void");
        _mine(EPOCH_BLOCKS);
        _anchor("void", 1);
        _draw(id);
        _vote(id, 0, 0, 0, 1, 0, 0);
        (, uint256 accepts, uint256 rejects) = batches.voteOf(id, 0, 0);
        Check.eq(accepts | rejects, 0, "inconclusive");
        Check.eq(batches.batchOf(id).rejected, 0, "one rejection is no majority");
    }

    function testAVoidedCalibrationCostsItsFee() external {
        uint256 before = staking.creditOf(NODE);
        BatchId id = _answer(_request(NODE, Role.Node), "calibration");
        Check.eq(before - staking.creditOf(NODE), 2 * FEE, "paid");
        _waitForCommits(id);
        _settle(id);
        _draw(id);
        _waitForCommits(id);
        vm.expectEmit(address(batches));
        emit IBatches.BatchVoided(id, IBatches.VoidReason.NoQuorum);
        _settle(id);
        Check.eq(before - staking.creditOf(NODE), 2 * FEE, "burned");
        Check.eq(_locked(NODE), 0, "nothing was locked");
    }

    function testFuzz_aCalibrationTellsTheMedianDistance(uint32 d0, uint32 d1, uint32 d2) external {
        BatchId id = _answer(_request(NODE, Role.Node), "calibration");
        Check.yes(batches.batchOf(id).calibration, "a calibration");
        uint32[3] memory distances = [d0, d1, d2];
        _report(id, distances, 3);
        uint256 max = d0 > d1 ? d0 : d1;
        uint256 min = d0 > d1 ? d1 : d0;
        uint256 median = d2 < min ? min : d2 > max ? max : d2;
        Check.eq(calibration.resultOf(NODE, Role.Node, model).distancePpm, median, "the middle one");
    }

    function testFuzz_ofTwoDistancesTheLargerCounts(uint32 d0, uint32 d1, uint8 silent) external {
        BatchId id = _answer(_request(NODE, Role.Node), "calibration");
        silent = silent % 3;
        uint32[3] memory distances;
        distances[(silent + 1) % 3] = d0;
        distances[(silent + 2) % 3] = d1;
        _report(id, distances, silent);
        Check.eq(calibration.resultOf(NODE, Role.Node, model).distancePpm, d0 > d1 ? d0 : d1, "the larger one");
    }

    function testDistancesOfAnEarlierRoundAreForgotten() external {
        BatchId id = _answer(_request(NODE, Role.Node), "calibration");
        uint32[3] memory distances = [type(uint32).max, 0, 0];
        _castAll(id, distances, 3);
        _openOne(id, 0, distances[0]);
        _waitForReveals(id);
        _settle(id);
        _draw(id);
        distances[0] = 1;
        _report(id, distances, 3);
        Check.eq(calibration.resultOf(NODE, Role.Node, model).distancePpm, 0, "of the second round only");
    }

    function testDistancesOfAVoidBatchAreForgotten() external {
        BatchId id = _answer(_request(NODE, Role.Node), "calibration");
        _waitForCommits(id);
        _settle(id);
        _draw(id);
        uint32[3] memory distances = [type(uint32).max, 0, 0];
        _castAll(id, distances, 3);
        _openOne(id, 0, distances[0]);
        _waitForReveals(id);
        _settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Void), "void");
        _nextEpoch();
        // The same answers to another challenge are the same batch.
        Check.eq(BatchId.unwrap(_answer(_request(NODE, Role.Node), "calibration")), BatchId.unwrap(id), "same");
        distances = [uint32(0), 1, 2];
        _report(id, distances, 3);
        Check.eq(calibration.resultOf(NODE, Role.Node, model).distancePpm, 1, "of the second life only");
    }

    function testACalibrationIsAnchoredWithItsChallenge() external {
        ChallengeId challenge = _request(NODE, Role.Node);
        _mine(3);
        _seal(challenge);
        BatchId id = batches.batchIdOf(Header(NODE, model, "root", NO_CANARY));
        vm.expectEmit(address(batches));
        emit IBatches.BatchAnchored(id, NODE, model, "root", NO_CANARY, 2, challenge, blockNumber + 2, 1);
        vm.prank(NODE);
        batches.anchorCalibration(challenge, "root", NO_CANARY, 100);
        Check.eq(_locked(NODE), 0, "locks no stake");
    }

    function testCalibrationsThatAreRefused() external {
        ChallengeId challenge = _request(NODE, Role.Node);
        _mine(3);
        _seal(challenge);
        ChallengeId none = ChallengeId.wrap("none");
        vm.startPrank(NODE);
        vm.expectRevert(abi.encodeWithSelector(ICalibration.CalibrationUnknownChallenge.selector, none));
        batches.anchorCalibration(none, "root", NO_CANARY, 100);
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesRootZero.selector));
        batches.anchorCalibration(challenge, 0, NO_CANARY, 100);
        staking.withdrawCredit();
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingInsufficientCredit.selector, 0, 2 * FEE));
        batches.anchorCalibration(challenge, "root", NO_CANARY, 100);
        staking.addCredit(10 * FEE);
        batches.anchorCalibration(challenge, "root", NO_CANARY, 100);
        vm.expectPartialRevert(IBatches.BatchesAlreadyAnchored.selector);
        batches.anchorCalibration(challenge, "root", NO_CANARY, 100);
        vm.stopPrank();
    }

    /// A seat that found too little free stake locks less; releasing it must not release what others locked.
    function testAnUndercoveredSeatReleasesOnlyWhatItLocked() external {
        for (uint256 i = 0; i < verifiers; ++i) {
            address verifier = _verifier(i);
            uint256 active = _active(verifier);
            vm.prank(verifier);
            staking.unbond(verifier, active - 70 ether); // a seat and a bit
        }
        // What is unbonding would cover a seat, too. Weights count on until the epoch ends.
        _wait(UNBONDING);
        for (uint256 i = 0; i < verifiers; ++i) {
            vm.prank(_verifier(i));
            staking.withdraw(_verifier(i));
        }
        BatchId first = _drawn("first", 1);
        BatchId second = _drawn("second", 1);
        uint256 partly = 0;
        for (uint256 k = 0; k < 3; ++k) {
            if (_seatsOf(second)[k].locked == 10 ether) ++partly;
        }
        Check.yes(partly > 0, "some sit in both");
        _vote(second, 1, 0, 1, 0, 1, 0);
        _finalize(second);
        for (uint256 k = 0; k < 3; ++k) {
            Check.eq(_locked(_seatOf(first, k)), 60 ether, "the first seat's lock stays");
        }
        Check.eq(_state(first), uint256(IBatches.State.Drawn), "open");
        _waitForCommits(first);
        _settle(first);
        for (uint256 i = 0; i < verifiers; ++i) {
            Check.eq(_locked(_verifier(i)), 0, "all free");
        }
        _holds(FEE);
    }

    function testAChangeOfParametersDoesNotReachOpenBatches() external {
        BatchId id = _anchor("old", 2);
        IParameters.Values memory values = _values();
        values.stakePerLeafWei = 5 ether;
        values.refundPerLeafWei = 2 ether;
        values.verifierFeePerLeafWei = 1 ether;
        values.drawDelayBlocks = 7;
        values.commitSeconds = 1;
        values.revealSeconds = 1;
        values.noRevealPenaltyWei = 40 ether;
        values.maxRounds = 1;
        vm.expectEmit(address(batches));
        emit IBatches.TermsAdopted(2);
        Check.eq(parameters.set(values), 2, "version");
        Check.eq(keccak256(abi.encode(batches.termsOf(1))), keccak256(abi.encode(_terms(_values()))), "the old terms");
        Check.eq(keccak256(abi.encode(batches.termsOf(2))), keccak256(abi.encode(_terms(values))), "the new terms");

        _draw(id);
        Check.eq(_clock(id), timestamp + 120, "old deadline");
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, 3, 0);
        }
        _wait(60);
        _reveal(id, 0, 3, 0);
        _reveal(id, 1, 3, 0);
        _wait(1);
        address silent = _seatOf(id, 2);
        uint256 before = _active(silent);
        _settle(id);
        Check.eq(before - _active(silent), 25 ether, "old penalty");
        _holds(2 * FEE);
        BatchId next = _anchor("new", 2);
        Check.eq(batches.batchOf(next).terms, 2, "new terms");
        Check.eq(batches.batchOf(next).clock, blockNumber + 7, "new delay");
        Check.eq(_locked(NODE), 12 ether, "old and new stake");
        _finalize(id);
        Check.eq(_locked(NODE), 10 ether, "each unlocks its own");
        _holds(2 ether);
    }

    function testOnlyParametersGivesTermsAndNeverTwice() external {
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesUnauthorized.selector, address(this)));
        IBatchTerms(address(batches)).adopt(2, _values());
        vm.prank(address(parameters));
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesTermsExist.selector, 1));
        IBatchTerms(address(batches)).adopt(1, _values());
        vm.prank(address(parameters));
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesTermsExist.selector, 0));
        IBatchTerms(address(batches)).adopt(0, _values());
    }

    function testOnlyFinalityFinishesAndNotes() external {
        BatchId id = _settled("root", 1);
        address[4] memory others = [STRANGER, address(appeals), address(staking), address(batches)];
        for (uint256 i = 0; i < 4; ++i) {
            bytes memory error_ = abi.encodeWithSelector(IBatches.BatchesUnauthorized.selector, others[i]);
            vm.startPrank(others[i]);
            vm.expectRevert(error_);
            batches.finish(id, 7);
            vm.expectRevert(error_);
            batches.note(id, 7, false);
            vm.stopPrank();
        }
        vm.prank(address(finality));
        batches.note(id, 5, false);
        IBatches.Batch memory batch = batches.batchOf(id);
        Check.yes(batch.marked && batch.penalised == 5, "noted");
        Check.eq(uint256(batch.state), uint256(IBatches.State.Settled), "not finished");
        _wait(77);
        vm.prank(address(finality));
        batches.finish(id, 7);
        batch = batches.batchOf(id);
        Check.yes(batch.marked && batch.penalised == 7, "noted");
        Check.eq(uint256(batch.state), uint256(IBatches.State.Final), "finished");
        Check.eq(batch.clock, timestamp, "since when");
        Check.eq(batch.accepted, 1, "the verdict stays");
    }

    function testBatchesTellsFinalitysVerdicts() external {
        BatchId id = _drawn("root", 2);
        _vote(id, 1, 2, 1, 2, 1, 2);
        (IVerdicts.Verdict verdict, bool isFinal) = batches.verdictOf(id, 1);
        Check.yes(verdict == IVerdicts.Verdict.Rejected && !isFinal, "verdict");
        (uint256 leaves, uint256 accepted, uint256 rejected,, bool settled, bool final_) = batches.resultOf(id);
        Check.yes(leaves == 2 && accepted == 1 && rejected == 2 && settled && !final_, "result");
    }

    function testNoCounterpartMayBeMissing() external {
        for (uint256 i = 0; i < 8; ++i) {
            address[8] memory parts;
            for (uint256 k = 0; k < 8; ++k) {
                parts[k] = k == i ? address(0) : address(committees);
            }
            bytes memory code =
                bytes.concat(vm.getCode("Batches"), abi.encode(parts, address(this), GUARDIAN));
            vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesZeroAddress.selector));
            factory.deploy("missing", code);
        }
    }

    /// A batch that two committees did not judge.
    function _void(bytes32 root, uint256 leaves) private returns (BatchId id) {
        uint256 credit = staking.creditOf(NODE);
        id = _drawn(root, leaves);
        for (uint256 i = 0; i < 2; ++i) {
            if (i > 0) _draw(id);
            _waitForCommits(id);
            if (i == 1) {
                vm.expectEmit(address(batches));
                emit IBatches.BatchVoided(id, IBatches.VoidReason.NoQuorum);
            }
            _settle(id);
        }
        Check.eq(credit - staking.creditOf(NODE), leaves * FEE, "the fee is burned");
    }

    function _refusedAnchor(bytes memory error_, address who, ModelId modelId, bytes32 root, uint256 leaves) private {
        vm.expectRevert(error_);
        vm.prank(who);
        batches.anchor(modelId, root, NO_CANARY, leaves);
    }

    /// All leaves accepted with these distances; one seat may keep silent.
    function _report(BatchId id, uint32[3] memory distances, uint256 silent) private {
        _castAll(id, distances, silent);
        if (silent < 3) _waitForCommits(id);
        for (uint256 i = 0; i < 3; ++i) {
            if (i != silent) _openOne(id, i, distances[i]);
        }
        if (silent < 3) _settle(id);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
    }

    function _castAll(BatchId id, uint32[3] memory distances, uint256 silent) private {
        uint8 round = batches.batchOf(id).round;
        IStaking.Seat[] memory seats = _seatsOf(id);
        for (uint256 i = 0; i < 3; ++i) {
            if (i == silent) continue;
            bytes32 commitment = keccak256(
                abi.encode(block.chainid, batches, id, round, seats[i].verifier, 3, 0, distances[i], SALT)
            );
            vm.prank(seats[i].verifier);
            batches.commit(id, seats, i, commitment);
        }
    }

    function _openOne(BatchId id, uint256 seat, uint32 distance) private {
        IStaking.Seat[] memory seats = _seatsOf(id);
        vm.prank(seats[seat].verifier);
        batches.reveal(_headerOf(id), seats, seat, 3, 0, distance, SALT);
    }

    function _terms(IParameters.Values memory values) private pure returns (IBatches.Terms memory) {
        return IBatches.Terms({
            stakePerLeafWei: values.stakePerLeafWei,
            verifierFeePerLeafWei: values.verifierFeePerLeafWei,
            verifierFeePerTokenWei: values.verifierFeePerTokenWei,
            maxBatchTokens: values.maxBatchTokens,
            checkTokensPerSecond: values.checkTokensPerSecond,
            maxCheckSeconds: values.maxCheckSeconds,
            drawDelayBlocks: values.drawDelayBlocks,
            maxRounds: values.maxRounds,
            commitSeconds: values.commitSeconds,
            revealSeconds: values.revealSeconds,
            seatStakeWei: values.seatStakeWei,
            refundPerLeafWei: values.refundPerLeafWei,
            appealWindowSeconds: values.appealWindowSeconds,
            dissentFineWei: values.dissentFineWei,
            overturnedFineWei: values.overturnedFineWei,
            wrongVotePenaltyWei: values.wrongVotePenaltyWei,
            noRevealPenaltyWei: values.noRevealPenaltyWei,
            noCommitPenaltyWei: values.noCommitPenaltyWei,
            canaryPenaltyWei: values.canaryPenaltyWei
        });
    }
}
