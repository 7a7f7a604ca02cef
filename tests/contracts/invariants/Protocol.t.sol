// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Handler} from "./Handler.sol";

/// @dev The runner knows contracts of this file only.
contract Roles is Handler {}

/// @notice What holds after any sequence of acts of any roles. One campaign checks everything after every call.
contract ProtocolInvariants {
    Roles private _handler;

    function setUp() external {
        _handler = new Roles();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariantEverythingHolds() external view {
        _handler.stakingHoldsWhatItOwesToTheWei();
        _handler.stakeCreditAndLocksAreAsTheModelSays();
        _handler.lockedStakeIsThere();
        _handler.lockedStakeCoversOpenLeaves();
        _handler.sharesAreWorthNoMoreThanTheirPools();
        _handler.paymentsHoldAtLeastWhatTheyOwe();
        _handler.depositsAreAsTheModelSays();
        _handler.appealsHoldBondsAndCreditsToTheWei();
        _handler.requestsHoldWhatTheyOweToTheWei();
        _handler.nobodyHasMoreThanCameIn();
        _handler.votesAreThoseThatWereCast();
        _handler.verdictsChangeByAppealsOnly();
        _handler.closedBatchesDoNotChange();
        _handler.scoresAreWithinBounds();
        _handler.weightsOfAnEpochAreFrozen();
        _handler.supplyOnlyFalls();
    }
}
