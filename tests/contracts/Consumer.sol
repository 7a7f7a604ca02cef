// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IAnswerConsumer} from "../../contracts/interfaces/IAnswerConsumer.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";

/// @notice A contract that asks.
abstract contract Consumer is IAnswerConsumer {
    IRequests internal immutable REQUESTS;

    constructor(IRequests requests) {
        REQUESTS = requests;
    }

    function approve(IERC20 token) external {
        token.approve(address(REQUESTS), type(uint256).max);
    }

    function ask(IRequests.Order calldata order) external returns (bytes32) {
        return REQUESTS.post(order);
    }
}
