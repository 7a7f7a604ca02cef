// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EpochTree} from "../../contracts/libraries/EpochTree.sol";
import {Check, vm} from "./Vm.sol";

/// @notice A tree beside its naive twin: every epoch's weights in an array of their own.
contract EpochTreeTest {
    using EpochTree for EpochTree.Tree;
    using EpochTree for EpochTree.Snapshot;

    uint256 private constant POSITIONS = 60; // three levels
    uint256 private constant START = 1000;
    // As documented, and not as the library has it: both are promises.
    uint256 private constant MAX_TOTAL = 1_073_741_823;

    EpochTree.Tree private _tree;
    uint256 private _epoch = START;
    /// Weights that count in the epoch; the newest is the pending one, _epoch + 1.
    mapping(uint256 epoch => uint256[POSITIONS] weights) private _weights;

    function testFuzz_everyEpochReadsLikeItsOwnArray(uint256 random) external {
        for (uint256 i = 0; i < 48; ++i) {
            random = uint256(keccak256(abi.encode(random)));
            if (random % 3 == 0) _advance(1 + (random >> 8) % 3);
            // Positions come in order of joining; here they jump, too.
            uint256 position = (random >> 16) % (i < 12 ? 7 : POSITIONS);
            _set(position, (random >> 32) % 4 == 0 ? 0 : (random >> 64) % (1 << 24));
            _checkEpoch(_epoch - 1, random);
            _checkEpoch(_epoch, random);
            _checkEpoch(_epoch + 1, random);
        }
    }

    function testFuzz_nothingDoneInAnEpochChangesItsDrawsOrThoseBefore(uint256 random) external {
        for (uint256 i = 0; i < 10; ++i) {
            _set(i, 1 + uint256(keccak256(abi.encode(random, i))) % 1000);
            if (i == 4) _advance(1);
        }
        _advance(1);
        bytes32 before = keccak256(abi.encode(_draws(_epoch, random), _draws(_epoch - 1, random)));
        uint256 update = random;
        for (uint256 i = 0; i < 24; ++i) {
            update = uint256(keccak256(abi.encode(update)));
            // Also beyond the frozen tree's depth.
            _tree.set(update % 400, (update >> 32) % (1 << 24), _epoch);
        }
        Check.eq(
            keccak256(abi.encode(_draws(_epoch, random), _draws(_epoch - 1, random))), before, "the same positions"
        );
    }

    function testAWeightCountsFromTheNextEpoch() external {
        _tree.set(0, 5, START);
        Check.eq(_tree.asOf(START).total(), 0, "not yet");
        Check.eq(_tree.asOf(START + 1).total(), 5, "then");
        Check.eq(_tree.asOf(START + 100).total(), 5, "and until it changes");
    }

    function testNobodyHasWeightInAnEmptyTree() external view {
        EpochTree.Snapshot memory empty = _tree.asOf(START);
        Check.eq(empty.depth + empty.total() + empty.eligible, 0, "empty");
        Check.eq(_tree.weightAt(empty, 0), 0, "the first position");
        Check.eq(_tree.weightAt(empty, 1), 0, "the second");
    }

    function testTheLastWordOfAnEpochCounts() external {
        _tree.set(0, 5, START);
        _tree.set(0, 9, START);
        _tree.set(1, 3, START);
        _tree.set(1, 0, START);
        EpochTree.Snapshot memory next = _tree.asOf(START + 1);
        Check.eq(next.total(), 9, "total");
        Check.eq(next.eligible, 1, "members with weight");
    }

    function testSettingTellsWhatCountedBefore() external {
        (uint256 before, uint256 counts) = _tree.set(3, 5, START);
        Check.eq(before, 0, "new");
        Check.eq(counts, 5, "its weight");
        (before, counts) = _tree.set(3, 7, START + 4);
        Check.eq(before, 5, "old weight");
        Check.eq(counts, 7, "new weight");
    }

    function testAnOlderTreeThanThreeIsRefusedNotMisread() external {
        for (uint256 e = START; e < START + 4; ++e) {
            _tree.set(0, e, e);
        }
        Check.eq(_tree.asOf(START + 2).total(), START + 1, "the oldest of the three");
        vm.expectRevert(abi.encodeWithSelector(EpochTree.EpochTreeForgotten.selector, START + 1));
        this.asOf(START + 1);
    }

    function testTimeDoesNotRunBackwards() external {
        _tree.set(0, 1, START);
        vm.expectRevert(abi.encodeWithSelector(EpochTree.EpochTreePassed.selector, START - 1, START + 1));
        this.set(0, 2, START - 1);
    }

    function testPickBeyondTheTotalReverts() external {
        _tree.set(0, 5, START);
        vm.expectRevert(abi.encodeWithSelector(EpochTree.EpochTreeTargetOutOfRange.selector, 5, 5));
        this.pick(START + 1, 5);
        vm.expectRevert(abi.encodeWithSelector(EpochTree.EpochTreeTargetOutOfRange.selector, 0, 0));
        this.pick(START, 0);
    }

    function testDepthGrowsWithoutMovingOlderEpochs() external {
        for (uint256 i = 0; i < 7; ++i) {
            _tree.set(i, 10 + i, START);
        }
        for (uint256 i = 7; i < 7 ** 3 + 1; ++i) {
            _tree.set(i, 1, START + 1);
        }
        EpochTree.Snapshot memory frozen = _tree.asOf(START + 1);
        EpochTree.Snapshot memory grown = _tree.asOf(START + 2);
        Check.eq(frozen.depth, 1, "depth then");
        Check.eq(grown.depth, 4, "depth now");
        Check.eq(frozen.total(), 91, "total then");
        Check.eq(grown.total(), 91 + 7 ** 3 - 6, "total now");
        for (uint256 target = 0; target < 91; ++target) {
            Check.eq(_tree.pick(frozen, target), _tree.pick(grown, target), "first positions keep their place");
        }
        Check.eq(_tree.pick(grown, grown.total() - 1), 7 ** 3, "the last one");
        Check.eq(_tree.weightAt(frozen, 7), 0, "beyond the frozen tree");
    }

    function testAFullTreeLowersWeightsInsteadOfReverting() external {
        _tree.set(0, MAX_TOTAL - 3, START);
        (, uint256 counts) = _tree.set(1, 10, START);
        Check.eq(counts, 3, "what is left");
        (, counts) = _tree.set(2, 10, START);
        Check.eq(counts, 0, "nothing is left");
        Check.eq(_tree.asOf(START + 1).total(), MAX_TOTAL, "full");
        Check.eq(_tree.asOf(START + 1).eligible, 2, "who has weight");
        _tree.set(0, 1, START);
        (, counts) = _tree.set(2, 10, START);
        Check.eq(counts, 10, "room again");
    }

    function testAFullTreeStillGrowsLater() external {
        _tree.set(0, MAX_TOTAL, START);
        _tree.set(60, 1, START);
        Check.eq(_tree.latest().depth, 1, "nothing to add");
        _tree.set(0, 7, START + 1);
        _tree.set(60, 1, START + 1);
        Check.eq(_tree.latest().depth, 3, "three levels");
        Check.eq(_tree.latest().total(), 8, "total");
        Check.eq(_tree.pick(_tree.latest(), 7), 60, "found");
    }

    function testAPositionBeyondTheDeepestTreeIsRefused() external {
        _tree.set(7 ** 10 - 1, 1, START);
        Check.eq(_tree.pick(_tree.latest(), 0), 7 ** 10 - 1, "the last position");
        vm.expectRevert(abi.encodeWithSelector(EpochTree.EpochTreeFull.selector, 7 ** 10));
        this.set(7 ** 10, 1, START);
    }

    function asOf(uint256 epoch) external view returns (EpochTree.Snapshot memory) {
        return _tree.asOf(epoch);
    }

    function pick(uint256 epoch, uint256 target) external view returns (uint256) {
        return _tree.pick(_tree.asOf(epoch), target);
    }

    function set(uint256 position, uint256 weight, uint256 epoch) external {
        _tree.set(position, weight, epoch);
    }

    function _set(uint256 position, uint256 weight) private {
        _tree.set(position, weight, _epoch);
        _weights[_epoch + 1][position] = weight;
    }

    function _advance(uint256 epochs) private {
        for (uint256 i = 0; i < epochs; ++i) {
            ++_epoch;
            _weights[_epoch + 1] = _weights[_epoch];
        }
    }

    function _checkEpoch(uint256 epoch, uint256 random) private view {
        uint256[POSITIONS] memory weights = _weights[epoch];
        EpochTree.Snapshot memory snapshot = _tree.asOf(epoch);
        uint256 total = 0;
        uint256 eligible = 0;
        for (uint256 i = 0; i < POSITIONS; ++i) {
            total += weights[i];
            if (weights[i] > 0) ++eligible;
        }
        Check.eq(snapshot.total(), total, "total");
        Check.eq(snapshot.eligible, eligible, "eligible");
        uint256 position = (random >> 128) % POSITIONS;
        Check.eq(_tree.weightAt(snapshot, position), weights[position], "weight");
        if (total == 0) return;
        _checkPick(weights, snapshot, 0);
        _checkPick(weights, snapshot, total - 1);
        _checkPick(weights, snapshot, random % total);
        // A member's first and last target, unless it has no weight.
        uint256 start = 0;
        for (uint256 i = 0; i < position; ++i) {
            start += weights[i];
        }
        if (weights[position] == 0) return;
        Check.eq(_tree.pick(snapshot, start), position, "first of a range");
        Check.eq(_tree.pick(snapshot, start + weights[position] - 1), position, "last of a range");
    }

    function _checkPick(uint256[POSITIONS] memory weights, EpochTree.Snapshot memory snapshot, uint256 target)
        private
        view
    {
        uint256 left = target;
        uint256 expected = 0;
        while (left >= weights[expected]) {
            left -= weights[expected];
            ++expected;
        }
        Check.eq(_tree.pick(snapshot, target), expected, "pick");
    }

    function _draws(uint256 epoch, uint256 random) private view returns (uint256[] memory positions) {
        EpochTree.Snapshot memory snapshot = _tree.asOf(epoch);
        positions = new uint256[](20);
        for (uint256 i = 0; i < positions.length; ++i) {
            positions[i] = _tree.pick(snapshot, uint256(keccak256(abi.encode(random, i))) % snapshot.total());
        }
    }
}
