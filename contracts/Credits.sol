// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IBatches} from "./interfaces/IBatches.sol";
import {IStakeToken} from "./interfaces/IStakeToken.sol";
import {BatchId} from "./types/Types.sol";

/// @title What batches owe to whom
/// @notice Earnings are credited and fetched by their owner, so that no payee can stop a settlement.
// The rest of the interface is for `Batches`.
// slither-disable-next-line unimplemented-functions
abstract contract Credits is IBatches, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    IStakeToken internal immutable TOKEN;

    mapping(address account => uint256) private _credits;

    constructor(IStakeToken token) {
        TOKEN = token;
    }

    /// @inheritdoc IBatches
    function withdrawCredit() external nonReentrant {
        uint256 amount = _credits[msg.sender];
        require(amount > 0, BatchesNothingToWithdraw());
        _credits[msg.sender] = 0;
        emit CreditWithdrawn(msg.sender, amount);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IBatches
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    function _credit(address account, BatchId batchId, uint256 amount) internal {
        if (amount == 0) return;
        _credits[account] += amount;
        emit Credited(account, batchId, amount);
    }
}
