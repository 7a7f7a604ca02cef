// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @notice What the protocol asks of its token: a plain ERC-20 whose holders can burn.
interface IStakeToken is IERC20 {
    function burn(uint256 amount) external;
}
