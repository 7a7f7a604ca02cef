// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICalibration} from "../../contracts/interfaces/ICalibration.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, ChallengeId, ModelId, Role} from "../../contracts/types/Types.sol";
import {ContractWallet} from "./Doubles.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice Who sits, earns or is served without having anything at stake.
contract IncentivesWeightsTest is World {
    function setUp() external {
        _calibratedWorld(12);
    }

    function testAttackSittingAfterAllStakeIsWithdrawn() external {
        for (uint256 i = 0; i < 6; ++i) {
            _leave(_verifier(i));
        }
        _wait(UNBONDING + 1);
        for (uint256 i = 0; i < 6; ++i) {
            vm.prank(_verifier(i));
            staking.withdraw(_verifier(i));
        }
        for (uint256 i = 0; i < 10; ++i) {
            _nextEpoch();
        }
        for (uint256 i = 0; i < 10; ++i) {
            BatchId id = _drawn(_root(keccak256(abi.encode(i)), 100), 1);
            for (uint256 seat = 0; seat < 3; ++seat) {
                Check.atMost(60 ether, staking.stakeOf(_seatOf(id, seat)).active, "stake of who sits");
                Check.eq(_seatsOf(id)[seat].locked, 60 ether, "locked");
            }
        }
    }

    function testAttackLeavingWithinTheEpochToLockNothing() external {
        BatchId id = _anchor("root", 1);
        for (uint256 i = 0; i < verifiers; ++i) {
            _leave(_verifier(i));
        }
        _draw(id);
        for (uint256 seat = 0; seat < 3; ++seat) {
            Check.eq(_seatsOf(id)[seat].locked, 60 ether, "what is leaving is locked");
        }
        address held = _seatOf(id, 0);
        // However long nobody settles.
        _wait(UNBONDING + 1);
        vm.prank(held);
        vm.expectPartialRevert(IStaking.StakingStillLocked.selector);
        staking.withdraw(held);
        uint256 before = staking.stakeOf(held).active + staking.stakeOf(held).unbonding;
        _settle(id);
        uint256 left = staking.stakeOf(held).active + staking.stakeOf(held).unbonding;
        Check.eq(before - left, 10 ether, "and slashed");
    }

    function testAttackSittingWithAnExpiredCalibration() external {
        _wait(20 days);
        for (uint256 i = 0; i < 6; ++i) {
            _calibrate(_verifier(i), Role.Verifier);
        }
        _calibrate(NODE, Role.Node);
        _wait(11 days);
        _nextEpoch();
        for (uint256 i = 0; i < 10; ++i) {
            BatchId id = _drawn(_root(keccak256(abi.encode(i)), 100), 1);
            for (uint256 seat = 0; seat < 3; ++seat) {
                Check.yes(calibration.isCalibrated(_seatOf(id, seat), Role.Verifier, model), "calibrated");
            }
        }
    }

    /// Weights of who has expired stand, so the candidates must do.
    function testWhenAllHaveExpiredTheyCalibrateOneAnother() external {
        _wait(31 days);
        _nextEpoch();
        _calibrate(_verifier(0), Role.Verifier);
        Check.yes(calibration.isCalibrated(_verifier(0), Role.Verifier, model), "again");
    }

    function testAttackInventingAClassToBeMixedIn() external {
        vm.prank(_verifier(0));
        vm.expectRevert(
            abi.encodeWithSelector(ICalibration.CalibrationUnknownClass.selector, model, bytes32("mine-alone"))
        );
        calibration.request(model, Role.Verifier, "mine-alone");
    }

    function _leave(address verifier) private {
        vm.prank(verifier);
        staking.unbond(verifier, STAKE);
    }

    function _calibrate(address operator, Role role) private {
        ChallengeId challenge = _request(operator, role);
        BatchId id = _answer(challenge, _root(keccak256(abi.encode(operator, timestamp)), 0));
        _vote(id, 3, 0, 3, 0, 3, 0);
        _finalizeNow(id);
    }
}

/// @notice A client that signs, is served, and then sets code that does not know its signature (EIP-7702).
contract IncentivesSignaturesTest is World {
    uint256 private constant KEY = 0xC11E47;

    address private _client;

    function setUp() external {
        _calibratedWorld();
        _client = vm.addr(KEY);
        _fund(_client);
    }

    function testAttackSettingCodeAfterTheAnswersVoidsNoVoucher() external {
        vm.prank(_client);
        payments.deposit(NODE, 5 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(_client, NODE, 4 ether, 4 ether, 0);
        bytes memory signature = _signed(payments, voucher);
        _setCode();
        uint256 before = token.balanceOf(NODE);
        vm.prank(NODE);
        payments.collect(voucher, signature);
        Check.eq(token.balanceOf(NODE) - before, 4 ether, "paid");
    }

    function testAttackSettingCodeAfterTheAnswersSavesNoVerifier() external {
        Receipt[] memory receipts = new Receipt[](1);
        receipts[0].client = _client;
        receipts[0].node = NODE;
        receipts[0].modelId = ModelId.unwrap(model);
        bytes32 canary = keccak256(abi.encode(uint256(1), SALT));
        BatchId id = _anchor(Trees.root(receipts), canary, 1);
        _draw(id);
        _vote(id, 1, 0, 1, 0, 1, 0);
        Opening[] memory openings = new Opening[](1);
        openings[0] = Trees.open(receipts, 0, canary);
        bytes[] memory signatures = new bytes[](1);
        signatures[0] = _sign(canaries.digestOf(id, 0));
        _setCode();
        canaries.open(_headerOf(id), 1, SALT, openings, signatures);
        Check.eq(finality.marksOf(id).canaries, 1, "opened");
    }

    function testCodeMaySignWhereTheKeyDidNot() external {
        uint256 other = 0x07E4;
        vm.etch(_client, address(new ContractWallet(vm.addr(other))).code);
        vm.prank(_client);
        payments.deposit(NODE, 5 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(_client, NODE, 4 ether, 4 ether, 0);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(other, Vouchers.digestOf(payments, voucher));
        vm.prank(NODE);
        payments.collect(voucher, abi.encodePacked(r, s, v));
        Check.eq(payments.collectedOf(_client, NODE), 4 ether, "by the account's code");
    }

    function _setCode() private {
        // Whose code a delegation runs does not matter: this answers for another key.
        vm.etch(_client, address(new ContractWallet(address(0xdead))).code);
    }

    function _signed(IPayments contract_, IPayments.Voucher memory voucher) private returns (bytes memory) {
        return _sign(Vouchers.digestOf(contract_, voucher));
    }

    function _sign(bytes32 digest) private returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
        return abi.encodePacked(r, s, v);
    }
}

/// @notice Income that somebody else catches.
contract IncentivesDelegationTest is World {
    uint256 private constant KEY = 0xC11E47;
    address private constant STRANGER = address(0xbad);

    address private _client;

    function setUp() external {
        _calibratedWorld();
        _client = vm.addr(KEY);
        _fund(_client);
        require(token.transfer(STRANGER, 100 * STAKE));
        vm.prank(STRANGER);
        token.approve(address(staking), type(uint256).max);
        vm.prank(_client);
        payments.deposit(NODE, 100 ether);
    }

    function testAttackDelegatingToANodeThatDidNotAskForIt() external {
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingDelegationLimit.selector, NODE, 0, 89 * STAKE));
        staking.delegate(NODE, 89 * STAKE, 0);
        uint256 before = token.balanceOf(NODE);
        _collect(100 ether);
        Check.eq(token.balanceOf(NODE) - before, 100 ether, "all of it");
    }

    function testAttackCatchingACollectionByPassingThrough() external {
        _open(0);
        _delegate();
        _collect(100 ether);
        _unbondAll();
        (, uint256 leaving) = staking.ticketOf(NODE, STRANGER);
        Check.atMost(leaving, 89 * STAKE, "nothing for passing through");
        (uint256 worth,) = staking.delegationOf(NODE, NODE);
        Check.atMost(STAKE + 100 ether - worth, 1e6, "the node has it all");
    }

    function testAttackStayingAnHourEarnsAnHour() external {
        _open(0);
        _delegate();
        _collect(100 ether);
        _wait(1 hours);
        _unbondAll();
        (, uint256 leaving) = staking.ticketOf(NODE, STRANGER);
        Check.atMost(leaving, 89 * STAKE + 0.6 ether, "one hour of a week's 98.9");
    }

    function testAttackRaisingTheCommissionAheadOfTheFirstDelegation() external {
        _open(500);
        vm.prank(NODE);
        staking.setCommission(5000);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingCommissionOutOfBounds.selector, 5000, 500));
        staking.delegate(NODE, STAKE, 500);
    }

    function _open(uint16 commissionBps) private {
        vm.prank(NODE);
        staking.openDelegation(100 * STAKE, commissionBps);
    }

    function _delegate() private {
        vm.prank(STRANGER);
        staking.delegate(NODE, 89 * STAKE, 0);
    }

    function _unbondAll() private {
        (uint256 worth,) = staking.delegationOf(NODE, STRANGER);
        vm.prank(STRANGER);
        staking.unbond(NODE, worth);
    }

    function _collect(uint256 amount) private {
        IPayments.Voucher memory voucher = IPayments.Voucher(_client, NODE, amount, amount, 0);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, Vouchers.digestOf(payments, voucher));
        vm.prank(NODE);
        payments.collect(voucher, abi.encodePacked(r, s, v));
    }
}

/// @notice What a payer signs (EIP-712).
library Vouchers {
    function digestOf(IPayments payments, IPayments.Voucher memory voucher) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Trine"),
                keccak256("1"),
                block.chainid,
                payments
            )
        );
        bytes32 typeHash =
            keccak256("Voucher(address payer,address payee,uint256 cumulativeWei,uint256 earnedWei,uint64 asOf)");
        bytes32 structHash = keccak256(abi.encode(typeHash, voucher));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }
}
