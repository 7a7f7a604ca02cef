// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Opening} from "../libraries/LeafLib.sol";
import {Request} from "../libraries/RequestLib.sol";
import {BatchId} from "../types/Types.sol";

/// @title Clients' deposits, cumulative vouchers, refunds of rejected answers
/// @notice A deposit is for one payee. With one purse for all, a payer could empty it through a payee of its own just
/// before an honest one collects.
///
/// No voucher alone pays for an answer. The payer acknowledges what accepted answers have earned, order by order in the
/// order of their deadlines, which it signed itself: `earnedWei` is for all orders whose deadline is before `asOf`. For
/// orders with later deadlines the payee opens the accepted leaves. An order is so on one side of `asOf` only, in
/// however many batches its answer may be, and what was collected never exceeds what was acknowledged up to the latest
/// `asOf` presented, and the openings beyond it.
/// @dev The token is a plain ERC-20 without fees on transfers, of less than 2 ** 128 wei in all.
interface IPayments {
    /// @notice EIP-712, signed by the payer. All sums are since the beginning; a later voucher replaces earlier ones.
    struct Voucher {
        address payer;
        address payee;
        uint256 cumulativeWei; // the most that the payee may ever collect; covers answers that are not given yet
        uint256 earnedWei; // of it, what the orders with a deadline before asOf have earned: final, accepted answers
        uint64 asOf; // seconds
    }

    /// @notice What one payer has with one payee.
    struct Account {
        uint128 balance;
        uint128 collected; // in all since the beginning
        uint128 leaving; // part of balance under notice of withdrawal; still collectable
        uint64 withdrawableAt;
        uint64 asOf; // the latest that was presented; no order with an earlier deadline can be opened
    }

    event Deposited(address indexed payer, address indexed payee, uint256 amount, uint256 balance);
    event WithdrawalRequested(address indexed payer, address indexed payee, uint256 amount, uint256 withdrawableAt);
    event Withdrawn(address indexed payer, address indexed payee, uint256 amount, uint256 balance);
    /// @param amount What left the deposit; `PaidOut` says how it was divided.
    event Collected(
        address indexed payer, address indexed payee, uint256 amount, uint256 earnedWei, uint256 collectedWei
    );
    /// @notice An accepted answer that the payer had not acknowledged.
    event AnswerCollected(
        address indexed payer,
        address indexed payee,
        bytes32 indexed requestHash,
        BatchId batchId,
        uint256 leafIndex,
        uint256 amount
    );
    /// @param net What the payee received: the amount without the protocol's fee and the pool's share.
    event PaidOut(address indexed payee, uint256 amount, uint256 protocolFee, uint256 toPool, uint256 net);
    event ProtocolFeeChanged(uint256 feeBps, address indexed treasury);
    event ProtocolFeesSent(address indexed treasury, uint256 amount);
    /// @param leaves A word: bit i for leaf i.
    event RefundsFunded(BatchId indexed batchId, uint256 leaves, uint256 perLeaf);
    event Refunded(
        BatchId indexed batchId, uint256 indexed leafIndex, address indexed client, uint256 amount, uint256 burned
    );

    error PaymentsAmountZero();
    error PaymentsZeroAddress();
    error PaymentsUnauthorized(address caller);
    error PaymentsInsufficientBalance(uint256 balance, uint256 required);
    error PaymentsNoticeRunning(uint256 withdrawableAt);
    error PaymentsNothingToWithdraw();
    error PaymentsNotPayee(address caller, address payee);
    error PaymentsBadSignature(address payer);
    error PaymentsNothingToCollect(uint256 earnedWei, uint256 collectedWei);
    error PaymentsWrongNumber(uint256 openings, uint256 requests);
    error PaymentsTooManyOpenings(uint256 openings, uint256 maximum);
    error PaymentsOtherOrder(bytes32 requestHash);
    error PaymentsNotAccepted(BatchId batchId, uint256 leafIndex);
    error PaymentsNothingAtStake(BatchId batchId);
    error PaymentsAcknowledged(bytes32 requestHash, uint256 deadline, uint256 asOf);
    error PaymentsAlreadyOpened(bytes32 requestHash);
    error PaymentsOverLimit(uint256 collectedWei, uint256 cumulativeWei);
    error PaymentsNotRejected(BatchId batchId, uint256 leafIndex);
    error PaymentsNotFinal(BatchId batchId, uint256 leafIndex);
    error PaymentsBadOpening(BatchId batchId, uint256 leafIndex);
    error PaymentsNothingToRefund(BatchId batchId, uint256 leafIndex);
    error PaymentsNoticeOutOfBounds(uint256 notice, uint256 minimum, uint256 maximum);
    error PaymentsFeeOutOfBounds(uint256 feeBps, uint256 maximum);

    /// @notice Adds `amount` to what the caller has with `payee`.
    function deposit(address payee, uint256 amount) external;

    /// @notice The same with an EIP-2612 permit in place of an approval. A permit that somebody else has already used
    /// does no harm: the allowance counts.
    function depositWithPermit(address payee, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Starts (or restarts, for all of it) the notice for withdrawing `amount` of what the caller has with
    /// `payee`.
    /// @dev Warning: notice that was given long ago lets the payer withdraw at any time. Payees must count on
    /// `firmOf` only.
    function requestWithdrawal(address payee, uint256 amount) external;

    /// @notice Pays out what was under notice, or what collections have left of it.
    function withdraw(address payee) external;

    /// @notice Pays the payee what the acknowledged earnings add to what it has collected, as far as the deposit
    /// reaches, less the protocol's fee and the share of the payee's pool. Only the payee, because who presents a
    /// voucher gives up opening the orders before its `asOf`: it must not present one that acknowledges too little.
    /// @dev The payer's own key always counts; where it has not signed, its code is asked (EIP-1271). Warning: code can
    /// change its mind, and what was not collected is lost.
    function collect(Voucher calldata voucher, bytes calldata signature) external;

    /// @notice Collects what the voucher acknowledges, as `collect` does, and besides the fees of accepted answers
    /// whose orders have later deadlines, which the payee opens: for a payer that is silent, or acknowledges too
    /// little. Every answer is paid in full or the call reverts; in all no more than the voucher's `cumulativeWei`.
    /// For one answer no more than the stake that secured its leaf: none is sold for more than its rejection costs.
    /// An answer of a calibration has nothing at stake and cannot be opened. Only the payee.
    /// @param requests The payer's signed orders; each hashes to the `requestHash` of the opening at its place.
    function collectOpened(
        Voucher calldata voucher,
        bytes calldata signature,
        Request[] calldata requests,
        Opening[] calldata openings
    ) external;

    /// @notice Pays `payee` out of tokens that were sent before, by the same rule as `collect`. Only `Requests`.
    function payOut(address payee, uint256 amount) external;

    /// @notice Refunds the fee of a rejected answer, at most what the slash brought for it, to its client; burns the
    /// rest, so that low fees make no rejection cheaper. Anyone may call, when nothing can change the verdict any
    /// more. An answer that nobody asked for by name has no client: all is burned.
    function refund(BatchId batchId, Opening calldata opening) external;

    /// @notice Notes what each of the leaves may be refunded: `perLeaf`, or less if fewer tokens came before. May be
    /// called again for leaves that are rejected on appeal; leaves that have their money already are left out. Never
    /// fails for want of tokens. Only `Finality`.
    /// @param leaves A word: bit i for leaf i.
    function fundRefunds(BatchId batchId, uint256 leaves, uint256 perLeaf) external;

    /// @notice Sets the part of collections that goes to `treasury`, from now on, whenever what is collected was
    /// earned. Only the owner, a timelock.
    function setProtocolFee(uint256 feeBps, address treasury) external;

    /// @notice Sends the fees collected so far to the treasury. Anyone may call.
    function sendProtocolFees() external;

    function accountOf(address payer, address payee) external view returns (Account memory);

    /// @notice What the payee can count on for at least the time of notice: the balance that is not under notice.
    function firmOf(address payer, address payee) external view returns (uint256);

    function collectedOf(address payer, address payee) external view returns (uint256);

    /// @notice Whether the payee has opened its answer to an order.
    function isOpened(address payee, bytes32 requestHash) external view returns (bool);

    /// @notice What a leaf may be refunded; zero before it is funded and after it is refunded.
    function refundOf(BatchId batchId, uint256 leafIndex) external view returns (uint256);

    /// @notice All that this contract owes: deposits, refunds, fees not sent yet. It never holds less.
    function totalOwed() external view returns (uint256);

    function protocolFee() external view returns (uint256 feeBps, address treasury, uint256 unsentWei);

    function noticeSeconds() external view returns (uint256);
}
