// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Payments} from "../../contracts/Payments.sol";
import {Wired} from "../../contracts/Wired.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {LeafLib, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, ModelId} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

contract PaymentsTest is World {
    uint256 private constant PAYER_KEY = 0xBEEF;
    address private _payer;

    function setUp() external {
        _calibratedWorld();
        _payer = vm.addr(PAYER_KEY);
        _fund(_payer);
        vm.prank(_payer);
        payments.deposit(100 ether);
    }

    function testFuzz_collectsWhatWasEarnedAndNoMoreThanTheVoucher(uint128 cumulative, uint128 upTo) external {
        cumulative = uint128(1 + cumulative % 200 ether);
        upTo = uint128(1 + upTo % 200 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(_payer, NODE, cumulative);
        bytes memory signature = _sign(voucher);
        uint256 before = token.balanceOf(NODE);
        payments.collect(voucher, upTo, signature);
        uint256 due = cumulative < upTo ? cumulative : upTo;
        uint256 paid = due < 100 ether ? due : 100 ether;
        Check.eq(token.balanceOf(NODE) - before, paid, "paid");
        Check.eq(payments.collectedOf(_payer, NODE), paid, "noted");
        Check.eq(payments.accountOf(_payer).balance, 100 ether - paid, "from the deposit");
        if (due == paid) {
            vm.expectPartialRevert(IPayments.PaymentsNothingToCollect.selector);
        } else {
            vm.expectPartialRevert(IPayments.PaymentsInsufficientBalance.selector);
        }
        payments.collect(voucher, upTo, signature);
    }

    function testALaterVoucherReplacesTheEarlier() external {
        IPayments.Voucher memory first = IPayments.Voucher(_payer, NODE, 10 ether);
        IPayments.Voucher memory second = IPayments.Voucher(_payer, NODE, 15 ether);
        payments.collect(first, 10 ether, _sign(first));
        uint256 before = token.balanceOf(NODE);
        payments.collect(second, 15 ether, _sign(second));
        Check.eq(token.balanceOf(NODE) - before, 5 ether, "only the difference");
    }

    function testAVoucherOfSomebodyElseIsRefused() external {
        IPayments.Voucher memory voucher = IPayments.Voucher(_payer, NODE, 10 ether);
        bytes memory signature = _sign(voucher);
        voucher.payee = CLIENT;
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        payments.collect(voucher, 10 ether, signature);
        voucher.payee = NODE;
        voucher.cumulativeWei = 11 ether;
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        payments.collect(voucher, 11 ether, signature);
    }

    function testAContractWalletPays() external {
        ContractWallet wallet = new ContractWallet(_payer);
        require(token.transfer(address(wallet), 10 ether));
        wallet.deposit(token, payments, 10 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(address(wallet), NODE, 4 ether);
        bytes memory signature = _sign(voucher);
        uint256 before = token.balanceOf(NODE);
        payments.collect(voucher, 4 ether, signature);
        Check.eq(token.balanceOf(NODE) - before, 4 ether, "paid by EIP-1271");
        voucher.cumulativeWei = 5 ether;
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        payments.collect(voucher, 5 ether, signature);
    }

    function testAnswersForNobodyOrOfAnotherNodeAreNotRefunded() external {
        Receipt memory unsigned = _receipt(NODE, 1 ether);
        unsigned.client = address(0);
        (BatchId id, bytes32[] memory proof) = _settled(unsigned, true);
        vm.expectPartialRevert(IPayments.PaymentsBadProof.selector);
        payments.refund(id, 0, unsigned, proof);
        Receipt memory foreign = _receipt(CLIENT, 1 ether);
        (id, proof) = _settled(foreign, true);
        vm.expectPartialRevert(IPayments.PaymentsBadProof.selector);
        payments.refund(id, 0, foreign, proof);
    }

    function testWithdrawalTakesNoticeAndStaysCollectable() external {
        vm.startPrank(_payer);
        vm.expectPartialRevert(IPayments.PaymentsInsufficientBalance.selector);
        payments.requestWithdrawal(101 ether);
        payments.requestWithdrawal(100 ether);
        vm.expectPartialRevert(IPayments.PaymentsNoticeRunning.selector);
        payments.withdraw();
        vm.stopPrank();
        IPayments.Voucher memory voucher = IPayments.Voucher(_payer, NODE, 30 ether);
        payments.collect(voucher, 30 ether, _sign(voucher));
        vm.warp(START + 2 days);
        uint256 before = token.balanceOf(_payer);
        vm.startPrank(_payer);
        payments.withdraw();
        vm.expectPartialRevert(IPayments.PaymentsNothingToWithdraw.selector);
        payments.withdraw();
        vm.stopPrank();
        Check.eq(token.balanceOf(_payer) - before, 70 ether, "what collection left");
    }

    function testARejectedAnswerIsRefundedOnceFromTheNodesStake() external {
        Receipt memory receipt = _receipt(NODE, 0.3 ether);
        (BatchId id, bytes32[] memory proof) = _settled(receipt, true);
        uint256 before = token.balanceOf(_payer);
        payments.refund(id, 0, receipt, proof);
        Check.eq(token.balanceOf(_payer) - before, 0.3 ether, "the fee");
        vm.expectPartialRevert(IPayments.PaymentsAlreadyRefunded.selector);
        payments.refund(id, 0, receipt, proof);
    }

    function testFuzz_aRefundNeverExceedsWhatTheSlashFunded(uint256 fee) external {
        Receipt memory receipt = _receipt(NODE, fee);
        (BatchId id, bytes32[] memory proof) = _settled(receipt, true);
        uint256 before = token.balanceOf(_payer);
        payments.refund(id, 0, receipt, proof);
        Check.eq(token.balanceOf(_payer) - before, fee < 0.4 ether ? fee : 0.4 ether, "bounded");
        Check.yes(token.balanceOf(address(payments)) >= payments.accountOf(_payer).balance, "deposits stay covered");
    }

    function testRefundsNeedARejectionAndAProof() external {
        Receipt memory receipt = _receipt(NODE, 1);
        (BatchId accepted, bytes32[] memory proof) = _settled(receipt, false);
        vm.expectPartialRevert(IPayments.PaymentsNotRejected.selector);
        payments.refund(accepted, 0, receipt, proof);
        vm.expectPartialRevert(IPayments.PaymentsNotRejected.selector);
        payments.refund(accepted, 256, receipt, proof);
        Receipt memory other = _receipt(NODE, 2);
        (BatchId rejected,) = _settled(other, true);
        vm.expectPartialRevert(IPayments.PaymentsBadProof.selector);
        payments.refund(rejected, 0, receipt, proof);
        vm.expectPartialRevert(IPayments.PaymentsBadProof.selector);
        payments.refund(rejected, 0, other, new bytes32[](7));
    }

    function testRefusals() external {
        vm.expectPartialRevert(IPayments.PaymentsAmountZero.selector);
        payments.deposit(0);
        vm.expectPartialRevert(IPayments.PaymentsAmountZero.selector);
        payments.requestWithdrawal(0);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        payments.fundRefunds(BatchId.wrap("b"), 1);
        vm.expectPartialRevert(IPayments.PaymentsNoticeOutOfBounds.selector);
        new Payments(IERC20(address(token)), 1 minutes, address(this));
    }

    function _settled(Receipt memory receipt, bool rejected) private returns (BatchId id, bytes32[] memory proof) {
        proof = new bytes32[](LeafLib.DEPTH);
        bytes32 node = LeafLib.leafHash(0, receipt);
        bytes32 empty = 0;
        for (uint256 i = 0; i < LeafLib.DEPTH; ++i) {
            proof[i] = empty;
            node = _pair(node, empty);
            empty = _pair(empty, empty);
        }
        id = _drawn(node, 1);
        if (rejected) _vote(id, 0, 1, 0, 1, 0, 1);
        else _vote(id, 1, 0, 1, 0, 1, 0);
        batches.settle(id);
    }

    function _receipt(address node, uint256 fee) private view returns (Receipt memory receipt) {
        receipt.client = _payer;
        receipt.node = node;
        receipt.modelId = ModelId.unwrap(model);
        receipt.feeWei = fee;
    }

    function _sign(IPayments.Voucher memory voucher) private returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Trine"),
                keccak256("1"),
                block.chainid,
                address(payments)
            )
        );
        bytes32 structHash =
            keccak256(abi.encode(payments.VOUCHER_TYPEHASH(), voucher.payer, voucher.payee, voucher.cumulativeWei));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, keccak256(abi.encodePacked(hex"1901", domain, structHash)));
        return abi.encodePacked(r, s, v);
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }
}

/// @notice A wallet whose owner's signature counts as its own (EIP-1271).
contract ContractWallet {
    address private immutable OWNER;

    constructor(address owner) {
        OWNER = owner;
    }

    function deposit(IERC20 token, Payments payments, uint256 amount) external {
        require(token.approve(address(payments), amount));
        payments.deposit(amount);
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        return ECDSA.recover(digest, signature) == OWNER ? this.isValidSignature.selector : bytes4(0);
    }
}
