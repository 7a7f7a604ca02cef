// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {LeafLib, Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {Metering} from "../../contracts/libraries/Metering.sol";
import {BatchId, ModelId} from "../../contracts/types/Types.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice Fees, windows and sizes go by tokens, and a root cannot claim fewer tokens than its leaves have.
contract MeteringTest is World {
    uint256 private constant TOKENS = 12_345;

    function setUp() external {
        _calibratedWorld();
    }

    function verify(bytes32[] calldata proof, bytes32 root, bytes32 leaf) external pure returns (bool) {
        return LeafLib.verify(proof, root, leaf);
    }

    function parent(bytes32 a, bytes32 b) external pure returns (bytes32) {
        return LeafLib.parent(a, b);
    }

    function testTheFeeGoesByTokens() external {
        IParameters.Values memory v = _values();
        uint256 fee = 4 * uint256(v.verifierFeePerLeafWei) + TOKENS * v.verifierFeePerTokenWei;
        uint256 before = staking.creditOf(NODE);
        BatchId id = _drawn(_root("a", TOKENS), 4);
        Check.eq(before - staking.creditOf(NODE), fee, "taken when anchored");
        IStaking.Seat[] memory seats = _seatsOf(id);
        uint256 active = staking.stakeOf(seats[0].verifier).active;
        _vote(id, 15, 0, 15, 0, 15, 0);
        _finalize(id);
        Check.eq(staking.stakeOf(seats[0].verifier).active - active, fee / 3, "shared by the seats");
    }

    function testAttackCommitteesThatAreKeptFromVotingAreNoFreeRedraw() external {
        IParameters.Values memory v = _values();
        uint256 fee = 4 * uint256(v.verifierFeePerLeafWei) + TOKENS * v.verifierFeePerTokenWei;
        uint256 before = staking.creditOf(NODE);
        BatchId id = _drawn(_root("a", TOKENS), 4);
        for (uint256 round = 0; round < _values().maxRounds; ++round) {
            if (round > 0) _draw(id);
            _wait(_values().commitSeconds + _values().maxCheckSeconds + 1);
            _settle(id);
        }
        Check.yes(batches.batchOf(id).state == IBatches.State.Void, "void");
        Check.eq(before - staking.creditOf(NODE), fee, "the fee is gone");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "and no stake: silence was not the node's");
        Check.eq(staking.stakeOf(NODE).locked, 0, "free");
    }

    function testABatchMayHoldSoManyTokensAndNotOneMore() external {
        uint256 most = _values().maxBatchTokens;
        _anchor(_root("most", most), 256);
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesTooManyTokens.selector, most + 1, most));
        vm.prank(NODE);
        batches.anchor(model, _root("more", most + 1), NO_CANARY, 256);
    }

    function testFuzz_theWindowLeavesTimeForTheTokens(uint24 tokens) external {
        uint256 claimed = tokens % (uint256(_values().maxBatchTokens) + 1);
        BatchId id = _drawn(_root("a", claimed), 1);
        uint256 work = (claimed + 99) / 100;
        Check.eq(batches.batchOf(id).clock, timestamp + work + _values().commitSeconds, "commit deadline");
    }

    /// Of five verifiers at least one sits on both committees: it does one after the other, and the deadline waits.
    function testWorkQueuesUpWithEachVerifier() external {
        BatchId first = _drawn(_root("a", 10_000), 1);
        BatchId second = _anchor(_root("b", 5000), 1);
        _draw(second);
        uint256 busiest = 0;
        IStaking.Seat[] memory seats = _seatsOf(second);
        for (uint256 i = 0; i < 3; ++i) {
            bool both = _sits(first, seats[i].verifier);
            uint256 until = staking.busyUntil(seats[i].verifier);
            Check.eq(until, timestamp + (both ? 150 : 50), "ten thousand and five thousand at a hundred a second");
            if (until > busiest) busiest = until;
        }
        Check.eq(busiest, timestamp + 150, "somebody sits on both");
        Check.eq(batches.batchOf(second).clock, busiest + _values().commitSeconds, "the busiest sets the deadline");
        // What was done in time is forgotten with time.
        _wait(1000);
        BatchId third = _anchor(_root("c", 100), 1);
        _draw(third);
        Check.eq(batches.batchOf(third).clock, timestamp + 1 + _values().commitSeconds, "nobody is busy any more");
    }

    /// Whoever floods the verifiers delays votes by no more than that, and pays for every token.
    function testNoQueueIsLongerThanTheMost() external {
        uint256 most = _values().maxBatchTokens;
        for (uint256 i = 0; i < 8; ++i) {
            BatchId id = _anchor(_root(bytes32(i + 1) << 64, most), 1);
            _draw(id);
            uint256 latest = timestamp + _values().maxCheckSeconds + _values().commitSeconds;
            Check.yes(batches.batchOf(id).clock <= latest, "bounded");
            if (i == 7) Check.eq(batches.batchOf(id).clock, latest, "and reached");
        }
    }

    function testFuzz_aRootCountsTheTokensOfItsLeaves(uint16[7] memory prompts, uint16[7] memory outputs) external view {
        Receipt[] memory receipts = _receipts(prompts, outputs);
        uint256 sum = 0;
        for (uint256 i = 0; i < 7; ++i) {
            sum += uint256(prompts[i]) + outputs[i];
        }
        Check.eq(LeafLib.tokensOf(Trees.root(receipts)), sum, "the sum");
        for (uint256 i = 0; i < 7; ++i) {
            Opening memory opening = Trees.open(receipts, i, NO_CANARY);
            Check.yes(this.verify(opening.proof, opening.root, LeafLib.leafHash(i, receipts[i])), "opens");
        }
    }

    /// A node that claims too few tokens for one leaf can open all others and never that one.
    function testFuzz_whoClaimsTooFewTokensCannotShowTheLeaf(
        uint16[7] memory prompts,
        uint16[7] memory outputs,
        uint256 which,
        uint256 claimed
    ) external view {
        Receipt[] memory receipts = _receipts(prompts, outputs);
        which %= 7;
        uint256 actual = uint256(prompts[which]) + outputs[which];
        if (actual == 0) return;
        claimed %= actual;
        bytes32[] memory leaves = new bytes32[](7);
        for (uint256 i = 0; i < 7; ++i) {
            leaves[i] = LeafLib.leafHash(i, receipts[i]);
        }
        leaves[which] = LeafLib.leafHash(which, LeafLib.structHash(receipts[which]), claimed);
        for (uint256 i = 0; i < 7; ++i) {
            Opening memory opening = Trees.open(leaves, i, receipts[i], NO_CANARY);
            bytes32 leaf = LeafLib.leafHash(i, receipts[i]);
            Check.yes(this.verify(opening.proof, opening.root, leaf) == (i != which), "only what is true");
        }
    }

    function testCountsDoNotWrapAround() external {
        bytes32 a = bytes32(uint256(type(uint32).max));
        vm.expectRevert(abi.encodeWithSelector(LeafLib.LeafTooManyTokens.selector, uint256(type(uint32).max) + 1));
        this.parent(a, bytes32(uint256(1)));
        Check.eq(LeafLib.tokensOf(this.parent(a, bytes32(uint256(1) << 32))), type(uint32).max, "the most");
    }

    function testFuzz_workIsRoundedUp(uint32 tokens, uint32 pace) external pure {
        if (pace == 0) return;
        uint256 work = Metering.workSeconds(bytes32(uint256(tokens)), pace);
        Check.yes(work * pace >= tokens, "enough");
        Check.yes(tokens == 0 || (work - 1) * pace < tokens, "and no more");
    }

    function _receipts(uint16[7] memory prompts, uint16[7] memory outputs)
        private
        view
        returns (Receipt[] memory receipts)
    {
        receipts = new Receipt[](7);
        for (uint256 i = 0; i < 7; ++i) {
            receipts[i].node = NODE;
            receipts[i].modelId = ModelId.unwrap(model);
            (receipts[i].promptTokens, receipts[i].outputTokens) = (prompts[i], outputs[i]);
        }
    }

    function _sits(BatchId id, address verifier) private view returns (bool) {
        IStaking.Seat[] memory seats = _seatsOf(id);
        for (uint256 i = 0; i < 3; ++i) {
            if (seats[i].verifier == verifier) return true;
        }
        return false;
    }
}
