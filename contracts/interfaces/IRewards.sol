// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What those who pay operators ask of the stake: the part of an income that delegators share
interface IRewards {
    /// @return The part of `amount`, at most all of it, that belongs to the operator's pool: none if nobody delegates
    /// to it, else what its commission leaves.
    function poolShareOf(address operator, uint256 amount) external view returns (uint256);

    /// @notice Adds `amount` to the operator's pool: at once or, with delegators, over some days. The tokens were sent
    /// before. Only contracts that pay operators.
    function reward(address operator, uint256 amount) external;
}
