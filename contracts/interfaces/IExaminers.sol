// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, Header} from "../types/Types.sol";

/// @title Pay for canaries
/// @notice Whoever plants canaries (`ICanaries`) pays verifiers to reject what nobody ordered. This contract gives that
/// back, out of what the protocol has: it may be the treasury that `Payments` sends protocol fees to, and anybody may
/// send it tokens. Anybody may be paid: the node of a batch whose opened canaries the committee, or an appeal, has
/// rejected for good.
/// Bounded so that nobody lives on it. A canary counts where ordinary leaves that were accepted are around it. A batch
/// earns no more than half of what its verifiers were paid, so a batch of nothing but its own leaves costs more than it
/// brings, unless the examiner is most of its verifiers as well. And a period has a budget.
/// Fines are not paid out here: where an appeal has turned an accepted canary, half of them goes to who appealed, as
/// for any answer, and elsewhere they are burned. Else it would pay to plant what only some hardware can see, and to
/// rob the honest seats that cannot.
interface IExaminers {
    struct Values {
        uint96 bountyWei; // for a confirmed canary
        uint128 budgetWei; // of all batches together, a period
        uint16 ordinaryPerCanary; // leaves that were accepted and are no canaries, for each canary that is paid
    }

    event ValuesSet(Values values);
    event ExaminerPaid(
        BatchId indexed batchId, address indexed examiner, uint256 confirmed, uint256 counted, uint256 amount
    );
    event Released(address indexed to, uint256 amount);

    error ExaminersZeroAddress();
    error ExaminersOutOfBounds(string name);
    error ExaminersNotFinal(BatchId batchId);
    error ExaminersNothingToPay(BatchId batchId, uint256 confirmed, uint256 ordinary);
    error ExaminersAlreadyPaid(BatchId batchId);
    error ExaminersBudgetSpent(uint256 leftWei, uint256 amount, uint256 until);
    error ExaminersPoolTooSmall(uint256 balance, uint256 amount);

    /// @notice Pays a batch's node for its confirmed canaries, once. Anyone may call, as soon as the batch and its
    /// appeals are final; with the period's budget spent, or nothing in the pool, again later.
    function claim(Header calldata header) external returns (uint256 amount);

    /// @notice What `claim` would pay, whatever budget and pool have left. Reverts as it would.
    function dueFor(Header calldata header)
        external
        view
        returns (uint256 confirmed, uint256 counted, uint256 amount);

    /// @notice Sets what is paid, within bounds that are in code. Only the owner, a timelock.
    function set(Values calldata values) external;

    /// @notice Sends on what is not needed here. Only the owner: nothing in the pool is owed to anybody.
    function release(address to, uint256 amount) external;

    function current() external view returns (Values memory);

    /// @notice What the running period's budget has left, and when the next begins (seconds).
    function budget() external view returns (uint256 leftWei, uint256 until);

    function isPaid(BatchId batchId) external view returns (bool);
}
