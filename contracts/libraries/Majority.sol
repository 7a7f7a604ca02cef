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

    /// @notice How many bits are set. Kernighan's loop: batches reject few leaves, so few rounds.
    function popcount(uint256 word) internal pure returns (uint256 count) {
        while (word != 0) {
            word &= word - 1;
            ++count;
        }
    }

    /// @notice A word whose low `leafCount` bits are set, leafCount <= 256.
    function mask(uint256 leafCount) internal pure returns (uint256) {
        return leafCount == 256 ? type(uint256).max : (1 << leafCount) - 1;
    }
}
