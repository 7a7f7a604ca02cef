// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBatches} from "./interfaces/IBatches.sol";
import {IExaminers} from "./interfaces/IExaminers.sol";
import {IFinality} from "./interfaces/IFinality.sol";
import {IStakeToken} from "./interfaces/IStakeToken.sol";
import {Majority} from "./libraries/Majority.sol";
import {Metering} from "./libraries/Metering.sol";
import {BatchId, Header, Ids} from "./types/Types.sol";

/// @title Pay for canaries
/// @dev Documented in `IExaminers`. Reads verdicts and changes none.
contract Examiners is IExaminers, Ownable2Step {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    uint256 public constant PERIOD_SECONDS = 1 days;
    uint256 public constant MAX_BOUNTY_WEI = 10e18;
    uint256 public constant MAX_BUDGET_WEI = 1_000_000e18;
    /// @notice Three ordinary leaves of four at least: a batch in which most is bad teaches to reject unseen.
    uint256 public constant MIN_ORDINARY = 3;
    uint256 public constant MAX_ORDINARY = 255;
    /// @dev Of the verifiers' fees: what a batch earns at most.
    uint256 private constant FEES_DIVISOR = 2;

    IStakeToken private immutable TOKEN;
    IBatches private immutable BATCHES;
    IFinality private immutable FINALITY;

    Values private _values;
    uint64 private _period;
    uint128 private _spent;
    mapping(BatchId batchId => bool) private _paid;

    constructor(IStakeToken token, IBatches batches, IFinality finality, address owner, Values memory values)
        Ownable(owner)
    {
        require(
            address(token) != address(0) && address(batches) != address(0) && address(finality) != address(0),
            ExaminersZeroAddress()
        );
        TOKEN = token;
        BATCHES = batches;
        FINALITY = finality;
        _set(values);
    }

    /// @inheritdoc IExaminers
    function claim(Header calldata header) external returns (uint256 amount) {
        BatchId batchId = Ids.batch(address(BATCHES), header);
        require(!_paid[batchId], ExaminersAlreadyPaid(batchId));
        uint256 confirmed;
        uint256 counted;
        (confirmed, counted, amount) = _due(batchId, header.root);
        (uint256 left, uint256 until) = budget();
        require(amount <= left, ExaminersBudgetSpent(left, amount, until));
        uint256 balance = TOKEN.balanceOf(address(this));
        require(amount <= balance, ExaminersPoolTooSmall(balance, amount));
        uint64 period = _now();
        // Days are counted, nobody can shift them.
        // slither-disable-next-line incorrect-equality
        uint256 spent = period == _period ? _spent + amount : amount;
        _spent = spent.toUint128();
        _period = period;
        _paid[batchId] = true;
        emit ExaminerPaid(batchId, header.node, confirmed, counted, amount);
        IERC20(TOKEN).safeTransfer(header.node, amount);
    }

    /// @inheritdoc IExaminers
    function set(Values calldata values) external onlyOwner {
        _set(values);
    }

    /// @inheritdoc IExaminers
    function release(address to, uint256 amount) external onlyOwner {
        require(to != address(0), ExaminersZeroAddress());
        emit Released(to, amount);
        IERC20(TOKEN).safeTransfer(to, amount);
    }

    /// @inheritdoc IExaminers
    function dueFor(Header calldata header)
        external
        view
        returns (uint256 confirmed, uint256 counted, uint256 amount)
    {
        return _due(Ids.batch(address(BATCHES), header), header.root);
    }

    /// @inheritdoc IExaminers
    function current() external view returns (Values memory) {
        return _values;
    }

    /// @inheritdoc IExaminers
    function isPaid(BatchId batchId) external view returns (bool) {
        return _paid[batchId];
    }

    /// @inheritdoc IExaminers
    function budget() public view returns (uint256 leftWei, uint256 until) {
        uint64 period = _now();
        // slither-disable-next-line incorrect-equality
        leftWei = Math.saturatingSub(_values.budgetWei, period == _period ? _spent : 0);
        until = (uint256(period) + 1) * PERIOD_SECONDS;
    }

    function _set(Values memory values) private {
        require(values.bountyWei <= MAX_BOUNTY_WEI, ExaminersOutOfBounds("bountyWei"));
        require(values.budgetWei <= MAX_BUDGET_WEI, ExaminersOutOfBounds("budgetWei"));
        require(
            values.ordinaryPerCanary >= MIN_ORDINARY && values.ordinaryPerCanary <= MAX_ORDINARY,
            ExaminersOutOfBounds("ordinaryPerCanary")
        );
        _values = values;
        emit ValuesSet(values);
    }

    function _due(BatchId batchId, bytes32 root)
        private
        view
        returns (uint256 confirmed, uint256 counted, uint256 amount)
    {
        // slither-disable-next-line unused-return
        (uint256 leafCount, uint256 accepted, uint256 rejected,,, bool isFinal) = FINALITY.resultOf(batchId);
        require(isFinal, ExaminersNotFinal(batchId));
        uint256 canaries = FINALITY.marksOf(batchId).canaries;
        confirmed = Majority.popcount(canaries & rejected);
        uint256 ordinary = Majority.popcount(accepted & ~canaries);
        Values memory values = _values;
        counted = Math.min(confirmed, ordinary / values.ordinaryPerCanary);
        IBatches.Terms memory terms = BATCHES.termsOf(BATCHES.batchOf(batchId).terms);
        uint256 fees = Metering.fee(leafCount, root, terms.verifierFeePerLeafWei, terms.verifierFeePerTokenWei);
        amount = Math.min(counted * values.bountyWei, fees / FEES_DIVISOR);
        require(amount > 0, ExaminersNothingToPay(batchId, confirmed, ordinary));
    }

    function _now() private view returns (uint64) {
        return (block.timestamp / PERIOD_SECONDS).toUint64();
    }
}
