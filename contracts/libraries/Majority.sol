// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Majority of three over 256 answers at once
library Majority {
    /// @notice Bits that at least two of the three words have set.
    function ofThree(uint256 a, uint256 b, uint256 c) internal pure returns (uint256) {
        return (a & b) | (a & c) | (b & c);
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
            word = word - ((word >> 1) & (type(uint256).max / 3));
            word = (word & (type(uint256).max / 5)) + ((word >> 2) & (type(uint256).max / 5));
            word = (word + (word >> 4)) & (type(uint256).max / 17);
            // Fields of 16 bits, whose sum, at most 256, fits the topmost: multiplying gathers it there.
            word = (word & (type(uint256).max / 257)) + ((word >> 8) & (type(uint256).max / 257));
            return (word * (type(uint256).max / 65_535)) >> 240;
        }
    }

    /// @notice A word whose low `leafCount` bits are set, leafCount <= 256.
    function mask(uint256 leafCount) internal pure returns (uint256) {
        return leafCount == 256 ? type(uint256).max : (1 << leafCount) - 1;
    }
}
