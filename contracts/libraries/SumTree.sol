// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Weighted pool of accounts in a 4-ary sum tree
/// @notice Four 64-bit sums share a word, so setting a weight writes one word a level and picking reads one.
/// Level 0 holds the members' weights, level l + 1 the sums of level l's words. Positions are handed out in order of
/// joining and stay with their member for good, so the tree's depth is bounded by the number of distinct members.
library SumTree {
    uint256 private constant SLOT_BITS = 64;
    uint256 private constant SLOT_MASK = type(uint64).max;

    struct Tree {
        address[] members;
        mapping(address member => uint256 positionPlusOne) positions;
        mapping(uint256 level => mapping(uint256 word => uint256 sums)) levels;
        uint256 depth; // levels in use
        uint256 nonzero; // members with weight
    }

    error SumTreeOutOfRange(uint256 target, uint256 total);

    /// @notice Sets a member's weight, adding the member if it is new. O(log n).
    function set(Tree storage tree, address member, uint64 weight) internal {
        uint256 positionPlusOne = tree.positions[member];
        if (positionPlusOne == 0) {
            if (weight == 0) return;
            tree.members.push(member);
            positionPlusOne = tree.members.length;
            tree.positions[member] = positionPlusOne;
            _deepen(tree);
        }
        uint256 index = positionPlusOne - 1;
        uint64 previous = _slot(tree.levels[0][index >> 2], index & 3);
        if (previous == weight) return;
        if (previous == 0) ++tree.nonzero;
        if (weight == 0) --tree.nonzero;
        uint256 depth = tree.depth;
        for (uint256 level = 0; level < depth; ++level) {
            uint256 word = tree.levels[level][index >> 2];
            uint256 shift = (index & 3) * SLOT_BITS;
            uint256 sum = uint256(uint64(word >> shift)) + weight - previous;
            // The total of all weights must fit a slot: checked on every level, so also on the top one.
            tree.levels[level][index >> 2] =
                (word & ~(SLOT_MASK << shift)) | (uint256(SafeCast.toUint64(sum)) << shift);
            index >>= 2;
        }
        // Reverts when it does not fit.
        // slither-disable-next-line unused-return
        SafeCast.toUint64(total(tree));
    }

    /// @notice First member, in position order, whose cumulative weight exceeds `target`.
    function pick(Tree storage tree, uint256 target) internal view returns (address member) {
        uint256 sum = total(tree);
        require(target < sum, SumTreeOutOfRange(target, sum));
        uint256 index = 0;
        for (uint256 level = tree.depth; level > 0; --level) {
            uint256 word = tree.levels[level - 1][index];
            uint256 slot = 0;
            uint256 weight = uint64(word);
            while (target >= weight) {
                target -= weight;
                ++slot;
                weight = uint64(word >> (slot * SLOT_BITS));
            }
            index = (index << 2) | slot;
        }
        return tree.members[index];
    }

    /// @notice Sum of all weights.
    function total(Tree storage tree) internal view returns (uint256 sum) {
        uint256 depth = tree.depth;
        if (depth == 0) return 0;
        uint256 word = tree.levels[depth - 1][0];
        return uint256(_slot(word, 0)) + _slot(word, 1) + _slot(word, 2) + _slot(word, 3);
    }

    function weightOf(Tree storage tree, address member) internal view returns (uint64) {
        uint256 positionPlusOne = tree.positions[member];
        if (positionPlusOne == 0) return 0;
        return weightAt(tree, positionPlusOne - 1);
    }

    function weightAt(Tree storage tree, uint256 index) internal view returns (uint64) {
        return _slot(tree.levels[0][index >> 2], index & 3);
    }

    /// @dev Adds levels until the top one is a single word, carrying the old top's sum into the new one.
    function _deepen(Tree storage tree) private {
        uint256 capacity = 4 ** tree.depth;
        while (capacity < tree.members.length || tree.depth == 0) {
            uint256 sum = total(tree);
            tree.levels[tree.depth][0] = sum;
            ++tree.depth;
            capacity *= 4;
        }
    }

    function _slot(uint256 word, uint256 slot) private pure returns (uint64) {
        return uint64(word >> (slot * SLOT_BITS));
    }
}
