// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {LeafLib} from "./LeafLib.sol";

/// @title What checking a batch takes, by the tokens that its root commits to
/// @dev A verifier reads prompt and answer in one pass: a token of either costs the same.
library Metering {
    /// @notice What the node pays the seats together.
    /// @param root The batch's root.
    function fee(uint256 leafCount, bytes32 root, uint256 perLeafWei, uint256 perTokenWei)
        internal
        pure
        returns (uint256)
    {
        return leafCount * perLeafWei + LeafLib.tokensOf(root) * perTokenWei;
    }

    /// @notice How long a verifier takes that checks as fast as all must.
    function workSeconds(bytes32 root, uint256 tokensPerSecond) internal pure returns (uint256) {
        return Math.ceilDiv(LeafLib.tokensOf(root), tokensPerSecond);
    }
}
