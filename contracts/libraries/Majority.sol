// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Majority of a committee over 256 answers at once
library Majority {
    uint256 internal constant MAX_WORDS = 15;

    // The lower half of every field of 2, 4, 8 and 16 bits set, and the lowest bit of every field of 16.
    uint256 private constant LOW_OF_2 = type(uint256).max / 3;
    uint256 private constant LOW_OF_4 = type(uint256).max / 5;
    uint256 private constant LOW_OF_8 = type(uint256).max / 17;
    uint256 private constant LOW_OF_16 = type(uint256).max / 257;
    uint256 private constant ONES_OF_16 = type(uint256).max / 65_535;

    error MajorityOutOfRange(uint256 words, uint256 maximum);

    /// @notice Bits that at least two of the three words have set.
    function ofThree(uint256 a, uint256 b, uint256 c) internal pure returns (uint256) {
        return (a & b) | (a & c) | (b & c);
    }

    /// @notice Bits that more than half of the words have set; an odd number of words, at most MAX_WORDS.
    /// 256 counters of three bits side by side, digit d of all of them in one word. They start at 8 - (n + 1) / 2, so
    /// that the word which makes a majority carries out of them, and end at 8 + (n - 1) / 2 <= 15, so none carries out
    /// twice.
    function ofMany(uint256[] memory words) internal pure returns (uint256 majority) {
        uint256 n = words.length;
        require(n % 2 == 1 && n <= MAX_WORDS, MajorityOutOfRange(n, MAX_WORDS));
        uint256 start = 8 - (n + 1) / 2;
        uint256 ones = start & 1 == 0 ? 0 : type(uint256).max;
        uint256 twos = start & 2 == 0 ? 0 : type(uint256).max;
        uint256 fours = start & 4 == 0 ? 0 : type(uint256).max;
        for (uint256 i = 0; i < n; ++i) {
            uint256 carry = words[i];
            (ones, carry) = (ones ^ carry, ones & carry);
            (twos, carry) = (twos ^ carry, twos & carry);
            (fours, carry) = (fours ^ carry, fours & carry);
            majority |= carry;
        }
    }

    /// @notice Whether a vote accepts what the majority rejected or rejects what it accepted.
    function contradicts(uint256 accepts, uint256 rejects, uint256 accepted, uint256 rejected)
        internal
        pure
        returns (bool)
    {
        return (accepts & rejected) | (rejects & accepted) != 0;
    }

    /// @notice How many bits are set: sums of neighbours in ever wider fields, the textbook method.
    function popcount(uint256 word) internal pure returns (uint256) {
        unchecked {
            // Fields of 2, 4, 8 bits; no field overflows, because its sum is at most its width.
            word = word - ((word >> 1) & LOW_OF_2);
            word = (word & LOW_OF_4) + ((word >> 2) & LOW_OF_4);
            word = (word + (word >> 4)) & LOW_OF_8;
            // Fields of 16 bits, whose sum, at most 256, fits the topmost: multiplying gathers it there.
            word = (word & LOW_OF_16) + ((word >> 8) & LOW_OF_16);
            return (word * ONES_OF_16) >> 240;
        }
    }

    /// @notice A word whose low `leafCount` bits are set, leafCount <= 256.
    function mask(uint256 leafCount) internal pure returns (uint256) {
        return leafCount == 256 ? type(uint256).max : (1 << leafCount) - 1;
    }
}
