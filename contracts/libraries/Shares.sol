// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title A pool of tokens held in shares
/// @notice Virtual shares and assets (as in Morpho Blue) make it worthless to inflate the price of a share: with V_S
/// virtual shares an attacker loses about V_S times what a victim loses by rounding. All rounding favours the pool.
library Shares {
    uint256 internal constant VIRTUAL_SHARES = 1e6;
    uint256 internal constant VIRTUAL_ASSETS = 1;
    /// @dev A pool with more shares than this to a wei (it begins with 1e6) has lost 99.9 % by slashes. What is left
    /// is void, or after a few more rounds of slash and deposit the number of shares would overflow.
    uint256 internal constant MAX_SHARES_PER_WEI = 1e9;

    struct Pool {
        uint128 assets;
        uint128 shares;
    }

    function toSharesDown(Pool memory pool, uint256 assets) internal pure returns (uint256) {
        return Math.mulDiv(assets, uint256(pool.shares) + VIRTUAL_SHARES, uint256(pool.assets) + VIRTUAL_ASSETS);
    }

    function toSharesUp(Pool memory pool, uint256 assets) internal pure returns (uint256) {
        return Math.mulDiv(
            assets,
            uint256(pool.shares) + VIRTUAL_SHARES,
            uint256(pool.assets) + VIRTUAL_ASSETS,
            Math.Rounding.Ceil
        );
    }

    function toAssetsDown(Pool memory pool, uint256 shares) internal pure returns (uint256) {
        return Math.mulDiv(shares, uint256(pool.assets) + VIRTUAL_ASSETS, uint256(pool.shares) + VIRTUAL_SHARES);
    }

    /// @notice Whether shares of the pool are worth so little that they are void.
    function isDust(Pool memory pool) internal pure returns (bool) {
        return uint256(pool.shares) > uint256(pool.assets) * MAX_SHARES_PER_WEI;
    }
}
