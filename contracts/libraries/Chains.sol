// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Where this runs
library Chains {
    uint256 private constant HARDHAT_OR_ANVIL = 31_337;
    uint256 private constant GETH_DEV = 1337;

    /// @notice Whether this is a developer's own chain, by the ids that Hardhat, Anvil and Geth give them: there,
    /// nobody needs time to notice or to leave. A network of users must have an id of its own.
    function isDevelopment() internal view returns (bool) {
        return block.chainid == HARDHAT_OR_ANVIL || block.chainid == GETH_DEV;
    }
}
