// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

import {Chains} from "./libraries/Chains.sol";

/// @title Owner of what governance may change: announces every change, and waits
/// @notice OpenZeppelin's controller, with a delay that governance may lengthen up to MAX_DELAY_SECONDS but never
/// shorten below what it was deployed with. It administers itself: there is no other admin.
contract Timelock is TimelockController {
    /// @notice Shorter, and nobody could read an announcement and act on it: withdraw a deposit, say, whose notice is
    /// an hour at least. Only a development chain may do with less.
    uint256 public constant MIN_DELAY_SECONDS = 1 days;
    /// @notice Longer, and a mistake could not be corrected in reasonable time.
    uint256 public constant MAX_DELAY_SECONDS = 30 days;

    /// @notice What users may rely on: no change applies sooner after its announcement.
    uint256 public immutable FLOOR_SECONDS;

    error TimelockDelayOutOfBounds(uint256 delay, uint256 minimum, uint256 maximum);

    /// @param delaySeconds At least MIN_DELAY_SECONDS, or any on a development chain.
    /// @param proposers May announce and cancel.
    /// @param executors May execute after the delay; the zero address stands for anyone.
    constructor(uint256 delaySeconds, address[] memory proposers, address[] memory executors)
        TimelockController(delaySeconds, proposers, executors, address(0))
    {
        FLOOR_SECONDS = delaySeconds;
        _requireBounds(delaySeconds, Chains.isDevelopment() ? 0 : MIN_DELAY_SECONDS);
    }

    /// @inheritdoc TimelockController
    function updateDelay(uint256 newDelay) public override {
        _requireBounds(newDelay, FLOOR_SECONDS);
        super.updateDelay(newDelay);
    }

    function _requireBounds(uint256 delay, uint256 minimum) private pure {
        require(
            delay >= minimum && delay <= MAX_DELAY_SECONDS, TimelockDelayOutOfBounds(delay, minimum, MAX_DELAY_SECONDS)
        );
    }
}
