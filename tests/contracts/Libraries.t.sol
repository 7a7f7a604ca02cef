// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Majority} from "../../contracts/libraries/Majority.sol";
import {Check, vm} from "./Vm.sol";

contract MajorityTest {
    function testFuzz_majorityEqualsCountingBits(uint256 a, uint256 b, uint256 c) external pure {
        uint256 majority = Majority.ofThree(a, b, c);
        for (uint256 i = 0; i < 256; ++i) {
            uint256 votes = ((a >> i) & 1) + ((b >> i) & 1) + ((c >> i) & 1);
            Check.eq((majority >> i) & 1, votes >= 2 ? 1 : 0, "bit");
        }
    }

    function testFuzz_majorityOfManyEqualsCountingBits(uint256[15] calldata votes, uint256 size) external pure {
        uint256[] memory words = new uint256[](2 * (size % 8) + 1);
        for (uint256 i = 0; i < words.length; ++i) {
            words[i] = votes[i];
        }
        uint256 majority = Majority.ofMany(words);
        for (uint256 bit = 0; bit < 256; ++bit) {
            uint256 count = 0;
            for (uint256 i = 0; i < words.length; ++i) {
                count += (words[i] >> bit) & 1;
            }
            Check.eq((majority >> bit) & 1, 2 * count > words.length ? 1 : 0, "bit");
        }
    }

    function testEveryCountOfVotesIsDecidedRightly() external pure {
        for (uint256 n = 1; n <= Majority.MAX_WORDS; n += 2) {
            // Bit b is set in b of the words.
            uint256[] memory words = new uint256[](n);
            for (uint256 i = 0; i < n; ++i) {
                words[i] = (1 << (n + 1)) - (1 << (i + 1));
            }
            Check.eq(Majority.ofMany(words), (1 << (n + 1)) - (1 << ((n + 1) / 2)), "more than half");
        }
    }

    function testFuzz_threeByEitherWay(uint256 a, uint256 b, uint256 c) external pure {
        uint256[] memory words = new uint256[](3);
        (words[0], words[1], words[2]) = (a, b, c);
        Check.eq(Majority.ofMany(words), Majority.ofThree(a, b, c), "majority of three");
    }

    function testEvenOrTooManyWordsAreRefused() external {
        for (uint256 n = 0; n <= 18; n += n < 16 ? 2 : 1) {
            vm.expectRevert(abi.encodeWithSelector(Majority.MajorityOutOfRange.selector, n, Majority.MAX_WORDS));
            this.ofMany(new uint256[](n));
        }
    }

    function ofMany(uint256[] calldata words) external pure returns (uint256) {
        return Majority.ofMany(words);
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
        Check.yes(Majority.contradicts(1, 0, 0, 1) && Majority.contradicts(0, 1, 1, 0), "also in the first leaf only");
    }

    function testMask() external pure {
        Check.eq(Majority.mask(1), 1, "one");
        Check.eq(Majority.mask(255), type(uint256).max >> 1, "255");
        Check.eq(Majority.mask(256), type(uint256).max, "256");
    }
}
