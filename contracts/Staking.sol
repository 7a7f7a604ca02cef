// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Wired} from "./Wired.sol";
import {IStakeToken} from "./interfaces/IStakeToken.sol";
import {IStaking} from "./interfaces/IStaking.sol";

/// @title Stake of node and verifier operators
/// @dev Documented in `IStaking`.
contract Staking is IStaking, Wired, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    uint256 public constant MIN_UNBONDING_DELAY = 1 hours;
    uint256 public constant MAX_UNBONDING_DELAY = 90 days;
    uint256 public constant MAX_ENDPOINT_BYTES = 256;

    IStakeToken private immutable TOKEN;
    uint256 private immutable UNBONDING_DELAY;

    address private _batches;
    mapping(address operator => Stake) private _stakes;
    mapping(address operator => string) private _endpoints;

    constructor(IStakeToken token, uint256 delay, address wirer) Wired(wirer) {
        require(
            delay >= MIN_UNBONDING_DELAY && delay <= MAX_UNBONDING_DELAY,
            StakingDelayOutOfBounds(delay, MIN_UNBONDING_DELAY, MAX_UNBONDING_DELAY)
        );
        require(address(token) != address(0), WiredZeroAddress());
        TOKEN = token;
        UNBONDING_DELAY = delay;
    }

    /// @notice Names the contract that may lock and slash. Once.
    // `_wire` refuses zero.
    // slither-disable-next-line missing-zero-check
    function wire(address batches) external {
        address[] memory counterparts = new address[](1);
        counterparts[0] = batches;
        _wire(counterparts);
        _batches = batches;
    }

    /// @inheritdoc IStaking
    function stake(uint256 amount) external nonReentrant {
        require(amount > 0, StakingAmountZero());
        Stake storage mine = _stakes[msg.sender];
        uint128 active = (uint256(mine.active) + amount).toUint128();
        mine.active = active;
        emit Staked(msg.sender, amount, active);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStaking
    function unbond(uint256 amount) external {
        require(amount > 0, StakingAmountZero());
        Stake storage mine = _stakes[msg.sender];
        uint256 free = mine.active - mine.locked;
        require(amount <= free, StakingInsufficientFree(free, amount));
        mine.active -= amount.toUint128();
        mine.unbonding += amount.toUint128();
        mine.releasableAt = (block.timestamp + UNBONDING_DELAY).toUint64();
        emit UnbondingStarted(msg.sender, amount, mine.unbonding, mine.releasableAt);
    }

    /// @inheritdoc IStaking
    function withdraw() external nonReentrant {
        Stake storage mine = _stakes[msg.sender];
        uint256 amount = mine.unbonding;
        require(amount > 0, StakingNothingToWithdraw());
        require(block.timestamp >= mine.releasableAt, StakingStillUnbonding(mine.releasableAt));
        mine.unbonding = 0;
        emit Withdrawn(msg.sender, amount);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IStaking
    function setEndpoint(string calldata endpoint) external {
        uint256 length = bytes(endpoint).length;
        require(length <= MAX_ENDPOINT_BYTES, StakingEndpointTooLong(length, MAX_ENDPOINT_BYTES));
        _endpoints[msg.sender] = endpoint;
        emit EndpointChanged(msg.sender, endpoint);
    }

    /// @inheritdoc IStaking
    function lock(address operator, uint256 amount) external {
        _requireCaller(_batches);
        Stake storage theirs = _stakes[operator];
        uint256 free = theirs.active - theirs.locked;
        require(amount <= free, StakingInsufficientFree(free, amount));
        theirs.locked += amount.toUint128();
        emit Locked(operator, amount, theirs.locked);
    }

    /// @inheritdoc IStaking
    function unlock(address operator, uint256 amount) external {
        _requireCaller(_batches);
        Stake storage theirs = _stakes[operator];
        uint256 unlocked = Math.min(amount, theirs.locked);
        theirs.locked -= unlocked.toUint128();
        emit Unlocked(operator, unlocked, theirs.locked);
    }

    /// @inheritdoc IStaking
    function slash(address operator, uint256 amount, address beneficiary, uint256 compensation, bytes32 cause)
        external
        nonReentrant
        returns (uint256 taken, uint256 compensated)
    {
        _requireCaller(_batches);
        Stake storage theirs = _stakes[operator];
        uint256 fromActive = Math.min(amount, theirs.active);
        uint256 fromUnbonding = Math.min(amount - fromActive, theirs.unbonding);
        taken = fromActive + fromUnbonding;
        compensated = Math.min(compensation, taken);
        uint256 burned = taken - compensated;

        theirs.active -= fromActive.toUint128();
        theirs.unbonding -= fromUnbonding.toUint128();
        if (theirs.locked > theirs.active) theirs.locked = theirs.active;
        emit Slashed(operator, cause, amount, taken, compensated, burned, theirs.active, theirs.unbonding);

        if (compensated > 0) IERC20(TOKEN).safeTransfer(beneficiary, compensated);
        if (burned > 0) TOKEN.burn(burned);
    }

    /// @inheritdoc IStaking
    function stakeOf(address operator) external view returns (Stake memory) {
        return _stakes[operator];
    }

    /// @inheritdoc IStaking
    function freeStakeOf(address operator) external view returns (uint256) {
        Stake storage theirs = _stakes[operator];
        return theirs.active - theirs.locked;
    }

    /// @inheritdoc IStaking
    function endpointOf(address operator) external view returns (string memory) {
        return _endpoints[operator];
    }

    /// @inheritdoc IStaking
    function unbondingDelay() external view returns (uint256) {
        return UNBONDING_DELAY;
    }
}
