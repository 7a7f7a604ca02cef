// SPDX-License-Identifier: MIT
// A base that only places a variable, and nothing without the contract below it.
// solhint-disable one-contract-per-file
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @dev A base of its own only to lie before `Pausable`: guardian, pause and what a contract puts next to them share a
/// storage word, of which every anchor reads.
abstract contract GuardianSlot {
    address internal _guardian;
}

/// @title A stop for what begins, in the hands of a guardian
/// @notice The guardian can stop new work at once; only the owner, a timelock, lets it go on, and names the guardian.
/// A contract that uses this puts `whenNotPaused` on what starts something new, never on what ends, pays or leaves.
abstract contract Guarded is Ownable2Step, GuardianSlot, Pausable {
    event GuardianChanged(address indexed guardian);

    error GuardedNotGuardian(address caller, address guardian);
    error GuardedOwnerNeeded();

    /// @param guardian_ Zero for none.
    constructor(address owner_, address guardian_) Ownable(owner_) {
        _setGuardian(guardian_);
    }

    /// @notice Stops what starts something new. Only the guardian.
    function pause() external {
        require(msg.sender == _guardian, GuardedNotGuardian(msg.sender, _guardian));
        _pause();
    }

    /// @notice Lets it go on. Only the owner.
    function unpause() external onlyOwner {
        _unpause();
    }

    /// @notice Names another guardian, or none: zero. Only the owner.
    function setGuardian(address guardian_) external onlyOwner {
        _setGuardian(guardian_);
    }

    /// @notice Never works: without an owner a guardian could stop everything for ever.
    function renounceOwnership() public view override onlyOwner {
        revert GuardedOwnerNeeded();
    }

    function guardian() external view returns (address) {
        return _guardian;
    }

    function _setGuardian(address guardian_) private {
        _guardian = guardian_;
        emit GuardianChanged(guardian_);
    }
}
