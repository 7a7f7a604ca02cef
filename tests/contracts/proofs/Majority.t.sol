// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Majority} from "../../../contracts/libraries/Majority.sol";

/// @notice Proved for all inputs by `make prove`; functions that begin with check_ are Halmos' own.
contract MajorityProofs {
    function check_bitOfThree(uint256 a, uint256 b, uint256 c, uint8 bit) external pure {
        uint256 votes = _bit(a, bit) + _bit(b, bit) + _bit(c, bit);
        assert(_bit(Majority.ofThree(a, b, c), bit) == (votes >= 2 ? 1 : 0));
    }

    function check_bitOfSeven(uint256[7] calldata votes, uint8 bit) external pure {
        uint256[] memory words = new uint256[](7);
        uint256 count = 0;
        for (uint256 i = 0; i < 7; ++i) {
            words[i] = votes[i];
            count += _bit(votes[i], bit);
        }
        assert(_bit(Majority.ofMany(words), bit) == (count >= 4 ? 1 : 0));
    }

    function check_bitOfFifteen(uint256[15] calldata votes, uint8 bit) external pure {
        uint256[] memory words = new uint256[](15);
        uint256 count = 0;
        for (uint256 i = 0; i < 15; ++i) {
            words[i] = votes[i];
            count += _bit(votes[i], bit);
        }
        assert(_bit(Majority.ofMany(words), bit) == (count >= 8 ? 1 : 0));
    }

    function check_threeByEitherWay(uint256 a, uint256 b, uint256 c) external pure {
        uint256[] memory words = new uint256[](3);
        (words[0], words[1], words[2]) = (a, b, c);
        assert(Majority.ofMany(words) == Majority.ofThree(a, b, c));
    }

    /// Narrowed: 256 bits at once are beyond the solver. Every aligned 16 bits of a word, alone, are counted rightly.
    function check_popcountOfSixteenBits(uint16 bits, uint256 place) external pure {
        if (place >= 16) return;
        uint256 count = 0;
        for (uint8 i = 0; i < 16; ++i) {
            count += _bit(bits, i);
        }
        assert(Majority.popcount(uint256(bits) << (16 * place)) == count);
    }

    function check_mask(uint256 leafCount, uint8 bit) external pure {
        if (leafCount > 256) return;
        assert(_bit(Majority.mask(leafCount), bit) == (bit < leafCount ? 1 : 0));
    }

    function check_noVoteContradictsItself(uint256 accepts, uint256 rejects) external pure {
        rejects &= ~accepts;
        assert(!Majority.contradicts(accepts, rejects, accepts, rejects));
        assert(!Majority.contradicts(0, 0, accepts, rejects));
    }

    function _bit(uint256 word, uint8 bit) private pure returns (uint256) {
        return (word >> bit) & 1;
    }
}
