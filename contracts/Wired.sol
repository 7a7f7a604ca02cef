// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title One-time wiring of contracts that refer to one another
/// @notice The wirer named at construction sets the contract's counterparts once; after that nobody can.
abstract contract Wired {
    address private immutable WIRER;
    bool private _wired;

    event WiringDone(address[] counterparts);

    error WiredNotWirer(address caller, address wirer);
    error WiredAlready();
    error WiredZeroAddress();
    error WiredUnauthorized(address caller, address required);

    constructor(address wirer) {
        require(wirer != address(0), WiredZeroAddress());
        WIRER = wirer;
    }

    /// @dev Guards a `wire` function and records what it was given.
    function _wire(address[] memory counterparts) internal {
        require(msg.sender == WIRER, WiredNotWirer(msg.sender, WIRER));
        require(!_wired, WiredAlready());
        for (uint256 i = 0; i < counterparts.length; ++i) {
            require(counterparts[i] != address(0), WiredZeroAddress());
        }
        _wired = true;
        emit WiringDone(counterparts);
    }

    function _requireCaller(address required) internal view {
        require(msg.sender == required, WiredUnauthorized(msg.sender, required));
    }
}
