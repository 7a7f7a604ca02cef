// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Staking} from "../../contracts/Staking.sol";
import {TrineToken} from "../../contracts/TrineToken.sol";
import {Wired} from "../../contracts/Wired.sol";
import {IStakeToken} from "../../contracts/interfaces/IStakeToken.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Check, vm} from "./Vm.sol";

/// @notice This contract plays `Batches`.
contract StakingTest {
    address private constant ALICE = address(0xA11CE);
    address private constant VICTIM = address(0xF00D);

    TrineToken private _token;
    Staking private _staking;

    function setUp() external {
        _token = new TrineToken(address(this), 1_000_000 ether);
        _staking = new Staking(IStakeToken(address(_token)), 1 days, address(this));
        _staking.wire(address(this));
        require(_token.transfer(ALICE, 1000 ether));
        vm.prank(ALICE);
        _token.approve(address(_staking), type(uint256).max);
    }

    function testFuzz_lockedStakeCannotLeave(uint128 staked, uint128 locked, uint128 wanted) external {
        staked = uint128(1 + staked % 1000 ether);
        locked = uint128(locked % (uint256(staked) + 1));
        wanted = uint128(1 + wanted % 1000 ether);
        _stake(staked);
        _staking.lock(ALICE, locked);
        if (wanted > staked - locked) {
            vm.expectPartialRevert(IStaking.StakingInsufficientFree.selector);
        }
        vm.prank(ALICE);
        _staking.unbond(wanted);
        _consistent();
    }

    function testFuzz_slashReachesUnbondingAndNeverFails(uint128 staked, uint128 leaving, uint128 slashed, uint128 paid)
        external
    {
        staked = uint128(1 + staked % 1000 ether);
        leaving = uint128(leaving % (uint256(staked) + 1));
        _stake(staked);
        if (leaving > 0) {
            vm.prank(ALICE);
            _staking.unbond(leaving);
        }
        uint256 supply = _token.totalSupply();
        (uint256 taken, uint256 compensated) = _staking.slash(ALICE, slashed, VICTIM, paid, "cause");
        Check.eq(taken, slashed < staked ? slashed : staked, "takes all there is, no more");
        Check.eq(compensated, paid < taken ? paid : taken, "compensation is bounded by the slash");
        Check.eq(_token.balanceOf(VICTIM), compensated, "the victim is paid");
        Check.eq(supply - _token.totalSupply(), taken - compensated, "the rest is burned");
        IStaking.Stake memory left = _staking.stakeOf(ALICE);
        Check.eq(uint256(left.active) + left.unbonding, staked - taken, "what is left");
        _consistent();
    }

    function testFuzz_slashOfLockedStakeKeepsLockedWithinActive(uint128 locked, uint128 slashed) external {
        _stake(1000 ether);
        locked = uint128(locked % (1000 ether + 1));
        _staking.lock(ALICE, locked);
        _staking.slash(ALICE, slashed, address(0), 0, "cause");
        _consistent();
        _staking.unlock(ALICE, locked);
        Check.eq(_staking.stakeOf(ALICE).locked, 0, "unlocking more than is left frees all");
    }

    function testUnbondingTakesItsTimeAndRestarts() external {
        vm.warp(1000);
        _stake(100 ether);
        vm.startPrank(ALICE);
        _staking.unbond(40 ether);
        vm.warp(1000 + 23 hours);
        _staking.unbond(10 ether);
        vm.warp(1000 + 24 hours);
        vm.expectPartialRevert(IStaking.StakingStillUnbonding.selector);
        _staking.withdraw();
        vm.warp(1000 + 47 hours);
        _staking.withdraw();
        vm.expectPartialRevert(IStaking.StakingNothingToWithdraw.selector);
        _staking.withdraw();
        vm.stopPrank();
        Check.eq(_token.balanceOf(ALICE), 950 ether, "withdrawn");
        _consistent();
    }

    function testRefusals() external {
        vm.expectPartialRevert(IStaking.StakingAmountZero.selector);
        _staking.stake(0);
        vm.expectPartialRevert(IStaking.StakingAmountZero.selector);
        _staking.unbond(0);
        vm.expectPartialRevert(IStaking.StakingInsufficientFree.selector);
        _staking.lock(ALICE, 1);
        vm.expectPartialRevert(IStaking.StakingEndpointTooLong.selector);
        _staking.setEndpoint(string(new bytes(257)));
        vm.expectPartialRevert(IStaking.StakingDelayOutOfBounds.selector);
        new Staking(IStakeToken(address(_token)), 1 minutes, address(this));
        vm.expectPartialRevert(IStaking.StakingDelayOutOfBounds.selector);
        new Staking(IStakeToken(address(_token)), type(uint256).max, address(this));
    }

    function testOnlyBatchesLocksAndSlashes() external {
        vm.startPrank(ALICE);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        _staking.lock(ALICE, 1);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        _staking.unlock(ALICE, 1);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        _staking.slash(ALICE, 1, ALICE, 1, 0);
        vm.stopPrank();
    }

    function testWiringIsForTheWirerAndOnce() external {
        vm.expectPartialRevert(Wired.WiredAlready.selector);
        _staking.wire(ALICE);
        Staking fresh = new Staking(IStakeToken(address(_token)), 1 days, address(this));
        vm.expectPartialRevert(Wired.WiredZeroAddress.selector);
        fresh.wire(address(0));
        vm.prank(ALICE);
        vm.expectPartialRevert(Wired.WiredNotWirer.selector);
        fresh.wire(ALICE);
        vm.expectPartialRevert(Wired.WiredZeroAddress.selector);
        new Staking(IStakeToken(address(_token)), 1 days, address(0));
    }

    function testEndpointIsKept() external {
        vm.prank(ALICE);
        _staking.setEndpoint("https://alice.example");
        Check.eq(keccak256(bytes(_staking.endpointOf(ALICE))), keccak256("https://alice.example"), "endpoint");
        Check.eq(_staking.unbondingDelay(), 1 days, "delay");
    }

    function _stake(uint256 amount) private {
        vm.prank(ALICE);
        _staking.stake(amount);
    }

    function _consistent() private view {
        IStaking.Stake memory s = _staking.stakeOf(ALICE);
        Check.yes(s.locked <= s.active, "locked within active");
        Check.eq(_token.balanceOf(address(_staking)), uint256(s.active) + s.unbonding, "tokens cover the books");
        Check.eq(_staking.freeStakeOf(ALICE), s.active - s.locked, "free");
    }
}

/// @notice Random sequences of everything that can happen to two operators' stake. Never reverts.
contract StakingHandler {
    TrineToken public immutable TOKEN;
    Staking public immutable STAKING;
    address[2] private _operators = [address(0x51), address(0x52)];
    uint256 private _now = 1000;
    uint256 public putIn;
    uint256 public takenOut;
    uint256 public slashedInAll;

    constructor() {
        TOKEN = new TrineToken(address(this), 1_000_000_000 ether);
        STAKING = new Staking(IStakeToken(address(TOKEN)), 1 days, address(this));
        STAKING.wire(address(this));
        for (uint256 i = 0; i < 2; ++i) {
            require(TOKEN.transfer(_operators[i], 1_000_000 ether));
            vm.prank(_operators[i]);
            TOKEN.approve(address(STAKING), type(uint256).max);
        }
    }

    function stake(uint256 who, uint256 amount) external {
        amount = 1 + amount % 100 ether;
        if (TOKEN.balanceOf(operator(who)) < amount) return;
        vm.prank(operator(who));
        STAKING.stake(amount);
        putIn += amount;
    }

    function unbond(uint256 who, uint256 amount) external {
        uint256 free = STAKING.freeStakeOf(operator(who));
        if (free == 0) return;
        vm.prank(operator(who));
        STAKING.unbond(1 + amount % free);
    }

    function withdraw(uint256 who) external {
        _now += 2 days;
        vm.warp(_now);
        uint256 amount = STAKING.stakeOf(operator(who)).unbonding;
        if (amount == 0) return;
        vm.prank(operator(who));
        STAKING.withdraw();
        takenOut += amount;
    }

    function lock(uint256 who, uint256 amount) external {
        uint256 free = STAKING.freeStakeOf(operator(who));
        STAKING.lock(operator(who), free == 0 ? 0 : amount % (free + 1));
    }

    function unlock(uint256 who, uint256 amount) external {
        STAKING.unlock(operator(who), amount % 1000 ether);
    }

    function slash(uint256 who, uint256 amount, uint256 compensation) external {
        (uint256 taken,) = STAKING.slash(operator(who), amount % 50 ether, address(0xF00D), compensation, "cause");
        slashedInAll += taken;
    }

    function operator(uint256 who) public view returns (address) {
        return _operators[who % 2];
    }
}

contract StakingInvariants {
    StakingHandler private _handler;

    function setUp() external {
        _handler = new StakingHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariant_tokensCoverTheBooks() external view {
        uint256 books = 0;
        for (uint256 i = 0; i < 2; ++i) {
            IStaking.Stake memory s = _handler.STAKING().stakeOf(_handler.operator(i));
            books += uint256(s.active) + s.unbonding;
            Check.yes(s.locked <= s.active, "locked within active");
        }
        Check.eq(_handler.TOKEN().balanceOf(address(_handler.STAKING())), books, "tokens cover the books");
        Check.eq(books, _handler.putIn() - _handler.takenOut() - _handler.slashedInAll(), "nothing appears or is lost");
    }
}
