// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Receipt} from "../libraries/LeafLib.sol";
import {BatchId} from "../types/Types.sol";

/// @title Clients' deposits, cumulative vouchers, refunds of rejected answers
interface IPayments {
    /// @notice EIP-712: `payer` owes `payee` `cumulativeWei` in all since the beginning; a later voucher replaces
    /// earlier ones.
    struct Voucher {
        address payer;
        address payee;
        uint256 cumulativeWei;
    }

    struct Account {
        uint128 balance;
        uint128 leaving; // part of balance under notice of withdrawal; still collectable
        uint64 withdrawableAt;
    }

    event Deposited(address indexed payer, uint256 amount, uint256 balance);
    event WithdrawalRequested(address indexed payer, uint256 amount, uint256 withdrawableAt);
    event Withdrawn(address indexed payer, uint256 amount, uint256 balance);
    event Collected(
        address indexed payer, address indexed payee, uint256 amount, uint256 cumulativeWei, uint256 collectedWei
    );
    event RefundsFunded(BatchId indexed batchId, uint256 perLeaf);
    event Refunded(BatchId indexed batchId, uint256 indexed leafIndex, address indexed client, uint256 amount);

    error PaymentsAmountZero();
    error PaymentsInsufficientBalance(uint256 balance, uint256 required);
    error PaymentsNoticeRunning(uint256 withdrawableAt);
    error PaymentsNothingToWithdraw();
    error PaymentsBadSignature(address payer);
    error PaymentsNothingToCollect(uint256 cumulativeWei, uint256 collectedWei);
    error PaymentsNotRejected(BatchId batchId, uint256 leafIndex);
    error PaymentsBadProof(BatchId batchId, uint256 leafIndex);
    error PaymentsAlreadyRefunded(BatchId batchId, uint256 leafIndex);
    error PaymentsNoticeOutOfBounds(uint256 notice, uint256 minimum, uint256 maximum);

    function deposit(uint256 amount) external;

    /// @notice Starts (or restarts) the notice for withdrawing `amount`.
    function requestWithdrawal(uint256 amount) external;

    /// @notice Pays out what was under notice, or what collections have left of it.
    function withdraw() external;

    /// @notice Pays the payee what `upToWei`, at most the voucher's amount, adds to what it has collected, as far as
    /// the deposit reaches. A voucher covers the worst case of an answer that is not given yet; `upToWei` is what the
    /// answers given have earned. Anyone may call; the money goes to the payee. Accepts EIP-1271 wallets.
    function collect(Voucher calldata voucher, uint256 upToWei, bytes calldata signature) external;

    /// @notice Refunds the fee of a rejected answer to its client out of the node's slashed stake. Anyone may call.
    function refund(BatchId batchId, uint256 leafIndex, Receipt calldata receipt, bytes32[] calldata proof) external;

    /// @notice Notes what each rejected leaf of a batch may be refunded; the tokens come with the slash.
    /// Only `Batches`.
    function fundRefunds(BatchId batchId, uint256 leaves, uint256 perLeaf) external;

    function accountOf(address payer) external view returns (Account memory);

    function collectedOf(address payer, address payee) external view returns (uint256);
}
