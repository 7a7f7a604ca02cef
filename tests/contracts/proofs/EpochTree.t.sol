// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EpochTree} from "../../../contracts/libraries/EpochTree.sol";

/// @notice The words of a sum tree: fields do not touch one another, and picking finds the range of a target.
/// Assumed of a word, as `set` keeps it: its seven sums together do not exceed MAX_TOTAL.
contract EpochTreeProofs {
    function check_sumOfSevenFields(uint256 word) external pure {
        (bool valid, uint256 sum) = _sum(word, 7);
        if (!valid) return;
        assert(EpochTree.sumOf(word) == sum);
    }

    function check_findGivesTheSlotWhoseRangeHoldsTheTarget(uint256 word, uint256 target) external pure {
        (bool valid, uint256 sum) = _sum(word, 7);
        if (!valid || target >= sum) return;
        (uint256 slot, uint256 rest) = EpochTree.find(word, target);
        uint256 start = 0;
        for (uint256 i = 0; i < 7; ++i) {
            uint256 end = start + EpochTree.sumAt(word, i);
            if (target < end) {
                assert(slot == i);
                assert(rest == target - start);
                return;
            }
            start = end;
        }
        assert(false);
    }

    function check_putTouchesOnlyItsSlot(uint256 word, uint256 slot, uint256 other, uint256 version, uint256 sum)
        external
        pure
    {
        if (slot >= 7 || other >= 7 || version >= 3 || sum > EpochTree.MAX_TOTAL) return;
        uint256 changed = EpochTree.put(word, slot, version, sum);
        assert(EpochTree.sumAt(changed, slot) == sum);
        assert(EpochTree.versionAt(changed, slot) == version);
        assert(changed >> 224 == word >> 224);
        if (other == slot) return;
        assert(EpochTree.sumAt(changed, other) == EpochTree.sumAt(word, other));
        assert(EpochTree.versionAt(changed, other) == EpochTree.versionAt(word, other));
    }

    function check_stampTouchesOnlyTheEpoch(uint256 word, uint32 epoch, uint256 slot) external pure {
        if (slot >= 7) return;
        uint256 stamped = EpochTree.stamp(word, epoch);
        assert(stamped >> 224 == epoch);
        assert(EpochTree.sumAt(stamped, slot) == EpochTree.sumAt(word, slot));
        assert(EpochTree.versionAt(stamped, slot) == EpochTree.versionAt(word, slot));
    }

    function _sum(uint256 word, uint256 slots) private pure returns (bool valid, uint256 sum) {
        for (uint256 i = 0; i < slots; ++i) {
            sum += (word >> (32 * i)) & EpochTree.MAX_TOTAL;
        }
        valid = sum <= EpochTree.MAX_TOTAL;
    }
}

/// @notice A whole tree of one level, for all weights: two updates in consecutive epochs leave the epochs before alone.
contract EpochTreeFreezeProofs {
    using EpochTree for EpochTree.Tree;
    using EpochTree for EpochTree.Snapshot;

    EpochTree.Tree private _tree;

    function check_anUpdateChangesNothingBeforeTheNextEpoch(uint24 first, uint24 second, uint24 third) external {
        _tree.set(0, first, 100);
        _tree.set(1, second, 101);
        _tree.set(0, third, 102);
        _same(101, first, 0);
        _same(102, first, second);
        _same(103, third, second);
    }

    function _same(uint256 epoch, uint256 zero, uint256 one) private view {
        EpochTree.Snapshot memory snapshot = _tree.asOf(epoch);
        assert(snapshot.total() == zero + one);
        assert(_tree.weightAt(snapshot, 0) == zero);
        assert(_tree.weightAt(snapshot, 1) == one);
    }
}
