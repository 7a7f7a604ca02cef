// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Check, Vm, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice Staking as deployed; the contracts that may call it are pranked.
abstract contract StakingWorld is World {
    address internal constant OPERATOR = address(0x0B);
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    address internal constant STRANGER = address(0xbad);
    uint256 internal constant PURSE = 100_000_000 ether;
    uint256 internal constant MIN_AMOUNT = 1e9;
    bytes32 internal constant CAUSE = keccak256("cause");

    function _stakingWorld() internal {
        _deploy();
        address[3] memory accounts = [OPERATOR, ALICE, BOB];
        for (uint256 i = 0; i < 3; ++i) {
            require(token.transfer(accounts[i], PURSE));
            vm.prank(accounts[i]);
            token.approve(address(staking), type(uint256).max);
        }
        vm.prank(OPERATOR);
        staking.openDelegation(type(uint256).max, 0);
    }

    function _stake(address operator, uint256 amount) internal {
        vm.prank(operator);
        staking.stake(amount);
    }

    function _delegate(address holder, uint256 amount) internal {
        vm.prank(holder);
        staking.delegate(OPERATOR, amount, 5000);
    }

    function _unbond(address holder, uint256 amount) internal {
        vm.prank(holder);
        staking.unbond(OPERATOR, amount);
    }

    function _unbondAll(address holder) internal {
        (uint256 worth,) = staking.delegationOf(OPERATOR, holder);
        if (worth > 0) _unbond(holder, worth);
    }

    function _withdraw(address holder) internal returns (uint256) {
        vm.prank(holder);
        return staking.withdraw(OPERATOR);
    }

    function _secure(uint256 amount) internal {
        vm.prank(address(batches));
        staking.secure(OPERATOR, amount, 0);
    }

    function _unlock(uint256 amount) internal {
        vm.prank(address(finality));
        staking.unlock(OPERATOR, amount);
    }

    function _slash(uint256 amount) internal returns (uint256 taken) {
        vm.prank(address(batches));
        (taken,) = staking.slash(OPERATOR, amount, address(0), 0, CAUSE);
    }

    /// As `Payments` does: the tokens first.
    function _reward(uint256 amount) internal {
        require(token.transfer(address(staking), amount));
        vm.prank(address(payments));
        staking.reward(OPERATOR, amount);
    }

    /// A seat's reward, from tokens that are there already.
    function _paySeat(address verifier, uint256 locked, uint256 reward) internal {
        require(token.transfer(address(staking), reward));
        IStaking.Seat[] memory seats = new IStaking.Seat[](1);
        seats[0] = IStaking.Seat(verifier, uint96(locked));
        uint256[] memory rewards = new uint256[](1);
        rewards[0] = reward;
        vm.prank(address(batches));
        staking.paySeats(seats, rewards, CAUSE);
    }

    function _goTo(uint256 time) internal {
        timestamp = time;
        vm.warp(time);
    }

    function _worth(address holder) internal view returns (uint256 worth) {
        (worth,) = staking.delegationOf(OPERATOR, holder);
    }

    function _leaving(address holder) internal view returns (uint256 amount) {
        (, amount) = staking.ticketOf(OPERATOR, holder);
    }

    /// Tokens held are stake and credits, to the wei.
    function _covered() internal view {
        uint256 owed = _owedTo(OPERATOR) + _owedTo(ALICE) + _owedTo(BOB);
        Check.eq(token.balanceOf(address(staking)), owed, "tokens are what is owed");
    }
}

contract StakingTest is StakingWorld {
    function setUp() external {
        _stakingWorld();
    }

    function testStakeIsTheOperatorsOwn() external {
        vm.expectEmit(address(staking));
        emit IStaking.Staked(OPERATOR, OPERATOR, 100 ether, 100 ether * 1e6, 100 ether);
        _stake(OPERATOR, 100 ether);
        IStaking.Stake memory stake = staking.stakeOf(OPERATOR);
        Check.eq(stake.active, 100 ether, "active");
        Check.eq(stake.own, 100 ether, "own");
        Check.eq(stake.locked + stake.unbonding, 0, "nothing else");
        Check.eq(_worth(OPERATOR), 100 ether, "held in shares");
        Check.eq(staking.freeStakeOf(OPERATOR), 100 ether, "free");
        Check.eq(token.balanceOf(OPERATOR), PURSE - 100 ether, "paid");
        _covered();
    }

    function testDelegatedStakeIsActiveButNotTheOperatorsOwn() external {
        _stake(OPERATOR, 100 ether);
        vm.expectEmit(address(staking));
        emit IStaking.Staked(OPERATOR, ALICE, 300 ether, 300 ether * 1e6, 400 ether);
        _delegate(ALICE, 300 ether);
        IStaking.Stake memory stake = staking.stakeOf(OPERATOR);
        Check.eq(stake.active, 400 ether, "active");
        Check.eq(stake.own, 100 ether, "own");
        Check.eq(_worth(ALICE), 300 ether, "the delegator's");
        _delegate(OPERATOR, 1 ether);
        Check.eq(staking.stakeOf(OPERATOR).own, 101 ether, "to oneself it is stake");
        _covered();
    }

    function testNobodyCanDelegateToAnOperatorWithoutOwnStake() external {
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingOwnStakeRequired.selector, OPERATOR));
        _delegate(ALICE, 1 ether);
        _stake(OPERATOR, 1 ether);
        _delegate(ALICE, 1 ether);
        _unbondAll(OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingOwnStakeRequired.selector, OPERATOR));
        _delegate(BOB, 1 ether);
    }

    function testDustIsRefused() external {
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingAmountTooSmall.selector, MIN_AMOUNT - 1, MIN_AMOUNT));
        _stake(OPERATOR, MIN_AMOUNT - 1);
        _stake(OPERATOR, MIN_AMOUNT);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingAmountTooSmall.selector, 0, MIN_AMOUNT));
        _delegate(ALICE, 0);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingAmountTooSmall.selector, MIN_AMOUNT - 1, MIN_AMOUNT));
        _unbond(OPERATOR, MIN_AMOUNT - 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingAmountTooSmall.selector, 0, MIN_AMOUNT));
        _unbond(OPERATOR, 0);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingAmountTooSmall.selector, 0, MIN_AMOUNT));
        _unbond(BOB, 0); // who has nothing
    }

    function testADepositWorthNoShareIsRefused() external {
        _stake(OPERATOR, MIN_AMOUNT);
        // What is left of the shares is worth a million ether.
        _reward(1_000_000 ether);
        _unbond(OPERATOR, _worth(OPERATOR) - MIN_AMOUNT);
        _reward(1_000_000 ether);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingAmountTooSmall.selector, MIN_AMOUNT, MIN_AMOUNT));
        _stake(OPERATOR, MIN_AMOUNT);
    }

    function testDustThatSlashesLeftCanStillLeave() external {
        _stake(OPERATOR, MIN_AMOUNT);
        _slash(MIN_AMOUNT - 5e6);
        Check.eq(_worth(OPERATOR), 5e6, "less than the minimum");
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingAmountTooSmall.selector, 5e6 - 1, MIN_AMOUNT));
        _unbond(OPERATOR, 5e6 - 1);
        _unbond(OPERATOR, 5e6);
        Check.eq(_worth(OPERATOR), 0, "all of it");
        _wait(UNBONDING);
        Check.eq(_withdraw(OPERATOR), 5e6, "paid");
        _covered();
    }

    function testNobodyUnbondsMoreThanItHolds() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        uint256 shares = 100 ether * 1e6;
        vm.expectRevert(
            abi.encodeWithSelector(IStaking.StakingInsufficientShares.selector, shares, shares + 1e6)
        );
        _unbond(ALICE, 100 ether + 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingInsufficientShares.selector, 0, shares));
        _unbond(BOB, 100 ether);
    }

    function testUnbondingTakesItsTimeAndRestarts() external {
        _stake(OPERATOR, 100 ether);
        vm.expectEmit(address(staking));
        emit IStaking.UnbondingStarted(OPERATOR, OPERATOR, 40 ether, 60 ether, START + UNBONDING);
        _unbond(OPERATOR, 40 ether);
        Check.eq(staking.stakeOf(OPERATOR).unbonding, 40 ether, "unbonding");
        _goTo(START + UNBONDING - 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingStillUnbonding.selector, START + UNBONDING));
        _withdraw(OPERATOR);
        _unbond(OPERATOR, 10 ether);
        _goTo(START + UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingStillUnbonding.selector, START + 2 * UNBONDING - 1));
        _withdraw(OPERATOR);
        _goTo(START + 2 * UNBONDING - 1);
        (IStaking.Ticket memory ticket, uint256 amount) = staking.ticketOf(OPERATOR, OPERATOR);
        Check.eq(ticket.releasableAt, START + 2 * UNBONDING - 1, "releasable");
        Check.eq(amount, 50 ether, "both");
        vm.expectEmit(address(staking));
        emit IStaking.Withdrawn(OPERATOR, OPERATOR, 50 ether);
        _withdraw(OPERATOR);
        Check.eq(token.balanceOf(OPERATOR), PURSE - 50 ether, "withdrawn");
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingNothingToWithdraw.selector));
        _withdraw(OPERATOR);
        _covered();
    }

    function testEachHolderWithdrawsItsOwn() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 200 ether);
        _delegate(BOB, 300 ether);
        _unbond(ALICE, 150 ether);
        _unbondAll(BOB);
        _wait(UNBONDING);
        Check.eq(_withdraw(ALICE), 150 ether, "Alice");
        Check.eq(_withdraw(BOB), 300 ether, "Bob");
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingNothingToWithdraw.selector));
        _withdraw(OPERATOR);
        Check.eq(_worth(ALICE), 50 ether, "left");
        Check.eq(staking.stakeOf(OPERATOR).active, 150 ether, "active");
        _covered();
    }

    function testRewardsAreSharedInProportionAfterTheCommission() external {
        _stake(OPERATOR, 100 ether);
        _setCommission(1000);
        _delegate(ALICE, 300 ether);
        Check.eq(staking.poolShareOf(OPERATOR, 10 ether), 9 ether, "what payers send here");
        require(token.transfer(address(staking), 9 ether));
        vm.expectEmit(address(staking));
        emit IStaking.Rewarded(OPERATOR, 9 ether, 0, 400 ether);
        vm.prank(address(payments));
        staking.reward(OPERATOR, 9 ether);
        Check.eq(_worth(ALICE), 300 ether, "nothing yet");
        _wait(7 days);
        Check.eq(_worth(OPERATOR), 102.25 ether - 1, "a quarter, rounded down");
        Check.eq(_worth(ALICE), 306.75 ether - 1, "three quarters");
        // Of a seat's reward the commission becomes credit.
        require(token.transfer(address(staking), 10 ether));
        IStaking.Seat[] memory seats = new IStaking.Seat[](1);
        seats[0] = IStaking.Seat(OPERATOR, 0);
        uint256[] memory rewards = new uint256[](1);
        rewards[0] = 10 ether;
        vm.expectEmit(address(staking));
        emit IStaking.SeatsPaid(CAUSE, seats, rewards);
        vm.expectEmit(address(staking));
        emit IStaking.CreditAdded(OPERATOR, 1 ether, 1 ether);
        vm.prank(address(batches));
        staking.paySeats(seats, rewards, CAUSE);
        Check.eq(staking.creditOf(OPERATOR), 1 ether, "commission");
        _covered();
    }

    function testIncomeIsReleasedEvenly() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _reward(14 ether);
        Check.eq(staking.stakeOf(OPERATOR).releasing, 14 ether, "all of it");
        _wait(1 days);
        Check.eq(staking.stakeOf(OPERATOR).active, 202 ether, "a seventh a day");
        Check.eq(staking.stakeOf(OPERATOR).releasing, 12 ether, "the rest");
        Check.eq(_worth(ALICE), 101 ether - 1, "half of it");
        // Twelve in six days and four in seven: what came before does not come later for it.
        _reward(4 ether);
        Check.eq(staking.stakeOf(OPERATOR).releasing, 16 ether, "both");
        _wait(6 days);
        Check.atMost(staking.stakeOf(OPERATOR).releasing, 0.65 ether, "nearly all after the first one's time");
        _covered();
        _wait(1 days);
        Check.eq(staking.stakeOf(OPERATOR).releasing, 0, "nothing left");
        Check.eq(staking.stakeOf(OPERATOR).active, 218 ether, "all of it");
        // Each act books what is there by then.
        _stake(OPERATOR, 1 ether);
        _slash(1 ether);
        Check.eq(staking.stakeOf(OPERATOR).active, 218 ether, "booked");
        _covered();
    }

    function testTinyIncomesDoNotHoldBackALargeOne() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _reward(14 ether);
        for (uint256 i = 0; i < 8; ++i) {
            _wait(1 days);
            _reward(0.001 ether);
        }
        Check.atMost(staking.stakeOf(OPERATOR).releasing, 0.02 ether, "released all the same");
        _covered();
    }

    function testTheSmallestIncomeIsReleasedAndBookedLikeAnyOther() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _paySeat(OPERATOR, 0, 1);
        Check.eq(staking.stakeOf(OPERATOR).releasing, 1, "one wei");
        _covered();
        _wait(7 days);
        uint256 minted = (MIN_AMOUNT * (200 ether * 1e6 + 1e6)) / (200 ether + 1 + 1);
        vm.expectEmit(address(staking));
        emit IStaking.Staked(OPERATOR, OPERATOR, MIN_AMOUNT, minted, 200 ether + 1 + MIN_AMOUNT);
        _stake(OPERATOR, MIN_AMOUNT);
        // Nothing is to be released any more, in the very second in which it was.
        _stake(OPERATOR, MIN_AMOUNT);
        _reward(1);
        _unbondAll(ALICE);
        Check.eq(staking.stakeOf(OPERATOR).releasing, 0, "alone again");
        _covered();
    }

    /// However often somebody books what there is, which may be nothing yet.
    function testFrequentActsDoNotHoldBackATinyIncome() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _reward(100);
        for (uint256 i = 0; i < 4; ++i) {
            _wait(3024);
            _stake(OPERATOR, MIN_AMOUNT);
        }
        Check.eq(staking.stakeOf(OPERATOR).releasing, 98, "two of a hundred in a fiftieth of the time");
        _covered();
    }

    function testASeatThatEarnsNothingIsFreedAllTheSame() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _secure(60 ether);
        vm.recordLogs();
        _paySeat(OPERATOR, 60 ether, 0);
        Check.eq(staking.stakeOf(OPERATOR).locked, 0, "free");
        Check.eq(staking.stakeOf(OPERATOR).releasing, 0, "nothing to release");
        // The token's, of nothing, and the seats'.
        Check.eq(vm.getRecordedLogs().length, 2, "nobody is credited");
        _paySeat(BOB, 0, 1);
        Check.eq(staking.creditOf(BOB), 1, "one wei is credited");
        _covered();
    }

    function testAloneAgainTheOperatorHasTheRestAtOnce() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _reward(14 ether);
        _unbondAll(ALICE);
        Check.eq(_leaving(ALICE), 100 ether, "who leaves gives it up");
        IStaking.Stake memory stake = staking.stakeOf(OPERATOR);
        Check.eq(stake.active, 114 ether, "the operator's");
        Check.eq(stake.own + stake.releasing, 114 ether, "at once");
        Check.eq(staking.poolShareOf(OPERATOR, 1 ether), 0, "payers pay the operator again");
        _covered();
        // And in credit where it has left before.
        _delegate(ALICE, 100 ether);
        _reward(5 ether);
        _unbondAll(OPERATOR);
        _unbondAll(ALICE);
        Check.eq(staking.creditOf(OPERATOR), 5 ether, "credit");
        _covered();
        // Of nothing that was left nobody is told.
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _unbondAll(OPERATOR);
        vm.recordLogs();
        _unbondAll(ALICE);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            Check.yes(logs[i].topics[0] != IStaking.CreditAdded.selector, "no credit");
        }
    }

    function testWhatASlashVoidsTakesItsIncomeAlong() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _reward(14 ether);
        uint256 supply = token.totalSupply();
        _slash(200 ether);
        Check.eq(supply - token.totalSupply(), 214 ether, "burned");
        Check.eq(staking.stakeOf(OPERATOR).releasing, 0, "nothing left");
        _covered();
    }

    function testDelegationIsByConsent() external {
        _stake(OPERATOR, 100 ether);
        vm.expectEmit(address(staking));
        emit IStaking.DelegationOpened(OPERATOR, 50 ether);
        vm.expectEmit(address(staking));
        emit IStaking.CommissionChanged(OPERATOR, 1000, START);
        vm.prank(OPERATOR);
        staking.openDelegation(50 ether, 1000);
        Check.eq(staking.delegationLimitOf(OPERATOR), 50 ether, "limit");
        _delegate(ALICE, 30 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IStaking.StakingDelegationLimit.selector, OPERATOR, 50 ether, 51 ether)
        );
        _delegate(BOB, 21 ether);
        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingCommissionOutOfBounds.selector, 1000, 999));
        staking.delegate(OPERATOR, 20 ether, 999);
        // A rise that is announced counts as well.
        _setCommission(2000);
        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingCommissionOutOfBounds.selector, 2000, 1000));
        staking.delegate(OPERATOR, 20 ether, 1000);
        _delegate(BOB, 20 ether);
        vm.prank(OPERATOR);
        staking.openDelegation(0, 2000);
        Check.eq(_worth(BOB), 20 ether, "a lower limit turns nobody out");
        vm.expectRevert(
            abi.encodeWithSelector(IStaking.StakingDelegationLimit.selector, OPERATOR, 0, 50 ether + MIN_AMOUNT)
        );
        _delegate(BOB, MIN_AMOUNT);
        vm.prank(OPERATOR);
        staking.delegate(OPERATOR, 1 ether, 0);
        Check.eq(staking.stakeOf(OPERATOR).own, 101 ether, "nobody needs its own consent");
    }

    function testWithoutDelegatorsThereIsNoCommission() external {
        _stake(OPERATOR, 100 ether);
        _setCommission(1000);
        Check.eq(staking.poolShareOf(OPERATOR, 10 ether), 0, "payers pay the operator");
        _paySeat(OPERATOR, 0, 10 ether);
        Check.eq(staking.stakeOf(OPERATOR).active, 110 ether, "a seat's reward is stake");
        Check.eq(staking.creditOf(OPERATOR), 0, "no commission");
        _covered();
    }

    function testAReceivedRewardCanBeUnbonded() external {
        _stake(OPERATOR, 100 ether);
        _paySeat(OPERATOR, 0, 10 ether);
        _unbondAll(OPERATOR);
        _wait(UNBONDING);
        Check.atMost(110 ether - _withdraw(OPERATOR), 1e6, "but for the rounding");
    }

    /// A pool that nobody has a share of would keep it for ever.
    function testWhoHasLeftIsPaidInCredit() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _unbondAll(OPERATOR);
        _unbondAll(ALICE);
        Check.eq(staking.poolShareOf(OPERATOR, 10 ether), 0, "payers pay the operator");
        _paySeat(OPERATOR, 0, 10 ether);
        Check.eq(staking.creditOf(OPERATOR), 10 ether, "credit");
        Check.eq(staking.stakeOf(OPERATOR).active, 0, "not stake of nobody");
        _covered();
    }

    function testWhoWasSlashedToNothingIsPaidInCredit() external {
        _stake(OPERATOR, 100 ether);
        _slash(100 ether);
        _paySeat(OPERATOR, 0, 10 ether);
        Check.eq(staking.creditOf(OPERATOR), 10 ether, "credit");
        _covered();
    }

    function testSlashTakesTheSameShareOfWhoUnbondedBefore() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 300 ether);
        _delegate(BOB, 100 ether);
        _unbondAll(ALICE);
        uint256 supply = token.totalSupply();
        vm.expectEmit(address(staking));
        emit IStaking.Slashed(OPERATOR, CAUSE, 50 ether, 50 ether, 20 ether, 30 ether, 180 ether, 270 ether);
        vm.prank(address(finality));
        (uint256 taken, uint256 compensated) = staking.slash(OPERATOR, 50 ether, STRANGER, 20 ether, CAUSE);
        Check.eq(taken, 50 ether, "taken");
        Check.eq(compensated, 20 ether, "compensated");
        Check.eq(token.balanceOf(STRANGER), 20 ether, "paid");
        Check.eq(supply - token.totalSupply(), 30 ether, "burned");
        Check.eq(_worth(OPERATOR), 90 ether, "a tenth of the operator's");
        Check.eq(_worth(BOB), 90 ether, "a tenth of Bob's");
        Check.eq(_leaving(ALICE), 270 ether, "a tenth of what Alice has unbonding");
        _wait(UNBONDING);
        Check.eq(_withdraw(ALICE), 270 ether, "and that is paid");
        _covered();
    }

    function testTheSmallestSlashIsShared() external {
        _stake(OPERATOR, 100 ether);
        uint256 supply = token.totalSupply();
        vm.prank(address(finality));
        (uint256 taken, uint256 compensated) = staking.slash(OPERATOR, 2, STRANGER, 2, CAUSE);
        Check.eq(taken, 2, "taken");
        Check.eq(compensated, 1, "half of it");
        Check.eq(token.balanceOf(STRANGER), 1, "paid");
        Check.eq(supply - token.totalSupply(), 1, "burned");
        _covered();
    }

    function testFuzz_slashTakesAllThereIsAndNoMore(uint96 staked, uint96 leaving, uint128 slashed, uint128 paid)
        external
    {
        staked = uint96(MIN_AMOUNT + staked % (PURSE - MIN_AMOUNT));
        leaving = uint96(leaving % (uint256(staked) + 1));
        if (leaving < MIN_AMOUNT) leaving = staked;
        _stake(OPERATOR, staked);
        _unbond(OPERATOR, leaving);
        uint256 supply = token.totalSupply();
        vm.prank(address(appeals));
        (uint256 taken, uint256 compensated) = staking.slash(OPERATOR, slashed, STRANGER, paid, CAUSE);
        Check.eq(taken, slashed < staked ? slashed : staked, "takes all there is, no more");
        Check.eq(compensated, paid < taken / 2 ? paid : taken / 2, "half is burned at least");
        Check.eq(token.balanceOf(STRANGER), compensated, "paid");
        IStaking.Stake memory left = staking.stakeOf(OPERATOR);
        Check.eq(
            left.active + left.unbonding + (supply - token.totalSupply()) + compensated, staked, "the rest is burned"
        );
        _covered();
    }

    function testWhatASlashLeavesAsDustIsVoid() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        _unbond(ALICE, 50 ether);
        (, uint256 shares) = staking.delegationOf(OPERATOR, ALICE);
        Check.eq(shares, 50 ether * 1e6, "shares");
        uint256 supply = token.totalSupply();
        vm.expectEmit(address(staking));
        emit IStaking.PoolReset(OPERATOR, false, 3);
        vm.expectEmit(address(staking));
        emit IStaking.PoolReset(OPERATOR, true, 1);
        _slash(200 ether - 4);
        Check.eq(supply - token.totalSupply(), 200 ether, "the dust is burned, too");
        (, shares) = staking.delegationOf(OPERATOR, ALICE);
        Check.eq(shares, 0, "shares are void");
        Check.eq(_leaving(ALICE), 0, "tickets are void");
        _wait(UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingNothingToWithdraw.selector));
        _withdraw(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingInsufficientShares.selector, 0, 1e6 * MIN_AMOUNT));
        _unbond(ALICE, MIN_AMOUNT);
        // The operator begins anew, alone.
        _stake(OPERATOR, 10 ether);
        Check.eq(staking.stakeOf(OPERATOR).own, 10 ether, "all its own");
        Check.eq(staking.poolShareOf(OPERATOR, 1 ether), 0, "nobody delegates to it");
        _covered();
    }

    function testOneWeiMoreAndSharesAreNotVoid() external {
        _stake(OPERATOR, 100 ether);
        _slash(100 ether - 0.1 ether);
        Check.eq(_worth(OPERATOR), 0.1 ether, "a thousandth is left");
        _slash(1);
        Check.eq(staking.stakeOf(OPERATOR).active, 0, "a wei less is dust");
        _covered();
    }

    function testFuzz_theSlashedPartyCannotMakeASlashFail(uint256 random) external {
        if (random & 1 != 0) _stake(OPERATOR, 1 ether);
        if (random & 3 == 3) _delegate(ALICE, 10 ether);
        if (random & 4 != 0) _setCommission(5000);
        if (random & 8 != 0 && _worth(OPERATOR) > 0) _secure((random >> 32) % (staking.freeStakeOf(OPERATOR) + 1));
        if (random & 16 != 0) _unbondAll(OPERATOR);
        if (random & 32 != 0) _unbondAll(ALICE);
        if (random & 64 != 0) {
            _slash((random >> 64) % 12 ether);
            if (_worth(OPERATOR) == 0) _stake(OPERATOR, MIN_AMOUNT);
        }
        if (random & 128 != 0) _reward((random >> 96) % 5 ether);
        IStaking.Stake memory before = staking.stakeOf(OPERATOR);
        uint256 amount = (random >> 128) % 20 ether;
        uint256 all = before.active + before.unbonding;
        Check.eq(_slash(amount), amount < all ? amount : all, "taken");
        IStaking.Stake memory left = staking.stakeOf(OPERATOR);
        Check.yes(left.locked <= left.active + left.unbonding, "what is locked is there");
        _covered();
    }

    function testManyRoundsOfSlashAndDepositDoNotOverflow() external {
        for (uint256 i = 0; i < 40; ++i) {
            _stake(OPERATOR, 2_000_000 ether);
            _delegate(ALICE, 1 ether);
            IStaking.Stake memory stake = staking.stakeOf(OPERATOR);
            // As close to a reset as can be.
            _slash(stake.active - stake.active / 999);
        }
        _unbondAll(OPERATOR);
        _unbondAll(ALICE);
        _slash(1);
        _covered();
    }

    function testSecuringNeedsFreeStake() external {
        _stake(OPERATOR, 100 ether);
        _secure(60 ether);
        Check.eq(staking.freeStakeOf(OPERATOR), 40 ether, "free");
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingInsufficientFree.selector, 40 ether, 40 ether + 1));
        _secure(40 ether + 1);
        // What unbonds secures nothing new.
        _unbond(OPERATOR, 70 ether);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingInsufficientFree.selector, 0, 1));
        _secure(1);
        Check.eq(staking.freeStakeOf(OPERATOR), 0, "none free");
        _unlock(20 ether);
        _unlock(1000 ether);
        Check.eq(staking.stakeOf(OPERATOR).locked, 0, "no more than is locked");
        _secure(30 ether);
    }

    function testFuzz_whatIsLockedMayUnbondButNotLeave(uint96 staked, uint96 locked, uint96 leaving) external {
        staked = uint96(MIN_AMOUNT + staked % 1000 ether);
        locked = uint96(1 + locked % staked);
        leaving = uint96(leaving % (uint256(staked) + 1));
        if (leaving < MIN_AMOUNT) leaving = staked;
        _stake(OPERATOR, staked);
        _secure(locked);
        _unbond(OPERATOR, leaving);
        _wait(UNBONDING);
        if (staked - leaving < locked) {
            vm.expectRevert(
                abi.encodeWithSelector(IStaking.StakingStillLocked.selector, staked - leaving, locked)
            );
            _withdraw(OPERATOR);
            _unlock(locked - (staked - leaving));
        }
        Check.eq(_withdraw(OPERATOR), leaving, "as soon as it is unlocked");
        _covered();
    }

    function testWhatUnbondsWhileLockedIsSlashed() external {
        _stake(OPERATOR, 100 ether);
        _secure(100 ether);
        _unbondAll(OPERATOR);
        _wait(UNBONDING);
        Check.eq(_slash(100 ether), 100 ether, "all");
        Check.eq(staking.stakeOf(OPERATOR).locked, 0, "nothing is left to be locked");
    }

    function testLockingSeatsNeverFails() external {
        _stake(OPERATOR, 100 ether);
        _secure(70 ether);
        _stake(ALICE, 100 ether);
        address[] memory seats = new address[](3);
        (seats[0], seats[1], seats[2]) = (OPERATOR, ALICE, BOB);
        vm.prank(address(batches));
        (IStaking.Seat[] memory locked,) = staking.lockSeats(seats, 60 ether, 0, 0);
        Check.eq(locked[0].locked, 30 ether, "as far as there is free stake");
        Check.eq(locked[1].locked, 60 ether, "all");
        Check.eq(locked[2].locked, 0, "nothing");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(locked[i].verifier, seats[i], "seat");
        }
        _unbondAll(OPERATOR);
        vm.prank(address(appeals));
        (IStaking.Seat[] memory none,) = staking.lockSeats(seats, 60 ether, 0, 0);
        Check.eq(none[0].locked, 0, "all is locked");
        // Paid, they are free again: each by what it locked.
        require(token.transfer(address(staking), 6 ether));
        uint256[] memory rewards = new uint256[](3);
        (rewards[1], rewards[2]) = (2 ether, 4 ether);
        vm.prank(address(finality));
        staking.paySeats(locked, rewards, CAUSE);
        Check.eq(staking.stakeOf(OPERATOR).locked, 70 ether, "the other lock stays");
        Check.eq(staking.stakeOf(ALICE).locked, 40 ether, "the second lock");
        Check.eq(staking.stakeOf(ALICE).active, 102 ether, "and the reward");
        Check.eq(staking.creditOf(BOB), 4 ether, "who has no stake is paid in credit");
        _covered();
    }

    /// Stake, locks, time and whether others delegate are one word, which seats and their pay write as a whole.
    function testLockingAndPayingASeatChangesNothingElseOfItsAccount() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 300 ether);
        _secure(70 ether);
        address[] memory seats = new address[](1);
        seats[0] = OPERATOR;
        vm.prank(address(batches));
        (IStaking.Seat[] memory locked, uint256 doneBy) = staking.lockSeats(seats, 60 ether, 100, 1000);
        Check.eq(doneBy, START + 100, "busy");
        Check.eq(staking.busyUntil(OPERATOR), START + 100, "so long");
        IStaking.Stake memory stake = staking.stakeOf(OPERATOR);
        Check.eq(stake.active, 400 ether, "stake");
        Check.eq(stake.own, 100 ether, "the operator's part");
        Check.eq(stake.locked, 130 ether, "both locks");
        Check.eq(staking.poolShareOf(OPERATOR, 1 ether), 1 ether, "others delegate to it still");
        require(token.transfer(address(staking), 8 ether));
        uint256[] memory rewards = new uint256[](1);
        rewards[0] = 8 ether;
        vm.prank(address(batches));
        staking.paySeats(locked, rewards, CAUSE);
        stake = staking.stakeOf(OPERATOR);
        Check.eq(stake.locked, 70 ether, "the other lock");
        Check.eq(stake.active, 400 ether, "stake as before");
        Check.eq(stake.releasing, 8 ether, "the reward is the holders', bit by bit");
        Check.eq(staking.busyUntil(OPERATOR), START + 100, "as busy as before");
        Check.eq(staking.poolShareOf(OPERATOR, 1 ether), 1 ether, "and shared");
        _covered();
    }

    function testARiseOfTheCommissionWaits() external {
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        vm.expectEmit(address(staking));
        emit IStaking.CommissionChanged(OPERATOR, 2000, START + UNBONDING);
        _setCommission(2000);
        Check.eq(staking.commissionOf(OPERATOR), 0, "not yet");
        (uint256 announced, uint256 from) = staking.announcedCommissionOf(OPERATOR);
        Check.eq(announced, 2000, "announced");
        Check.eq(from, timestamp + staking.unbondingDelay(), "from when on");
        _goTo(START + UNBONDING - 1);
        Check.eq(staking.poolShareOf(OPERATOR, 10 ether), 10 ether, "delegators can leave before");
        _goTo(START + UNBONDING);
        Check.eq(staking.commissionOf(OPERATOR), 2000, "now");
        Check.eq(staking.poolShareOf(OPERATOR, 10 ether), 8 ether, "and counts");
    }

    function testACutOfTheCommissionCountsAtOnce() external {
        _setCommission(2000);
        Check.eq(staking.commissionOf(OPERATOR), 2000, "without delegators a rise does, too");
        _stake(OPERATOR, 100 ether);
        _delegate(ALICE, 100 ether);
        vm.expectEmit(address(staking));
        emit IStaking.CommissionChanged(OPERATOR, 1500, START);
        _setCommission(1500);
        Check.eq(staking.commissionOf(OPERATOR), 1500, "at once");
        _goTo(START + 1);
        vm.expectEmit(address(staking));
        emit IStaking.CommissionChanged(OPERATOR, 1500, START + 1);
        _setCommission(1500); // no rise
        _setCommission(5000);
        _setCommission(4000);
        Check.eq(staking.commissionOf(OPERATOR), 1500, "a smaller rise is still one");
        _goTo(START + 1 days);
        _setCommission(1000);
        Check.eq(staking.commissionOf(OPERATOR), 1000, "a cut revokes it");
        _goTo(START + UNBONDING + 1);
        Check.eq(staking.commissionOf(OPERATOR), 1000, "for good");
    }

    function testTheCommissionIsBounded() external {
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingCommissionOutOfBounds.selector, 5001, 5000));
        _setCommission(5001);
        _setCommission(5000);
    }

    function testCreditPaysFeesAndCanBeWithdrawn() external {
        vm.expectEmit(address(staking));
        emit IStaking.CreditAdded(OPERATOR, 5 ether, 5 ether);
        vm.prank(OPERATOR);
        staking.addCredit(5 ether);
        vm.prank(address(batches));
        staking.secure(OPERATOR, 0, 2 ether);
        Check.eq(staking.stakeOf(OPERATOR).locked, 0, "locks nothing");
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingInsufficientCredit.selector, 3 ether, 3 ether + 1));
        vm.prank(address(batches));
        staking.secure(OPERATOR, 0, 3 ether + 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingInsufficientCredit.selector, 0, 1));
        vm.prank(address(batches));
        staking.secure(ALICE, 0, 1);
        vm.prank(ALICE);
        staking.addCredit(1);
        vm.prank(address(batches));
        staking.secure(ALICE, 0, 1);
        Check.eq(staking.creditOf(ALICE), 0, "all of it");
        vm.prank(address(batches));
        staking.burnFees(1);
        uint256 supply = token.totalSupply();
        vm.prank(address(batches));
        staking.burnFees(0.5 ether);
        Check.eq(supply - token.totalSupply(), 0.5 ether, "burned");
        vm.prank(address(appeals));
        staking.credit(ALICE, 1.5 ether);
        Check.eq(staking.creditOf(ALICE), 1.5 ether, "credited");
        vm.expectEmit(address(staking));
        emit IStaking.CreditWithdrawn(OPERATOR, 3 ether);
        vm.prank(OPERATOR);
        staking.withdrawCredit();
        Check.eq(token.balanceOf(OPERATOR), PURSE - 2 ether, "paid");
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingNothingToWithdraw.selector));
        vm.prank(OPERATOR);
        staking.withdrawCredit();
        _covered();
    }

    function testTheEndpointIsKeptAndBounded() external {
        vm.expectEmit(address(staking));
        emit IStaking.EndpointChanged(OPERATOR, "https://node.example");
        vm.prank(OPERATOR);
        staking.setEndpoint("https://node.example");
        Check.eq(keccak256(bytes(staking.endpointOf(OPERATOR))), keccak256("https://node.example"), "endpoint");
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingEndpointTooLong.selector, 257, 256));
        staking.setEndpoint(string(new bytes(257)));
        staking.setEndpoint(string(new bytes(256)));
    }

    function testOnlyBatchesSecures() external {
        address[5] memory others =
            [STRANGER, address(finality), address(appeals), address(payments), address(requests)];
        for (uint256 i = 0; i < others.length; ++i) {
            _unauthorized(others[i]);
            staking.secure(OPERATOR, 1, 1);
        }
    }

    function testOnlyJudgesLockUnlockSlashPayAndBurn() external {
        address[4] memory others = [STRANGER, OPERATOR, address(payments), address(requests)];
        for (uint256 i = 0; i < others.length; ++i) {
            _unauthorized(others[i]);
            staking.lockSeats(new address[](0), 1, 1, 1);
            _unauthorized(others[i]);
            staking.unlock(OPERATOR, 1);
            _unauthorized(others[i]);
            staking.paySeats(new IStaking.Seat[](0), new uint256[](0), CAUSE);
            _unauthorized(others[i]);
            staking.slash(OPERATOR, 1, STRANGER, 1, CAUSE);
            _unauthorized(others[i]);
            staking.credit(OPERATOR, 1);
            _unauthorized(others[i]);
            staking.burnFees(1);
        }
        address[3] memory judges = [address(batches), address(finality), address(appeals)];
        for (uint256 i = 0; i < judges.length; ++i) {
            vm.startPrank(judges[i]);
            staking.lockSeats(new address[](0), 1, 1, 1);
            staking.unlock(OPERATOR, 0);
            staking.paySeats(new IStaking.Seat[](0), new uint256[](0), CAUSE);
            staking.slash(OPERATOR, 0, address(0), 0, CAUSE);
            staking.credit(OPERATOR, 0);
            staking.burnFees(0);
            vm.stopPrank();
        }
    }

    function testOnlyPayersReward() external {
        address[5] memory others =
            [STRANGER, OPERATOR, address(batches), address(finality), address(appeals)];
        for (uint256 i = 0; i < others.length; ++i) {
            _unauthorized(others[i]);
            staking.reward(OPERATOR, 1);
        }
        vm.prank(address(requests));
        staking.reward(OPERATOR, 0);
    }

    function testADelayOutOfBoundsIsRefused() external {
        uint256[2] memory delays = [uint256(1 minutes - 1), 90 days + 1];
        for (uint256 i = 0; i < 2; ++i) {
            bytes memory code = _code(address(token), address(batches), delays[i]);
            vm.expectRevert(
                abi.encodeWithSelector(IStaking.StakingDelayOutOfBounds.selector, delays[i], 1 minutes, 90 days)
            );
            factory.deploy("delay", code);
        }
        factory.deploy("shortest", _code(address(token), address(batches), 1 minutes));
        factory.deploy("longest", _code(address(token), address(batches), 90 days));
        Check.eq(staking.unbondingDelay(), UNBONDING, "as deployed");
    }

    function testNoCounterpartMayBeMissing() external {
        for (uint256 i = 0; i < 8; ++i) {
            address[8] memory parts;
            for (uint256 k = 0; k < 8; ++k) {
                parts[k] = k == i ? address(0) : address(1);
            }
            bytes memory code = bytes.concat(
                vm.getCode("Staking"), abi.encode(parts, UNBONDING)
            );
            vm.expectRevert(abi.encodeWithSelector(IStaking.StakingZeroAddress.selector));
            factory.deploy("missing", code);
        }
    }

    function _code(address token_, address batches_, uint256 delay) private view returns (bytes memory) {
        return bytes.concat(
            vm.getCode("Staking"),
            abi.encode(token_, batches_, finality, appeals, payments, requests, committees, inclusion, delay)
        );
    }

    function _setCommission(uint16 commissionBps) private {
        vm.prank(OPERATOR);
        staking.setCommission(commissionBps);
    }

    function _unauthorized(address caller) private {
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingUnauthorized.selector, caller));
        vm.prank(caller);
    }
}

/// @notice What shares are worth, whatever is done in whatever order.
contract StakingSharesTest is StakingWorld {
    address[3] private _holders = [OPERATOR, ALICE, BOB];
    uint256[3] private _in;
    uint256[3] private _out;
    uint256 private _rewards;
    uint256 private _losses;

    function setUp() external {
        _stakingWorld();
    }

    /// Whoever inflates the price of a share loses a million times what the victim does.
    function testFuzz_inflatingThePriceOfAShareCostsTheAttackerFarMore(uint256 left, uint256 donated, uint256 deposit)
        external
    {
        left = left % (MIN_AMOUNT + 1);
        donated = donated % 1_000_000 ether;
        deposit = MIN_AMOUNT + deposit % 1_000_000 ether;
        _stake(OPERATOR, 2 * MIN_AMOUNT);
        _delegate(BOB, MIN_AMOUNT);
        _unbondAll(BOB);
        _unbond(OPERATOR, 2 * MIN_AMOUNT - (left < MIN_AMOUNT / 2 ? left + 1 : MIN_AMOUNT));
        _reward(donated);
        vm.prank(ALICE);
        try staking.delegate(OPERATOR, deposit, 0) {}
        catch (bytes memory reason) {
            Check.yes(bytes4(reason) == IStaking.StakingAmountTooSmall.selector, "refused, not robbed");
            return;
        }
        uint256 attacker = _worth(OPERATOR) + _leaving(OPERATOR);
        uint256 put = 2 * MIN_AMOUNT + donated;
        Check.atMost(attacker, put + 1, "no gain");
        uint256 lost = deposit - _worth(ALICE);
        Check.atMost(lost, (put - (attacker < put ? attacker : put)) / 500_000 + 2, "a share of the attacker's loss");
    }

    /// Nobody gets out more than it put in plus rewards minus slashes, to the wei.
    function testFuzz_sharesAreFairOverRandomHistories(uint256 random) external {
        for (uint256 i = 0; i < 24; ++i) {
            random = uint256(keccak256(abi.encode(random)));
            uint256 who = random % 3;
            uint256 act = (random >> 8) % 8;
            uint256 amount = MIN_AMOUNT + ((random >> 64) % 1e9) * 10 ** ((random >> 16) % 14);
            if (act < 2) _deposit(who, amount);
            else if (act < 4) _leave(who, (random >> 32) % 4 == 0 ? type(uint256).max : amount);
            else if (act == 4) _takeOut(who);
            else if (act == 5) _earn(amount);
            else _lose(random, amount);
            _covered();
        }
        for (uint256 who = 0; who < 3; ++who) {
            _leave(who, type(uint256).max);
        }
        for (uint256 who = 0; who < 3; ++who) {
            _takeOut(who);
        }
        uint256 out = _out[0] + _out[1] + _out[2] + staking.creditOf(OPERATOR);
        Check.atMost(out + _losses, _in[0] + _in[1] + _in[2] + _rewards, "all in all");
    }

    function _deposit(uint256 who, uint256 amount) private {
        if (who != 0 && _worth(OPERATOR) == 0) return;
        uint256[3] memory before = _totals();
        vm.prank(_holders[who]);
        try staking.delegate(OPERATOR, amount, 0) {}
        catch (bytes memory reason) {
            if (bytes4(reason) == IStaking.StakingOwnStakeRequired.selector) {
                _stake(OPERATOR, amount);
            } else {
                Check.yes(bytes4(reason) == IStaking.StakingAmountTooSmall.selector, "worth no share");
                return;
            }
        }
        _in[who] += amount;
        before[who] += amount;
        _nobodyElseLost(before, who);
    }

    function _leave(uint256 who, uint256 amount) private {
        uint256 worth = _worth(_holders[who]);
        if (worth == 0) return;
        if (amount > worth) amount = worth;
        uint256[3] memory before = _totals();
        _unbond(_holders[who], amount);
        _nobodyElseLost(before, who);
    }

    function _takeOut(uint256 who) private {
        (IStaking.Ticket memory ticket, uint256 amount) = staking.ticketOf(OPERATOR, _holders[who]);
        if (ticket.shares == 0) return;
        if (timestamp < ticket.releasableAt) _goTo(ticket.releasableAt);
        uint256[3] memory before = _totals();
        uint256 purse = token.balanceOf(_holders[who]);
        Check.eq(_withdraw(_holders[who]), amount, "as told");
        Check.eq(token.balanceOf(_holders[who]) - purse, amount, "paid");
        _out[who] += amount;
        _nobodyElseLost(before, who);
    }

    function _earn(uint256 amount) private {
        uint256[3] memory before = _totals();
        uint256 active = staking.stakeOf(OPERATOR).active;
        uint256[3] memory held = [_worth(OPERATOR), _worth(ALICE), _worth(BOB)];
        // As payers do: what is not the pool's is paid to the operator.
        uint256 share = staking.poolShareOf(OPERATOR, amount);
        if (share > 0) {
            _reward(share);
            _rewards += share;
            _goTo(timestamp + 7 days);
        } else {
            _paySeat(OPERATOR, 0, amount);
            _rewards += amount;
            share = amount;
        }
        uint256[3] memory after_ = _totals();
        uint256 gained = 0;
        for (uint256 i = 0; i < 3; ++i) {
            Check.yes(after_[i] >= before[i], "a reward lowers nothing");
            // One part in a million of a minimal deposit may be the virtual shares'.
            Check.atMost(after_[i] - before[i], (share * (held[i] + 1)) / (active + 1) + 1, "in proportion");
            gained += after_[i] - before[i];
        }
        // But for fractions of a wei that each had before.
        Check.atMost(gained, share + 2, "no more than came in");
    }

    function _lose(uint256 random, uint256 amount) private {
        IStaking.Stake memory stake = staking.stakeOf(OPERATOR);
        uint256 all = stake.active + stake.unbonding;
        if ((random >> 40) % 3 == 0) amount = all - all / (2 + (random >> 48) % 2000);
        uint256[3] memory before = _totals();
        uint256[2][3] memory held;
        for (uint256 i = 0; i < 3; ++i) {
            held[i] = [_worth(_holders[i]), _leaving(_holders[i])];
        }
        uint256 taken = _slash(amount);
        Check.eq(taken, amount < all ? amount : all, "taken");
        _losses += taken;
        stake = staking.stakeOf(OPERATOR);
        uint256[3] memory after_ = _totals();
        for (uint256 i = 0; i < 3; ++i) {
            Check.yes(after_[i] <= before[i], "a slash raises nothing");
            // Dust is void; else everybody, leaving or not, keeps the same part, but for four wei.
            if (stake.active > 0) _kept(held[i][0], _worth(_holders[i]), all - taken, all);
            if (stake.unbonding > 0) _kept(held[i][1], _leaving(_holders[i]), all - taken, all);
        }
        _losses += all - taken - stake.active - stake.unbonding;
    }

    function _kept(uint256 before, uint256 now_, uint256 left, uint256 all) private pure {
        uint256 fair = (before * left) / all;
        Check.yes(now_ + 4 >= fair && now_ <= fair + 4, "the same part for all");
    }

    /// No act of one holder makes another poorer, or the one richer.
    function _nobodyElseLost(uint256[3] memory before, uint256 who) private view {
        uint256[3] memory after_ = _totals();
        uint256 sumBefore = 0;
        uint256 sumAfter = 0;
        for (uint256 i = 0; i < 3; ++i) {
            if (i != who) Check.yes(after_[i] >= before[i], "another lost");
            sumBefore += before[i];
            sumAfter += after_[i];
        }
        Check.atMost(after_[who], before[who], "who acted gained");
        Check.atMost(sumAfter, sumBefore + 2, "worth came from nowhere");
    }

    /// What each has had out and could have out now.
    function _totals() private view returns (uint256[3] memory totals) {
        for (uint256 i = 0; i < 3; ++i) {
            totals[i] = _out[i] + _worth(_holders[i]) + _leaving(_holders[i]);
        }
    }
}
