// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Wired} from "./Wired.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {IPayments} from "./interfaces/IPayments.sol";
import {LeafLib, Receipt} from "./libraries/LeafLib.sol";
import {BatchId} from "./types/Types.sol";

/// @title Clients' deposits, cumulative vouchers, refunds of rejected answers
/// @dev Documented in `IPayments`.
contract Payments is IPayments, EIP712, Wired, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(address payer,address payee,uint256 cumulativeWei)");
    uint256 public constant MIN_NOTICE_SECONDS = 1 hours;
    uint256 public constant MAX_NOTICE_SECONDS = 30 days;

    IERC20 private immutable TOKEN;
    uint256 private immutable NOTICE_SECONDS;

    IBatches private _batches;
    // Written through storage pointers.
    // slither-disable-next-line uninitialized-state
    mapping(address payer => Account) private _accounts;
    mapping(address payer => mapping(address payee => uint256)) private _collected;
    mapping(BatchId batchId => uint256) private _refundPerLeaf;
    mapping(BatchId batchId => uint256) private _refundedLeaves;

    constructor(IERC20 token, uint256 noticeSeconds, address wirer) EIP712("Trine", "1") Wired(wirer) {
        require(
            noticeSeconds >= MIN_NOTICE_SECONDS && noticeSeconds <= MAX_NOTICE_SECONDS,
            PaymentsNoticeOutOfBounds(noticeSeconds, MIN_NOTICE_SECONDS, MAX_NOTICE_SECONDS)
        );
        require(address(token) != address(0), WiredZeroAddress());
        TOKEN = token;
        NOTICE_SECONDS = noticeSeconds;
    }

    /// @notice Names the contract whose verdicts refunds follow. Once.
    function wire(IBatches batches) external {
        address[] memory counterparts = new address[](1);
        counterparts[0] = address(batches);
        _wire(counterparts);
        _batches = batches;
    }

    /// @inheritdoc IPayments
    function deposit(uint256 amount) external nonReentrant {
        require(amount > 0, PaymentsAmountZero());
        Account storage account = _accounts[msg.sender];
        account.balance += amount.toUint128();
        emit Deposited(msg.sender, amount, account.balance);
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IPayments
    function requestWithdrawal(uint256 amount) external {
        require(amount > 0, PaymentsAmountZero());
        Account storage account = _accounts[msg.sender];
        require(amount <= account.balance, PaymentsInsufficientBalance(account.balance, amount));
        account.leaving = amount.toUint128();
        account.withdrawableAt = (block.timestamp + NOTICE_SECONDS).toUint64();
        emit WithdrawalRequested(msg.sender, amount, account.withdrawableAt);
    }

    /// @inheritdoc IPayments
    function withdraw() external nonReentrant {
        Account storage account = _accounts[msg.sender];
        require(account.leaving > 0, PaymentsNothingToWithdraw());
        require(block.timestamp >= account.withdrawableAt, PaymentsNoticeRunning(account.withdrawableAt));
        uint256 amount = Math.min(account.leaving, account.balance);
        account.leaving = 0;
        account.balance -= amount.toUint128();
        emit Withdrawn(msg.sender, amount, account.balance);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IPayments
    function collect(Voucher calldata voucher, uint256 upToWei, bytes calldata signature) external nonReentrant {
        uint256 collected = _collected[voucher.payer][voucher.payee];
        uint256 due = Math.min(voucher.cumulativeWei, upToWei);
        require(due > collected, PaymentsNothingToCollect(due, collected));
        bytes32 digest = _hashTypedDataV4(
            keccak256(abi.encode(VOUCHER_TYPEHASH, voucher.payer, voucher.payee, voucher.cumulativeWei))
        );
        require(
            SignatureChecker.isValidSignatureNow(voucher.payer, digest, signature),
            PaymentsBadSignature(voucher.payer)
        );
        Account storage account = _accounts[voucher.payer];
        uint256 amount = Math.min(due - collected, account.balance);
        require(amount > 0, PaymentsInsufficientBalance(0, due - collected));
        _collected[voucher.payer][voucher.payee] = collected + amount;
        account.balance -= amount.toUint128();
        emit Collected(voucher.payer, voucher.payee, amount, voucher.cumulativeWei, collected + amount);
        TOKEN.safeTransfer(voucher.payee, amount);
    }

    /// @inheritdoc IPayments
    function refund(BatchId batchId, uint256 leafIndex, Receipt calldata receipt, bytes32[] calldata proof)
        external
        nonReentrant
    {
        IBatches.Batch memory batch = _batches.batchOf(batchId);
        uint256 bit = leafIndex < batch.leafCount ? 1 << leafIndex : 0;
        require(batch.rejected & bit != 0, PaymentsNotRejected(batchId, leafIndex));
        require(_refundedLeaves[batchId] & bit == 0, PaymentsAlreadyRefunded(batchId, leafIndex));
        require(
            proof.length == LeafLib.DEPTH && receipt.node == batch.node && receipt.client != address(0)
                && MerkleProof.verifyCalldata(proof, batch.root, LeafLib.leafHash(leafIndex, receipt)),
            PaymentsBadProof(batchId, leafIndex)
        );
        _refundedLeaves[batchId] |= bit;
        uint256 amount = Math.min(receipt.feeWei, _refundPerLeaf[batchId]);
        emit Refunded(batchId, leafIndex, receipt.client, amount);
        TOKEN.safeTransfer(receipt.client, amount);
    }

    /// @inheritdoc IPayments
    function fundRefunds(BatchId batchId, uint256 perLeaf) external {
        _requireCaller(address(_batches));
        _refundPerLeaf[batchId] = perLeaf;
        emit RefundsFunded(batchId, perLeaf);
    }

    /// @inheritdoc IPayments
    function accountOf(address payer) external view returns (Account memory) {
        return _accounts[payer];
    }

    /// @inheritdoc IPayments
    function collectedOf(address payer, address payee) external view returns (uint256) {
        return _collected[payer][payee];
    }
}
