// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title Token of development networks
/// @notice Fixed supply, burnable (slashed stake is burned), with EIP-2612 permits and EIP-3009 authorizations, which
/// x402 pays by. A real network names its own token.
/// @dev Not `ERC20TransferAuthorization`: it takes an authorizer's nonces in order, and x402's clients draw theirs at
/// random, as EIP-3009 says.
contract TrineToken is ERC20, ERC20Burnable, ERC20Permit, ERC3009 {
    constructor(address holder, uint256 supply) ERC20("Trine", "TRI") ERC20Permit("Trine") {
        _mint(holder, supply);
    }
}
