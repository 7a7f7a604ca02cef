// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

/// @title What to ask a model, as nodes take it: canonical JSON (RFC 8785), made on the chain
/// @notice `trine.protocol.inputs` is its twin. Text must be UTF-8: what is not, no node answers.
library TrineInput {
    bytes16 private constant HEX = "0123456789abcdef";

    /// @notice One message of a user, under the model's chat template.
    function user(string memory content) internal pure returns (bytes memory) {
        return bytes.concat("{\"messages\":[", _message(content, "user"), "]}");
    }

    /// @notice The same after an instruction to the model.
    function chat(string memory system, string memory content) internal pure returns (bytes memory) {
        return bytes.concat("{\"messages\":[", _message(system, "system"), ",", _message(content, "user"), "]}");
    }

    /// @notice Plain text that the model goes on with.
    function prompt(string memory text) internal pure returns (bytes memory) {
        return bytes.concat("{\"prompt\":\"", escaped(text), "\"}");
    }

    /// @notice The text as it stands between the quotes of a JSON string.
    function escaped(string memory text) internal pure returns (bytes memory result) {
        bytes memory given = bytes(text);
        uint256 length = given.length;
        uint256 size = length;
        for (uint256 i = 0; i < length; ++i) {
            size += _widthOf(given[i]) - 1;
        }
        if (size == length) return given;
        result = new bytes(size);
        uint256 place = 0;
        for (uint256 i = 0; i < length; ++i) {
            bytes1 character = given[i];
            uint256 width = _widthOf(character);
            if (width == 1) {
                result[place] = character;
            } else {
                result[place] = "\\";
                result[place + 1] = width == 2 ? _shortOf(character) : bytes1("u");
                if (width == 6) {
                    (result[place + 2], result[place + 3]) = (bytes1("0"), bytes1("0"));
                    result[place + 4] = HEX[uint8(character) >> 4];
                    result[place + 5] = HEX[uint8(character) & 15];
                }
            }
            place += width;
        }
    }

    function _message(string memory content, bytes memory role) private pure returns (bytes memory) {
        return bytes.concat("{\"content\":\"", escaped(content), "\",\"role\":\"", role, "\"}");
    }

    /// @dev Characters that this one takes: itself, a backslash and a letter, or a code of four digits.
    function _widthOf(bytes1 character) private pure returns (uint256) {
        if (character == "\"" || character == "\\") return 2;
        if (uint8(character) >= 0x20) return 1;
        return _shortOf(character) == 0 ? 6 : 2;
    }

    /// @dev What stands behind the backslash; zero for what has no such form.
    function _shortOf(bytes1 character) private pure returns (bytes1) {
        if (character == "\"" || character == "\\") return character;
        if (character == 0x08) return "b";
        if (character == 0x09) return "t";
        if (character == 0x0a) return "n";
        if (character == 0x0c) return "f";
        if (character == 0x0d) return "r";
        return 0;
    }
}
