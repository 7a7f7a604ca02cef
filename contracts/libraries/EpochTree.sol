// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

// Words of seven fields are written field by field; a path begins empty.
// slither-disable-start too-many-digits,uninitialized-local
/// @title Weights by position in a 7-ary sum tree that is frozen by epoch
/// @notice A weight set in epoch e counts from epoch e + 1 on; until then every reader of epoch e, or of the epoch
/// before, sees the tree as it was. So nothing done after an epoch's first block can move a draw of that epoch.
///
/// A node is one word: seven fields of 32 bits and, above them, the epoch from which the word counts. A field holds
/// the sum of one child in 30 bits and, above these, which of the child's three versions is meant. Writing copies the
/// path from the leaf to the root into the next version of each node, so every root leads to its own epoch's words
/// and reading costs one storage read a level, however often the tree has changed.
///
/// Three versions are enough: epoch e needs the trees of e - 1, e and, pending, e + 1, and a node has at most one
/// version an epoch. `roots` remembers the last three roots; whatever one of them leads to has not been overwritten,
/// because a node changes only together with the root. An older tree is refused, never misread.
///
/// A tree begins with one level and gets another when a position needs it. Roots remember their depth, so growing
/// does not disturb an older epoch. Depth never shrinks; it is bounded by MAX_DEPTH and by the positions handed out.
library EpochTree {
    using SafeCast for uint256;

    /// @dev 7^10 positions: more than anybody can pay to fill.
    uint256 internal constant MAX_DEPTH = 10;
    /// @dev A sum has 30 bits of its field.
    uint256 internal constant MAX_TOTAL = (1 << 30) - 1;

    uint256 private constant ARITY = 7;
    uint256 private constant FIELD_BITS = 32;
    uint256 private constant FIELD_MASK = type(uint32).max;
    uint256 private constant FIELDS_BITS = ARITY * FIELD_BITS;
    // The lowest bit, the sum and the highest bit of every field.
    uint256 private constant ONES = 0x00000001_00000001_00000001_00000001_00000001_00000001_00000001;
    uint256 private constant SUMS = 0x3fffffff_3fffffff_3fffffff_3fffffff_3fffffff_3fffffff_3fffffff;
    uint256 private constant HIGH_BITS = 0x80000000_80000000_80000000_80000000_80000000_80000000_80000000;
    uint256 private constant VERSIONS = 3;
    uint256 private constant VERSION_SHIFT = 30;
    uint256 private constant VERSION_BITS = 2;
    uint256 private constant VERSION_MASK = 3;
    uint256 private constant LEVEL_SHIFT = 248;

    // A root's record: epoch (32 bits), members with weight (32), depth (8), version of its node (8).
    uint256 private constant RECORD_BITS = 80;
    uint256 private constant RECORD_ELIGIBLE_SHIFT = 32;
    uint256 private constant RECORD_DEPTH_SHIFT = 64;
    uint256 private constant RECORD_VERSION_SHIFT = 72;

    struct Tree {
        uint256 roots; // three records, the newest lowest
        // level << 248 | index << 2 | version, where leaves are level 0
        mapping(uint256 key => uint256 word) nodes;
    }

    /// @notice One epoch's tree.
    struct Snapshot {
        uint256 depth; // levels
        uint256 root; // the root's word
        uint256 eligible; // positions with weight
    }

    error EpochTreeForgotten(uint256 epoch);
    error EpochTreePassed(uint256 epoch, uint256 newest);
    error EpochTreeFull(uint256 position);
    error EpochTreeTargetOutOfRange(uint256 target, uint256 total);

    /// @notice Sets a position's weight from epoch `epoch` + 1 on. O(log n); writes nothing if nothing changes.
    /// A weight that would lift the total above MAX_TOTAL is lowered to what is left of it: a full tree never reverts.
    /// @param epoch The epoch that it is now.
    /// @return before The weight that would have counted from then on without this.
    /// @return counts The weight that will count.
    function set(Tree storage tree, uint256 position, uint256 weight, uint256 epoch)
        internal
        returns (uint256 before, uint256 counts)
    {
        uint256 from = uint256((epoch + 1).toUint32());
        uint256 roots = tree.roots;
        require(uint32(roots) <= from, EpochTreePassed(epoch, uint32(roots)));
        uint256 depth = uint8(roots >> RECORD_DEPTH_SHIFT);
        uint256 version = uint8(roots >> RECORD_VERSION_SHIFT);
        if (depth == 0 || position >= _positions(depth)) {
            if (weight == 0) return (0, 0);
            (depth, version) = _deepen(tree, depth, version, position, from);
        }
        uint256[MAX_DEPTH] memory words;
        uint256 versions;
        (before, versions) = _walk(tree, depth, version, position, words);
        counts = Math.min(weight, MAX_TOTAL + before - sumOf(words[depth - 1]));
        if (before == counts) return (before, counts);
        version = _write(tree, depth, position, words, versions, before, counts, from);

        uint256 eligible = uint32(roots >> RECORD_ELIGIBLE_SHIFT);
        if (before == 0) ++eligible;
        if (counts == 0) --eligible;
        if (uint32(roots) == from) roots >>= RECORD_BITS;
        // What the shift drops of a fourth record is never read.
        tree.roots = (roots << RECORD_BITS) | (version << RECORD_VERSION_SHIFT) | (depth << RECORD_DEPTH_SHIFT)
            | (eligible << RECORD_ELIGIBLE_SHIFT) | from;
    }

    /// @notice The tree as it counts in `epoch`. Reverts if three newer ones have displaced it.
    function asOf(Tree storage tree, uint256 epoch) internal view returns (Snapshot memory) {
        uint256 records = tree.roots;
        for (uint256 i = 0; i < VERSIONS; ++i) {
            if (uint32(records) <= epoch) return _snapshot(tree, records);
            records >>= RECORD_BITS;
        }
        revert EpochTreeForgotten(epoch);
    }

    /// @notice The newest tree, pending or not.
    function latest(Tree storage tree) internal view returns (Snapshot memory) {
        return _snapshot(tree, tree.roots);
    }

    /// @notice Sum of all weights.
    function total(Snapshot memory snapshot) internal pure returns (uint256) {
        return sumOf(snapshot.root);
    }

    /// @notice First position, in order, whose cumulative weight exceeds `target`.
    function pick(Tree storage tree, Snapshot memory snapshot, uint256 target)
        internal
        view
        returns (uint256 position)
    {
        uint256 word = snapshot.root;
        require(target < sumOf(word), EpochTreeTargetOutOfRange(target, sumOf(word)));
        uint256 slot;
        // An empty tree's total is zero, so there is a level; positions stay below 7^MAX_DEPTH.
        unchecked {
            for (uint256 level = snapshot.depth - 1; level > 0; --level) {
                (slot, target) = find(word, target);
                position = position * ARITY + slot;
                word = tree.nodes[_key(level - 1, position, versionAt(word, slot))];
            }
            (slot,) = find(word, target);
            return position * ARITY + slot;
        }
    }

    /// @notice A position's weight; zero beyond the positions that the tree has room for.
    function weightAt(Tree storage tree, Snapshot memory snapshot, uint256 position) internal view returns (uint256) {
        uint256 size = _positions(snapshot.depth);
        if (position >= size) return 0;
        uint256 word = snapshot.root;
        for (uint256 level = snapshot.depth; level > 0; --level) {
            size /= ARITY;
            uint256 slot = (position / size) % ARITY;
            if (level == 1) return sumAt(word, slot);
            word = tree.nodes[_key(level - 2, position / size, versionAt(word, slot))];
        }
        return 0;
    }

    /// @notice The slot of `word` whose cumulative range holds `target`, and where in it; target < sumOf(word).
    function find(uint256 word, uint256 target) internal pure returns (uint256 slot, uint256 rest) {
        uint256 ends = _cumulative(word);
        // Field by field, 2^31 + target - end keeps its highest bit if end <= target. No field borrows from the next,
        // because an end has 30 bits. The slot is how many ends were passed; it starts where the one before it ends.
        unchecked {
            uint256 targets = target | (target << FIELD_BITS);
            targets |= targets << (2 * FIELD_BITS);
            targets |= targets << (4 * FIELD_BITS);
            uint256 passed = (((HIGH_BITS | targets) - ends) & HIGH_BITS) >> (FIELD_BITS - 1);
            slot = ((passed * ONES) >> (FIELDS_BITS - FIELD_BITS)) & FIELD_MASK;
            rest = target - sumAt(ends << FIELD_BITS, slot);
        }
    }

    /// @notice Sum of a word's seven fields.
    function sumOf(uint256 word) internal pure returns (uint256) {
        return sumAt(_cumulative(word), ARITY - 1);
    }

    /// @notice The sum in one field, slot < 7.
    function sumAt(uint256 word, uint256 slot) internal pure returns (uint256) {
        // No shift exceeds a word.
        unchecked {
            return (word >> (slot * FIELD_BITS)) & MAX_TOTAL;
        }
    }

    /// @notice Which version of the child one field means, slot < 7.
    function versionAt(uint256 word, uint256 slot) internal pure returns (uint256) {
        unchecked {
            return (word >> (slot * FIELD_BITS + VERSION_SHIFT)) & VERSION_MASK;
        }
    }

    /// @notice The word with one field replaced; slot < 7, version < 3, sum <= MAX_TOTAL.
    function put(uint256 word, uint256 slot, uint256 version, uint256 sum) internal pure returns (uint256) {
        unchecked {
            uint256 shift = slot * FIELD_BITS;
            return (word & ~(FIELD_MASK << shift)) | (((version << VERSION_SHIFT) | sum) << shift);
        }
    }

    /// @notice The word with its epoch replaced.
    function stamp(uint256 word, uint256 epoch) internal pure returns (uint256) {
        return (word & ((1 << FIELDS_BITS) - 1)) | (epoch << FIELDS_BITS);
    }

    /// @dev Field i becomes the sum of fields 0 to i. No field overflows: a word's fields sum to at most MAX_TOTAL.
    function _cumulative(uint256 word) private pure returns (uint256 ends) {
        ends = word & SUMS;
        unchecked {
            ends += ends << FIELD_BITS;
            ends += ends << (2 * FIELD_BITS);
            ends += ends << (4 * FIELD_BITS);
        }
    }

    /// @dev Adds levels until the tree has room for the position. A new root's first child is the old root.
    function _deepen(Tree storage tree, uint256 depth, uint256 version, uint256 position, uint256 from)
        private
        returns (uint256, uint256)
    {
        if (depth == 0) depth = 1;
        for (uint256 size = _positions(depth); position >= size; size *= ARITY) {
            require(depth < MAX_DEPTH, EpochTreeFull(position));
            uint256 sum = sumOf(tree.nodes[_key(depth - 1, 0, version)]);
            tree.nodes[_key(depth, 0, 0)] = stamp(put(0, 0, version, sum), from);
            (depth, version) = (depth + 1, 0);
        }
        return (depth, version);
    }

    /// @dev Reads the newest nodes from the root down to the position's leaf word.
    /// @param words Filled with them, by level.
    /// @return weight The position's.
    /// @return versions Of the nodes, two bits a level, leaves lowest.
    function _walk(
        Tree storage tree,
        uint256 depth,
        uint256 version,
        uint256 position,
        uint256[MAX_DEPTH] memory words
    ) private view returns (uint256 weight, uint256 versions) {
        // A position below 7^depth and depth >= 1, which `set` has seen to, bound all of this.
        unchecked {
            uint256 size = _positions(depth);
            for (uint256 level = depth; level > 0; --level) {
                uint256 word = tree.nodes[_key(level - 1, position / size, version)];
                words[level - 1] = word;
                versions = (versions << VERSION_BITS) | version;
                size /= ARITY;
                uint256 slot = (position / size) % ARITY;
                if (level == 1) return (sumAt(word, slot), versions);
                version = versionAt(word, slot);
            }
        }
    }

    /// @dev Writes the nodes from the leaf's word up to the root, each into the version after its newest unless that
    /// one is already of epoch `from`.
    /// @return version The root's version.
    function _write(
        Tree storage tree,
        uint256 depth,
        uint256 position,
        uint256[MAX_DEPTH] memory words,
        uint256 versions,
        uint256 before,
        uint256 counts,
        uint256 from
    ) private returns (uint256 version) {
        // Every sum above the position contains `before`, and none exceeds the total, which `set` has bounded.
        unchecked {
            for (uint256 level = 0; level < depth; ++level) {
                uint256 slot = position % ARITY;
                uint256 word = words[level];
                word = put(word, slot, version, sumAt(word, slot) + counts - before);
                version = versions & VERSION_MASK;
                versions >>= VERSION_BITS;
                if (word >> FIELDS_BITS != from) {
                    version = (version + 1) % VERSIONS;
                    word = stamp(word, from);
                }
                position /= ARITY;
                tree.nodes[_key(level, position, version)] = word;
            }
        }
    }

    function _snapshot(Tree storage tree, uint256 record) private view returns (Snapshot memory snapshot) {
        uint256 depth = uint8(record >> RECORD_DEPTH_SHIFT);
        if (depth == 0) return snapshot;
        snapshot.depth = depth;
        snapshot.root = tree.nodes[_key(depth - 1, 0, uint8(record >> RECORD_VERSION_SHIFT))];
        snapshot.eligible = uint32(record >> RECORD_ELIGIBLE_SHIFT);
    }

    /// @dev How many positions fit a tree; depth <= MAX_DEPTH.
    function _positions(uint256 depth) private pure returns (uint256) {
        unchecked {
            return ARITY ** depth;
        }
    }

    function _key(uint256 level, uint256 index, uint256 version) private pure returns (uint256) {
        return (level << LEVEL_SHIFT) | (index << VERSION_BITS) | version;
    }
}
// slither-disable-end too-many-digits,uninitialized-local
