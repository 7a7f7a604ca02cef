// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title Token of development networks
/// @notice Fixed supply, burnable (slashed stake is burned), with EIP-2612 permits. A real network names its own
/// token.
contract TrineToken is ERC20, ERC20Burnable, ERC20Permit {
    constructor(address holder, uint256 supply) ERC20("Trine", "TRI") ERC20Permit("Trine") {
        _mint(holder, supply);
    }
}
