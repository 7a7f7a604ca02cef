// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Headers of the blocks of a test's chain, with all fields that Ethereum has since Prague. Tests have no real
/// ones: a block's hash is what `vm.setBlockhash` says.
library SeedBlock {
    bytes32 private constant EMPTY = keccak256(hex"c0");

    function hash(uint256 number) internal pure returns (bytes32) {
        return keccak256(header(number));
    }

    function header(uint256 number) internal pure returns (bytes memory) {
        return header(number, "trine", randao(number));
    }

    /// RLP. Extra data are five bytes.
    function header(uint256 number, bytes5 extraData, bytes32 mixHash) internal pure returns (bytes memory) {
        return header(number, hex"80", extraData, mixHash);
    }

    /// @param difficulty One byte, of RLP.
    function header(uint256 number, bytes1 difficulty, bytes5 extraData, bytes32 mixHash)
        internal
        pure
        returns (bytes memory)
    {
        return headerWith(number, difficulty, abi.encodePacked(hex"85", extraData), mixHash);
    }

    /// @param difficulty One byte, of RLP.
    /// @param extraData RLP.
    function headerWith(uint256 number, bytes1 difficulty, bytes memory extraData, bytes32 mixHash)
        internal
        pure
        returns (bytes memory)
    {
        bytes memory begin = abi.encodePacked(
            hex"a0", keccak256(abi.encode("parent", number)), hex"a0", EMPTY, hex"94", address(0xB11D)
        );
        bytes memory roots = abi.encodePacked(
            hex"a0", keccak256("state"), hex"a0", keccak256("transactions"), hex"a0", keccak256("receipts"),
            hex"b90100", _bloom()
        );
        bytes memory counters = abi.encodePacked(
            difficulty, _number(number), hex"84", uint32(36_000_000), hex"84", uint32(20_000_000), hex"84",
            uint32(1_800_000_000)
        );
        bytes memory lots = abi.encodePacked(extraData, hex"a0", mixHash, hex"88", bytes8(0));
        bytes memory end = abi.encodePacked(
            hex"84", uint32(1_000_000_000), hex"a0", EMPTY, hex"8080a0", keccak256("beacon"), hex"a0", EMPTY
        );
        bytes memory fields = bytes.concat(begin, roots, counters, lots, end);
        return abi.encodePacked(hex"f9", uint16(fields.length), fields);
    }

    /// RLP: as many bytes as are needed.
    function _number(uint256 number) private pure returns (bytes memory) {
        require(number > 0 && number < 65_536, "a number of two bytes at most");
        if (number < 0x80) return abi.encodePacked(uint8(number));
        if (number < 256) return abi.encodePacked(hex"81", uint8(number));
        return abi.encodePacked(hex"82", uint16(number));
    }

    /// As full as those of busy blocks: call data cost by it.
    function _bloom() private pure returns (bytes memory) {
        bytes32 bits = keccak256("bloom");
        return abi.encodePacked(bits, bits, bits, bits, bits, bits, bits, bits);
    }

    function randao(uint256 number) internal pure returns (bytes32) {
        return keccak256(abi.encode("randao", number)) | bytes32(uint256(1) << 255);
    }
}
