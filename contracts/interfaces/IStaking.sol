// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Stake of node and verifier operators
/// @notice One balance an operator, in three parts: active (secures work), of which some is locked behind batches
/// and seats, and unbonding (leaving, but still slashable until it is withdrawn).
interface IStaking {
    struct Stake {
        uint128 active;
        uint128 locked;
        uint128 unbonding;
        uint64 releasableAt;
    }

    event Staked(address indexed operator, uint256 amount, uint256 active);
    event UnbondingStarted(address indexed operator, uint256 amount, uint256 unbonding, uint256 releasableAt);
    event Withdrawn(address indexed operator, uint256 amount);
    event Locked(address indexed operator, uint256 amount, uint256 locked);
    event Unlocked(address indexed operator, uint256 amount, uint256 locked);
    /// @param cause The batch that caused the slash.
    event Slashed(
        address indexed operator,
        bytes32 indexed cause,
        uint256 requested,
        uint256 taken,
        uint256 compensation,
        uint256 burned,
        uint256 active,
        uint256 unbonding
    );
    event EndpointChanged(address indexed operator, string endpoint);

    error StakingAmountZero();
    error StakingInsufficientFree(uint256 free, uint256 required);
    error StakingStillUnbonding(uint256 releasableAt);
    error StakingNothingToWithdraw();
    error StakingEndpointTooLong(uint256 length, uint256 maximum);
    error StakingDelayOutOfBounds(uint256 delay, uint256 minimum, uint256 maximum);

    /// @notice Adds `amount` of the token to the caller's active stake.
    function stake(uint256 amount) external;

    /// @notice Moves `amount` of the caller's free stake to unbonding. A second call before withdrawal adds to the
    /// amount and restarts the delay for all of it.
    function unbond(uint256 amount) external;

    /// @notice Pays out the caller's unbonding stake after the delay.
    function withdraw() external;

    /// @notice Publishes where the caller's service answers (https URL, at most 256 bytes).
    function setEndpoint(string calldata endpoint) external;

    /// @notice Locks `amount` of the operator's free stake. Only `Batches`.
    function lock(address operator, uint256 amount) external;

    /// @notice Returns `amount` (or what a slash has left of it) from locked to free. Only `Batches`.
    function unlock(address operator, uint256 amount) external;

    /// @notice Takes up to `amount` from active and then unbonding stake; never fails for want of stake.
    /// Up to `compensation` of what was taken goes to `beneficiary`, the rest is burned. Only `Batches`.
    /// @return taken What was really taken.
    /// @return compensated What `beneficiary` received.
    function slash(address operator, uint256 amount, address beneficiary, uint256 compensation, bytes32 cause)
        external
        returns (uint256 taken, uint256 compensated);

    function stakeOf(address operator) external view returns (Stake memory);

    /// @notice Active stake that is not locked.
    function freeStakeOf(address operator) external view returns (uint256);

    function endpointOf(address operator) external view returns (string memory);

    function unbondingDelay() external view returns (uint256);
}
