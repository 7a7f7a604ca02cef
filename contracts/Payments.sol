// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBatches} from "./interfaces/IBatches.sol";
import {IPayments} from "./interfaces/IPayments.sol";
import {IRewards} from "./interfaces/IRewards.sol";
import {IStakeToken} from "./interfaces/IStakeToken.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {LeafLib, Opening, Receipt} from "./libraries/LeafLib.sol";
import {Majority} from "./libraries/Majority.sol";
import {Request, RequestLib} from "./libraries/RequestLib.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {BatchId} from "./types/Types.sol";

/// @title Clients' deposits, cumulative vouchers, refunds of rejected answers
/// @dev Documented in `IPayments`.
contract Payments is IPayments, EIP712, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;
    using LeafLib for Opening;
    using RequestLib for Request;

    struct Contracts {
        IStakeToken token;
        IRewards staking;
        IBatches batches;
        address finality;
        address requests;
    }

    /// @notice Leaves that may be refunded the same; the word's bits go out as they are.
    struct Funding {
        uint256 leaves;
        uint256 perLeaf;
    }

    bytes32 public constant VOUCHER_TYPEHASH = keccak256(
        "Voucher(address payer,address payee,uint256 cumulativeWei,uint256 earnedWei,uint64 asOf)"
    );
    uint256 public constant MAX_OPENINGS = 64;
    uint256 public constant MIN_NOTICE_SECONDS = 1 hours;
    uint256 public constant MAX_NOTICE_SECONDS = 30 days;
    uint256 public constant MAX_PROTOCOL_FEE_BPS = 1000;
    uint256 private constant BPS = 10_000;

    IStakeToken private immutable TOKEN;
    IRewards private immutable STAKING;
    IBatches private immutable BATCHES;
    address private immutable FINALITY;
    address private immutable REQUESTS;
    uint256 private immutable NOTICE_SECONDS;

    /// @dev Everything owed, fees among it, and the fees: one word, because collections change both.
    uint128 private _owed;
    uint128 private _fees;
    address private _treasury;
    uint16 private _feeBps;
    // Written through storage pointers, as are the fundings.
    // slither-disable-next-line uninitialized-state
    mapping(address payer => mapping(address payee => Account)) private _accounts;
    /// @dev Disjoint words. One entry for every change of verdicts with another amount, so 256 and a few at most.
    // slither-disable-next-line uninitialized-state
    mapping(BatchId batchId => Funding[]) private _fundings;
    /// @dev By order and not by leaf: one answer may be in many batches.
    mapping(address payee => mapping(bytes32 requestHash => bool)) private _opened;

    constructor(Contracts memory contracts_, uint256 notice, address owner) EIP712("Trine", "1") Ownable(owner) {
        require(
            notice >= MIN_NOTICE_SECONDS && notice <= MAX_NOTICE_SECONDS,
            PaymentsNoticeOutOfBounds(notice, MIN_NOTICE_SECONDS, MAX_NOTICE_SECONDS)
        );
        require(
            address(contracts_.token) != address(0) && address(contracts_.staking) != address(0)
                && address(contracts_.batches) != address(0) && contracts_.finality != address(0)
                && contracts_.requests != address(0),
            PaymentsZeroAddress()
        );
        TOKEN = contracts_.token;
        STAKING = contracts_.staking;
        BATCHES = contracts_.batches;
        FINALITY = contracts_.finality;
        REQUESTS = contracts_.requests;
        NOTICE_SECONDS = notice;
    }

    /// @inheritdoc IPayments
    function deposit(address payee, uint256 amount) external nonReentrant {
        _deposit(payee, amount);
    }

    /// @inheritdoc IPayments
    function depositWithPermit(address payee, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        // Whoever saw the permit may have used it first: what counts is the allowance, which the transfer needs.
        // solhint-disable-next-line no-empty-blocks
        try IERC20Permit(address(TOKEN)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(payee, amount);
    }

    /// @inheritdoc IPayments
    function requestWithdrawal(address payee, uint256 amount) external {
        require(amount > 0, PaymentsAmountZero());
        Account storage account = _accounts[msg.sender][payee];
        require(amount <= account.balance, PaymentsInsufficientBalance(account.balance, amount));
        account.leaving = amount.toUint128();
        account.withdrawableAt = (block.timestamp + NOTICE_SECONDS).toUint64();
        emit WithdrawalRequested(msg.sender, payee, amount, account.withdrawableAt);
    }

    /// @inheritdoc IPayments
    function withdraw(address payee) external nonReentrant {
        Account storage account = _accounts[msg.sender][payee];
        require(account.leaving > 0, PaymentsNothingToWithdraw());
        require(block.timestamp >= account.withdrawableAt, PaymentsNoticeRunning(account.withdrawableAt));
        uint256 amount = Math.min(account.leaving, account.balance);
        account.leaving = 0;
        account.balance -= amount.toUint128();
        _owed -= amount.toUint128();
        emit Withdrawn(msg.sender, payee, amount, account.balance);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IPayments
    function collect(Voucher calldata voucher, bytes calldata signature) external nonReentrant {
        Account memory account = _present(voucher, signature);
        uint256 collected = account.collected;
        uint256 due = Math.min(voucher.earnedWei, voucher.cumulativeWei);
        require(due > collected, PaymentsNothingToCollect(due, collected));
        uint256 amount = Math.min(due - collected, account.balance);
        require(amount > 0, PaymentsInsufficientBalance(0, due - collected));
        _settleUp(voucher, account, amount);
    }

    // A loop over what the caller brings; only Trine's own contracts are called.
    // slither-disable-start calls-loop
    /// @inheritdoc IPayments
    function collectOpened(
        Voucher calldata voucher,
        bytes calldata signature,
        Request[] calldata requests,
        Opening[] calldata openings
    ) external nonReentrant {
        uint256 count = openings.length;
        require(requests.length == count, PaymentsWrongNumber(count, requests.length));
        require(count <= MAX_OPENINGS, PaymentsTooManyOpenings(count, MAX_OPENINGS));
        Account memory account = _present(voucher, signature);
        // What is acknowledged first: else the openings would seem to be part of it.
        uint256 due = Math.min(voucher.earnedWei, voucher.cumulativeWei);
        uint256 amount = Math.saturatingSub(due, account.collected);
        for (uint256 i = 0; i < count; ++i) {
            amount += _open(voucher, account.asOf, requests[i], openings[i]);
        }
        uint256 total = account.collected + amount;
        require(total <= voucher.cumulativeWei, PaymentsOverLimit(total, voucher.cumulativeWei));
        require(amount > 0, PaymentsNothingToCollect(due, account.collected));
        require(amount <= account.balance, PaymentsInsufficientBalance(account.balance, amount));
        _settleUp(voucher, account, amount);
    }
    // slither-disable-end calls-loop

    /// @inheritdoc IPayments
    function payOut(address payee, uint256 amount) external nonReentrant {
        require(msg.sender == REQUESTS, PaymentsUnauthorized(msg.sender));
        _payOut(payee, amount);
    }

    /// @inheritdoc IPayments
    function refund(BatchId batchId, Opening calldata opening) external nonReentrant {
        uint256 index = opening.index;
        (IVerdicts.Verdict verdict, bool isFinal) = BATCHES.verdictOf(batchId, index);
        bool failed = verdict == IVerdicts.Verdict.Rejected || verdict == IVerdicts.Verdict.Unavailable;
        require(failed, PaymentsNotRejected(batchId, index));
        require(isFinal, PaymentsNotFinal(batchId, index));
        require(opening.opens(address(BATCHES), batchId), PaymentsBadOpening(batchId, index));
        uint256 perLeaf = _take(batchId, 1 << index);
        require(perLeaf > 0, PaymentsNothingToRefund(batchId, index));
        address client = opening.receipt.client;
        uint256 amount = client == address(0) ? 0 : Math.min(opening.receipt.feeWei, perLeaf);
        emit Refunded(batchId, index, client, amount, perLeaf - amount);
        if (amount > 0) IERC20(TOKEN).safeTransfer(client, amount);
        if (perLeaf > amount) TOKEN.burn(perLeaf - amount);
    }

    /// @inheritdoc IPayments
    function fundRefunds(BatchId batchId, uint256 leaves, uint256 perLeaf) external nonReentrant {
        require(msg.sender == FINALITY, PaymentsUnauthorized(msg.sender));
        Funding[] storage fundings = _fundings[batchId];
        uint256 count = fundings.length;
        for (uint256 i = 0; i < count; ++i) {
            leaves &= ~fundings[i].leaves;
        }
        if (leaves == 0) return;
        uint256 number = Majority.popcount(leaves);
        // Deposits must never answer for refunds, whatever the caller believes to have sent.
        perLeaf = Math.min(perLeaf, Math.saturatingSub(TOKEN.balanceOf(address(this)), _owed) / number);
        if (perLeaf == 0) return;
        _owed += (number * perLeaf).toUint128();
        if (count > 0 && fundings[count - 1].perLeaf == perLeaf) fundings[count - 1].leaves |= leaves;
        else fundings.push(Funding(leaves, perLeaf));
        emit RefundsFunded(batchId, leaves, perLeaf);
    }

    /// @inheritdoc IPayments
    function setProtocolFee(uint256 feeBps, address treasury) external onlyOwner {
        require(feeBps <= MAX_PROTOCOL_FEE_BPS, PaymentsFeeOutOfBounds(feeBps, MAX_PROTOCOL_FEE_BPS));
        // Fees that were collected need somewhere to go, even when there are none any more.
        require(treasury != address(0), PaymentsZeroAddress());
        _feeBps = feeBps.toUint16();
        _treasury = treasury;
        emit ProtocolFeeChanged(feeBps, treasury);
    }

    /// @inheritdoc IPayments
    function sendProtocolFees() external nonReentrant {
        uint128 amount = _fees;
        require(amount > 0, PaymentsNothingToWithdraw());
        _fees = 0;
        _owed -= amount;
        emit ProtocolFeesSent(_treasury, amount);
        IERC20(TOKEN).safeTransfer(_treasury, amount);
    }

    /// @inheritdoc IPayments
    function accountOf(address payer, address payee) external view returns (Account memory) {
        return _accounts[payer][payee];
    }

    /// @inheritdoc IPayments
    function firmOf(address payer, address payee) external view returns (uint256) {
        Account storage account = _accounts[payer][payee];
        return Math.saturatingSub(account.balance, account.leaving);
    }

    /// @inheritdoc IPayments
    function collectedOf(address payer, address payee) external view returns (uint256) {
        return _accounts[payer][payee].collected;
    }

    /// @inheritdoc IPayments
    function isOpened(address payee, bytes32 requestHash) external view returns (bool) {
        return _opened[payee][requestHash];
    }

    /// @inheritdoc IPayments
    function refundOf(BatchId batchId, uint256 leafIndex) external view returns (uint256) {
        Funding[] storage fundings = _fundings[batchId];
        for (uint256 i = 0; i < fundings.length; ++i) {
            if (fundings[i].leaves & (1 << leafIndex) != 0) return fundings[i].perLeaf;
        }
        return 0;
    }

    /// @inheritdoc IPayments
    function totalOwed() external view returns (uint256) {
        return _owed;
    }

    /// @inheritdoc IPayments
    function protocolFee() external view returns (uint256 feeBps, address treasury, uint256 unsentWei) {
        return (_feeBps, _treasury, _fees);
    }

    /// @inheritdoc IPayments
    function noticeSeconds() external view returns (uint256) {
        return NOTICE_SECONDS;
    }

    function _deposit(address payee, uint256 amount) private {
        require(amount > 0, PaymentsAmountZero());
        require(payee != address(0), PaymentsZeroAddress());
        Account storage account = _accounts[msg.sender][payee];
        account.balance = (account.balance + amount).toUint128();
        _owed = (_owed + amount).toUint128();
        emit Deposited(msg.sender, payee, amount, account.balance);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev The account as it is with the voucher presented, which its payer has signed.
    function _present(Voucher calldata voucher, bytes calldata signature)
        private
        view
        returns (Account memory account)
    {
        require(msg.sender == voucher.payee, PaymentsNotPayee(msg.sender, voucher.payee));
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, voucher)));
        require(Signatures.isBy(voucher.payer, digest, signature), PaymentsBadSignature(voucher.payer));
        account = _accounts[voucher.payer][voucher.payee];
        if (voucher.asOf > account.asOf) account.asOf = voucher.asOf;
    }

    /// @dev Notes that an accepted answer is paid for, and returns how much that is.
    function _open(Voucher calldata voucher, uint256 asOf, Request calldata request, Opening calldata opening)
        private
        returns (uint256 amount)
    {
        Receipt calldata receipt = opening.receipt;
        bytes32 requestHash = receipt.requestHash;
        require(
            receipt.client == voucher.payer && receipt.node == voucher.payee
                && request.digest(address(BATCHES)) == requestHash,
            PaymentsOtherOrder(requestHash)
        );
        require(request.deadline >= asOf, PaymentsAcknowledged(requestHash, request.deadline, asOf));
        require(!_opened[voucher.payee][requestHash], PaymentsAlreadyOpened(requestHash));
        _opened[voucher.payee][requestHash] = true;

        uint256 index = opening.index;
        BatchId batchId = opening.batchOf(address(BATCHES));
        require(opening.opens(address(BATCHES), batchId), PaymentsBadOpening(batchId, index));
        // A loop over as many answers as one call may show, and calls of Trine's own contracts.
        // slither-disable-start calls-loop
        (IVerdicts.Verdict verdict, bool isFinal) = BATCHES.verdictOf(batchId, index);
        require(verdict == IVerdicts.Verdict.Accepted, PaymentsNotAccepted(batchId, index));
        require(isFinal, PaymentsNotFinal(batchId, index));
        IBatches.Batch memory batch = BATCHES.batchOf(batchId);
        require(!batch.calibration, PaymentsNothingAtStake(batchId));
        uint256 stake = BATCHES.termsOf(batch.terms).stakePerLeafWei;
        // slither-disable-end calls-loop
        amount = Math.min(Math.min(receipt.feeWei, request.maxFeeWei), stake);
        emit AnswerCollected(voucher.payer, voucher.payee, requestHash, batchId, index, amount);
    }

    /// @dev Writes the account and pays. `amount` is there.
    function _settleUp(Voucher calldata voucher, Account memory account, uint256 amount) private {
        account.collected = (account.collected + amount).toUint128();
        account.balance -= amount.toUint128();
        _accounts[voucher.payer][voucher.payee] = account;
        _owed -= amount.toUint128();
        emit Collected(voucher.payer, voucher.payee, amount, voucher.earnedWei, account.collected);
        _payOut(voucher.payee, amount);
    }

    /// @dev Divides tokens that are here and owed to nobody. The fee is rounded down, in favour of the payee.
    function _payOut(address payee, uint256 amount) private {
        uint256 fee = (amount * _feeBps) / BPS;
        uint256 toPool = Math.min(STAKING.poolShareOf(payee, amount - fee), amount - fee);
        uint256 net = amount - fee - toPool;
        if (fee > 0) {
            _fees += fee.toUint128();
            _owed += fee.toUint128();
        }
        emit PaidOut(payee, amount, fee, toPool, net);
        if (toPool > 0) {
            IERC20(TOKEN).safeTransfer(address(STAKING), toPool);
            STAKING.reward(payee, toPool);
        }
        if (net > 0) IERC20(TOKEN).safeTransfer(payee, net);
    }

    /// @dev Strikes out the leaves and returns what was noted for them.
    function _take(BatchId batchId, uint256 leaves) private returns (uint256 amount) {
        Funding[] storage fundings = _fundings[batchId];
        for (uint256 i = 0; i < fundings.length; ++i) {
            uint256 taken = fundings[i].leaves & leaves;
            if (taken == 0) continue;
            fundings[i].leaves &= ~taken;
            amount += Majority.popcount(taken) * fundings[i].perLeaf;
        }
        _owed -= amount.toUint128();
    }
}
