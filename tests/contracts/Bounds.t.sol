// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";

contract Unbonding {
    uint256 public constant unbondingDelay = 90 days;
}

/// @notice What a contract is deployed with has a range: its two ends are in it, one more is not.
contract BoundsTest {
    string[2][6] private _known = [
        ["Payments", "PaymentsNoticeOutOfBounds(uint256,uint256,uint256)"],
        ["Reputation", "ReputationHalfLifeOutOfBounds(uint256,uint256,uint256)"],
        ["Committees", "CommitteesEpochOutOfBounds(uint256,uint256,uint256)"],
        ["Staking", "StakingDelayOutOfBounds(uint256,uint256,uint256)"],
        ["Timelock", "TimelockDelayOutOfBounds(uint256,uint256,uint256)"],
        ["Inclusion", "InclusionOutOfBounds(string,uint256,uint256,uint256)"]
    ];

    function testPaymentsTakesAnHourToAMonth() external {
        _range("Payments", 1 hours, 30 days);
    }

    function testReputationTakesADayToAYear() external {
        _range("Reputation", 1 days, 365 days);
    }

    function testCommitteesTakesEpochsOfEightTo50000Blocks() external {
        _range("Committees", 8, 50_000);
    }

    function testStakingTakesAMinuteToThreeMonths() external {
        _range("Staking", 1 minutes, 90 days);
    }

    function testTimelockTakesADayToAMonthWhereANetworkLasts() external {
        vm.chainId(1);
        _range("Timelock", 1 days, 30 days);
    }

    function testInclusionTakesTenMinutesToAWeek() external {
        _range("Inclusion", 10 minutes, 7 days);
    }

    function testInclusionTakesABondUpToAMillionTokens() external {
        Built.create("Inclusion", abi.encode(_four(), uint256(1), uint256(1 hours)));
        Built.create("Inclusion", abi.encode(_four(), uint256(1e24), uint256(1 hours)));
        _refused("Inclusion", abi.encode(_four(), uint256(0), uint256(1 hours)));
        _refused("Inclusion", abi.encode(_four(), uint256(1e24 + 1), uint256(1 hours)));
    }

    function _range(string memory name, uint256 least, uint256 most) private {
        _refused(name, _arguments(name, least - 1));
        _refused(name, _arguments(name, most + 1));
        Check.yes(Built.create(name, _arguments(name, least)).code.length > 0, "the least");
        Check.yes(Built.create(name, _arguments(name, most)).code.length > 0, "the most");
    }

    function _refused(string memory name, bytes memory arguments) private {
        bytes4 selector;
        for (uint256 i = 0; i < _known.length; ++i) {
            if (keccak256(bytes(_known[i][0])) == keccak256(bytes(name))) {
                selector = bytes4(keccak256(bytes(_known[i][1])));
            }
        }
        vm.expectPartialRevert(selector);
        Built.create(name, arguments);
    }

    function _arguments(string memory name, uint256 value) private returns (bytes memory) {
        bytes32 which = keccak256(bytes(name));
        address one = address(1);
        if (which == keccak256("Payments")) return abi.encode([one, one, one, one, one], value, one);
        if (which == keccak256("Reputation")) return abi.encode(one, one, one, uint64(value));
        if (which == keccak256("Committees")) return abi.encode(new Unbonding(), one, one, value);
        if (which == keccak256("Staking")) return abi.encode([one, one, one, one, one, one, one, one], value);
        if (which == keccak256("Timelock")) return abi.encode(value, new address[](1), new address[](1));
        return abi.encode(_four(), uint256(1), value);
    }

    function _four() private pure returns (address[4] memory) {
        return [address(1), address(1), address(1), address(1)];
    }
}
