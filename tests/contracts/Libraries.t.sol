// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Majority} from "../../contracts/libraries/Majority.sol";
import {SumTree} from "../../contracts/libraries/SumTree.sol";
import {Check, vm} from "./Vm.sol";

contract MajorityTest {
    function testFuzz_majorityEqualsCountingBits(uint256 a, uint256 b, uint256 c) external pure {
        uint256 majority = Majority.ofThree(a, b, c);
        for (uint256 i = 0; i < 256; ++i) {
            uint256 votes = ((a >> i) & 1) + ((b >> i) & 1) + ((c >> i) & 1);
            Check.eq((majority >> i) & 1, votes >= 2 ? 1 : 0, "bit");
        }
    }

    function testFuzz_popcount(uint256 word) external pure {
        uint256 expected = 0;
        for (uint256 i = 0; i < 256; ++i) {
            expected += (word >> i) & 1;
        }
        Check.eq(Majority.popcount(word), expected, "popcount");
    }

    function testFuzz_noVoteContradictsItself(uint256 accepts, uint256 rejects) external pure {
        rejects &= ~accepts;
        Check.yes(!Majority.contradicts(accepts, rejects, accepts, rejects), "agrees with itself");
        Check.yes(!Majority.contradicts(0, 0, accepts, rejects), "inconclusive never contradicts");
        if (accepts != 0) Check.yes(Majority.contradicts(accepts, 0, 0, accepts), "accepts what was rejected");
    }

    function testMask() external pure {
        Check.eq(Majority.mask(1), 1, "one");
        Check.eq(Majority.mask(255), type(uint256).max >> 1, "255");
        Check.eq(Majority.mask(256), type(uint256).max, "256");
    }
}

contract SumTreeTest {
    using SumTree for SumTree.Tree;

    SumTree.Tree private _tree;

    /// Weights of members in order of joining; the naive twin of the tree.
    uint64[] private _weights;

    function testFuzz_picksLikeACumulativeArray(uint64[21] calldata weights, uint256 target) external {
        uint256 total = 0;
        for (uint256 i = 0; i < weights.length; ++i) {
            // Zero weights never join; keep sums within 64 bits.
            uint64 weight = weights[i] / 64 + 1;
            _tree.set(_member(i), weight);
            _weights.push(weight);
            total += weight;
        }
        // Change some, remove some.
        for (uint256 i = 0; i < weights.length; i += 3) {
            uint64 weight = i % 2 == 0 ? 0 : weights[i] / 128;
            total = total - _weights[i] + weight;
            _weights[i] = weight;
            _tree.set(_member(i), weight);
        }
        Check.eq(_tree.total(), total, "total");
        target %= total;
        Check.eq(_tree.pick(target), _naivePick(target), "pick");
        Check.eq(_tree.pick(total - 1), _naivePick(total - 1), "last");
        Check.eq(_tree.pick(0), _naivePick(0), "first");
    }

    function testPickBeyondTheTotalReverts() external {
        _tree.set(_member(0), 5);
        vm.expectPartialRevert(SumTree.SumTreeOutOfRange.selector);
        this.pick(5);
    }

    function testSumBeyond64BitsReverts() external {
        _tree.set(_member(0), type(uint64).max);
        vm.expectPartialRevert(bytes4(keccak256("SafeCastOverflowedUintDowncast(uint8,uint256)")));
        this.set(_member(1), 1);
    }

    function testDepthGrowsWithMembers() external {
        for (uint256 i = 0; i < 70; ++i) {
            _tree.set(_member(i), 1);
            Check.eq(_tree.total(), i + 1, "total while growing");
        }
        Check.eq(_tree.nonzero, 70, "nonzero");
        for (uint256 i = 0; i < 70; ++i) {
            Check.eq(_tree.pick(i), _member(i), "position order");
        }
    }

    function pick(uint256 target) external view returns (address) {
        return _tree.pick(target);
    }

    function set(address member, uint64 weight) external {
        _tree.set(member, weight);
    }

    function _naivePick(uint256 target) private view returns (address) {
        for (uint256 i = 0; i < _weights.length; ++i) {
            if (target < _weights[i]) return _member(i);
            target -= _weights[i];
        }
        revert("target beyond total");
    }

    function _member(uint256 i) private pure returns (address) {
        return address(uint160(1000 + i));
    }
}
