// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

abstract contract Guarded is Ownable2Step, Pausable {
    address private immutable GUARDIAN;
    error GuardedNotGuardian(address caller);
    constructor(address owner, address guardian) Ownable(owner) { GUARDIAN = guardian; }
    function pause() external { require(msg.sender == GUARDIAN, GuardedNotGuardian(msg.sender)); _pause(); }
    function unpause() external onlyOwner { _unpause(); }
}
