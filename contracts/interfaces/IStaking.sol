// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRewards} from "./IRewards.sol";

/// @title Stake of node and verifier operators, and of those who delegate to them
/// @notice Each operator has a pool of active stake, which secures work, and a pool of unbonding stake, which is
/// leaving but still slashable. Both are held in shares: slashes and rewards reach every holder in proportion. Part of
/// the stake is locked behind batches and seats. What is locked may start to unbond but is never paid out: a
/// withdrawal must leave as much as is locked. Operators also keep a credit here: prepaid verification fees, and
/// commission.
interface IStaking is IRewards {
    struct Stake {
        uint256 active; // of the operator and its delegators
        uint256 locked;
        uint256 unbonding;
        uint256 own; // the operator's part of active
        uint256 releasing; // income of a pool with delegators that its holders get bit by bit; not slashable before
    }

    /// @notice Shares of the unbonding pool that a holder may turn into tokens from `releasableAt` on.
    struct Ticket {
        uint128 shares;
        uint64 releasableAt;
    }

    /// @notice A seat in a committee with what is locked for it.
    struct Seat {
        address verifier;
        uint96 locked;
    }

    event Staked(address indexed operator, address indexed holder, uint256 amount, uint256 shares, uint256 active);
    event UnbondingStarted(
        address indexed operator, address indexed holder, uint256 amount, uint256 active, uint256 releasableAt
    );
    event Withdrawn(address indexed operator, address indexed holder, uint256 amount);
    event Rewarded(address indexed operator, uint256 amount, uint256 commission, uint256 active);
    /// @notice Seats were freed and each verifier's pool had its reward, less commission; who has left has it in
    /// credit. What is locked and freed is told by the events of batches and appeals.
    event SeatsPaid(bytes32 indexed cause, Seat[] seats, uint256[] rewards);
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
    /// @notice Slashed to dust: what was left is burned and the shares are void.
    event PoolReset(address indexed operator, bool unbonding, uint256 burned);
    event CreditAdded(address indexed account, uint256 amount, uint256 credit);
    event CreditWithdrawn(address indexed account, uint256 amount);
    event DelegationOpened(address indexed operator, uint256 limit);
    event CommissionChanged(address indexed operator, uint256 commissionBps, uint256 effectiveAt);
    event EndpointChanged(address indexed operator, string endpoint);

    error StakingAmountTooSmall(uint256 amount, uint256 minimum);
    error StakingOwnStakeRequired(address operator);
    error StakingDelegationLimit(address operator, uint256 limit, uint256 delegated);
    error StakingInsufficientFree(uint256 free, uint256 required);
    error StakingInsufficientShares(uint256 shares, uint256 required);
    error StakingInsufficientCredit(uint256 credit, uint256 required);
    error StakingStillUnbonding(uint256 releasableAt);
    error StakingStillLocked(uint256 remaining, uint256 locked);
    error StakingNothingToWithdraw();
    error StakingCommissionOutOfBounds(uint256 commissionBps, uint256 maximum);
    error StakingEndpointTooLong(uint256 length, uint256 maximum);
    error StakingDelayOutOfBounds(uint256 delay, uint256 minimum, uint256 maximum);
    error StakingUnauthorized(address caller);
    error StakingZeroAddress();

    /// @notice Adds `amount` of the token to the caller's own stake as an operator.
    function stake(uint256 amount) external returns (uint256 shares);

    /// @notice Adds `amount` of the token to an operator's stake, for the caller: rewards and slashes are shared.
    /// The operator must have stake of its own and have opened its pool to so much.
    /// @dev Rewards are shared by who is there while they are released, over `RELEASE_SECONDS`: nothing is to be had of
    /// an income by coming just before it, and who leaves gives up what is not released yet.
    /// @param maxCommissionBps Reverts if the operator keeps, or will keep, more. Once somebody has delegated, its
    /// commission rises only after the unbonding delay.
    function delegate(address operator, uint256 amount, uint256 maxCommissionBps) external returns (uint256 shares);

    /// @notice Lets others delegate to the caller, up to `limit` of them together, on these terms. Closed until then:
    /// who delegates takes part in the income, and only the operator can say whether it wants that. A limit below what
    /// has been delegated turns nobody out; zero closes.
    function openDelegation(uint256 limit, uint16 commissionBps) external;

    /// @notice Moves the caller's stake with the operator worth `amount` to unbonding; at most all of it. A second
    /// call before the withdrawal adds to the ticket and restarts the delay for all of it.
    function unbond(address operator, uint256 amount) external;

    /// @notice Pays out the caller's ticket after the delay, as far as slashes have left it.
    function withdraw(address operator) external returns (uint256 amount);

    /// @notice Adds to the caller's credit, from which verification fees are paid.
    function addCredit(uint256 amount) external;

    /// @notice Pays out the caller's credit.
    function withdrawCredit() external;

    /// @notice What the operator keeps of rewards before they are shared. A rise counts only after the unbonding
    /// delay, so that delegators can leave before it.
    function setCommission(uint16 commissionBps) external;

    /// @notice Publishes where the caller's service answers (https URL, at most 256 bytes).
    function setEndpoint(string calldata endpoint) external;

    /// @notice Locks `amount` of the operator's free stake and takes `fee` from its credit. Only `Batches`.
    function secure(address operator, uint256 amount, uint256 fee) external;

    /// @notice Locks up to `amount` for each seat, of active stake and then of what is unbonding; never fails: a
    /// verifier that cannot cover its seat must not stop a draw. Only `Batches`, `Finality`, `Appeals`.
    /// @param workSeconds What the seat takes a verifier; it begins when what it was drawn for before can be done.
    /// @param maxSeconds No verifier is reckoned to be busy for longer than that.
    /// @return seats What was locked for each.
    /// @return doneBy When the busiest of them can be done, seconds.
    function lockSeats(address[] calldata verifiers, uint256 amount, uint256 workSeconds, uint256 maxSeconds)
        external
        returns (Seat[] memory seats, uint256 doneBy);

    /// @notice When all that an operator was drawn for can be checked, seconds; may be past.
    function busyUntil(address operator) external view returns (uint256);

    /// @notice Returns `amount` (or what slashes have left of it) from locked to free. Only `Batches`, `Finality`,
    /// `Appeals`.
    function unlock(address operator, uint256 amount) external;

    /// @notice Unlocks seats and pays each its reward, out of tokens that are here already: fees that `secure` took.
    /// Only `Batches`, `Finality`, `Appeals`.
    /// @param cause The batch.
    function paySeats(Seat[] calldata seats, uint256[] calldata rewards, bytes32 cause) external;

    /// @notice Takes up to `amount` from active and unbonding stake in proportion; never fails for want of stake.
    /// Up to `compensation` of what was taken goes to `beneficiary`, half of it at most; the rest is burned. Only
    /// `Batches`, `Finality`, `Appeals`, `Inclusion`.
    /// @return taken What was really taken.
    /// @return compensated What `beneficiary` received.
    function slash(address operator, uint256 amount, address beneficiary, uint256 compensation, bytes32 cause)
        external
        returns (uint256 taken, uint256 compensated);

    /// @notice Adds tokens that are here already to an account's credit. Only `Batches`, `Finality`, `Appeals`.
    function credit(address account, uint256 amount) external;

    /// @notice Burns tokens that are here already: fees that nobody earned. Only `Batches`, `Finality`, `Appeals`.
    function burnFees(uint256 amount) external;

    function stakeOf(address operator) external view returns (Stake memory);

    /// @notice Worth of a holder's active stake with an operator, and its shares. Rounded down.
    function delegationOf(address operator, address holder) external view returns (uint256 amount, uint256 shares);

    /// @notice A holder's ticket and what it is worth now. Rounded down.
    function ticketOf(address operator, address holder) external view returns (Ticket memory ticket, uint256 amount);

    /// @notice How much others may have delegated to the operator; zero: it takes no delegations.
    function delegationLimitOf(address operator) external view returns (uint256);

    /// @notice Active stake that is not locked.
    function freeStakeOf(address operator) external view returns (uint256);

    function creditOf(address account) external view returns (uint256);

    function commissionOf(address operator) external view returns (uint256 commissionBps);

    /// @notice What the operator has set last, and from when on that counts, in seconds: past, or to come.
    function announcedCommissionOf(address operator)
        external
        view
        returns (uint256 commissionBps, uint256 effectiveAt);

    function endpointOf(address operator) external view returns (string memory);

    function unbondingDelay() external view returns (uint256);
}
