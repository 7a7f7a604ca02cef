// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IRewards} from "../../contracts/interfaces/IRewards.sol";
import {IStakeToken} from "../../contracts/interfaces/IStakeToken.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {Built} from "./Built.sol";

/// @notice Deploys the two that name one another: a contract's second creation has a known address.
contract RequestsDeployer {
    function deploy(IStakeToken token, IRewards staking, IVerdicts batches, address owner, address guardian)
        external
        returns (IPayments payments, IRequests requests)
    {
        bytes32 second = keccak256(abi.encodePacked(hex"d694", address(this), hex"02"));
        address known = address(uint160(uint256(second)));
        bytes memory arguments = abi.encode(token, staking, batches, address(0xA9), known, 1 days, owner);
        payments = IPayments(Built.create("Payments", arguments));
        requests = IRequests(Built.create("Requests", abi.encode(token, batches, payments, owner, guardian)));
        require(address(requests) == known, "another address");
    }
}
