// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../../contracts/interfaces/IBatches.sol";
import {IExaminers} from "../../../contracts/interfaces/IExaminers.sol";
import {IInclusion} from "../../../contracts/interfaces/IInclusion.sol";
import {IParameters} from "../../../contracts/interfaces/IParameters.sol";
import {IPayments} from "../../../contracts/interfaces/IPayments.sol";
import {IVerdicts} from "../../../contracts/interfaces/IVerdicts.sol";
import {LeafLib, Opening, Receipt} from "../../../contracts/libraries/LeafLib.sol";
import {Request, RequestLib} from "../../../contracts/libraries/RequestLib.sol";
import {BatchId} from "../../../contracts/types/Types.sol";
import {Trees} from "../Trees.sol";
import {Check, vm} from "../Vm.sol";
import {Handler} from "./Handler.sol";

/// @notice The node of these tests has no key: its code says whether it has signed.
contract SigningNode {
    function isValidSignature(bytes32 digest, bytes calldata signature) external pure returns (bytes4) {
        bool signed = keccak256(signature) == keccak256(abi.encode("signed", digest));
        return signed ? this.isValidSignature.selector : bytes4(0);
    }
}

/// @notice Who shows receipts: the node, to be paid for accepted answers and for canaries; clients, whose answers are
/// in no batch. What must be refused is tried, too, where somebody would have it by that.
abstract contract Claims is Handler {
    using RequestLib for Receipt;

    uint256 private constant MAX_CLAIMS = 5; // claimed at a time
    uint256 private constant ANSWER_SECONDS = 6 hours;
    uint256 private constant CLAIM_SECONDS = 7 days;

    /// A receipt whose place its client has asked for.
    struct Claimed {
        Answers answers;
        uint256 leaf;
        BatchId id; // that it is in; zero for none
        uint256 answerBy;
    }

    Claimed[] private _openClaims;
    Claimed[] private _answered; // with a batch that may still come to nothing
    mapping(bytes32 receiptHash => IInclusion.State) private _claimStates;
    mapping(bytes32 receiptHash => BatchId) private _answeredIn;
    bytes32[] private _receiptHashes; // receipts that ever were
    mapping(bytes32 requestHash => bool) private _opened;
    uint256 private _pool; // of the examiners
    mapping(BatchId id => bool) private _examined;
    mapping(uint256 day => uint256) private _spent;

    constructor() {
        vm.etch(NODE, address(new SigningNode()).code);
    }

    // Checks

    function bondsOfClaimsAreHeldToTheWei() external view {
        Check.eq(token.balanceOf(address(inclusion)), INCLUSION_BOND * _openClaims.length, "Inclusion's tokens");
    }

    function claimsAreAsTheModelSays() external view {
        // The newest twenty.
        for (uint256 i = 0; i < _receiptHashes.length && i < 20; ++i) {
            bytes32 receiptHash = _receiptHashes[_receiptHashes.length - 1 - i];
            IInclusion.Claim memory claim = inclusion.claimOf(receiptHash);
            Check.eq(uint256(claim.state), uint256(_claimStates[receiptHash]), "state of a claim");
            Check.eq(BatchId.unwrap(claim.answeredIn), BatchId.unwrap(_answeredIn[receiptHash]), "answered in");
        }
    }

    function examinersArePaidFromThePoolOnly() external view {
        Check.eq(token.balanceOf(address(examiners)), _pool, "the examiners' pool");
        uint256 spent = _spent[timestamp / 1 days];
        uint256 budget = _examining().budgetWei;
        Check.atMost(spent, budget, "of a day's budget");
        (uint256 left,) = examiners.budget();
        Check.eq(left, budget - spent, "left of a day's budget");
    }

    // Answers are paid

    /// The node opens what it may of a batch, and is refused what it may not, and everything a second time.
    function openAnswers(uint256 seed, uint256 who) external counted {
        Batch storage b = _anyOf(seed);
        if (b.leaves == 0 || b.leaves > 5) return;
        who %= 2;
        uint256 total = 0;
        for (uint256 leaf = 0; leaf < b.leaves; ++leaf) {
            IPayments.Voucher memory voucher = _voucherFor(who, seed >> leaf);
            (uint256 amount, bytes4 refusal) = _due(b, leaf, who, voucher.asOf);
            uint256 acknowledged = voucher.earnedWei - _collected[_payers[who]];
            if (refusal == 0 && amount + acknowledged == 0) refusal = IPayments.PaymentsNothingToCollect.selector;
            if (refusal == 0 && amount + acknowledged > _deposits[_payers[who]]) {
                refusal = IPayments.PaymentsInsufficientBalance.selector;
            }
            (uint256 wallet, uint256 pool) = (token.balanceOf(NODE), _poolOf(NODE));
            bytes4 found = _present(voucher, b, leaf, _signVoucher(who, voucher));
            Check.eq(bytes32(found), bytes32(refusal), "an opening is refused");
            if (refusal != 0) {
                ++reached[Corner.OpeningRefused];
                continue;
            }
            ++reached[Corner.Opened];
            _deposits[_payers[who]] -= amount + acknowledged;
            _collected[_payers[who]] += amount + acknowledged;
            _asOf[_payers[who]] = voucher.asOf;
            _opened[_receipts(b)[leaf].requestHash] = true;
            _paidToNode(wallet, pool, amount + acknowledged);
            total += amount;
        }
        // Nothing of it counts again.
        for (uint256 leaf = 0; leaf < b.leaves && total > 0; ++leaf) {
            if (!_opened[_receipts(b)[leaf].requestHash]) continue;
            IPayments.Voucher memory voucher = _voucherFor(who, 0);
            Check.yes(_present(voucher, b, leaf, _signVoucher(who, voucher)) != 0, "paid twice");
        }
    }

    // Answers that are in no batch

    /// A client claims a receipt that was never anchored, or one that is somewhere.
    function claimMissing(uint256 seed, uint256 kind) external counted {
        if (_openClaims.length >= MAX_CLAIMS) return;
        Claimed memory claimed;
        (bool again, uint256 which) = _answeredInVain();
        if (again) {
            claimed = _answered[which];
        } else if (kind % 3 == 0) {
            claimed.answers = Answers(bytes32(++_nonce), timestamp, 1, 0);
        } else {
            Batch storage b = _anyOf(seed);
            if (b.leaves == 0 || b.leaves > 5) return;
            (claimed.answers, claimed.id, claimed.leaf) = (b.answers, b.id, kind % b.leaves);
        }
        Receipt memory receipt = _receiptOf(claimed);
        bytes32 receiptHash = LeafLib.structHash(receipt);
        IInclusion.State state = _claimStates[receiptHash];
        if (state != IInclusion.State.None && !again) return;
        if (timestamp > receipt.anchorBy + CLAIM_SECONDS) return;
        if (timestamp <= receipt.anchorBy) _wait(receipt.anchorBy + 1 - timestamp);
        _give(receipt.client, INCLUSION_BOND);
        bytes memory signature = abi.encode("signed", receipt.digest(address(batches)));
        vm.prank(receipt.client);
        inclusion.claim(receipt, signature);
        claimed.answerBy = timestamp + ANSWER_SECONDS;
        _openClaims.push(claimed);
        if (again) {
            ++reached[Corner.ClaimedAgain];
            _answered[which] = _answered[_answered.length - 1];
            _answered.pop();
        }
        if (state == IInclusion.State.None) _receiptHashes.push(receiptHash);
        _claimStates[receiptHash] = IInclusion.State.Open;
    }

    /// The node shows the batch that a claimed receipt is in. If there is none, it anchors one.
    function answerClaim(uint256 seed) external counted {
        if (_openClaims.length == 0) return;
        uint256 index = seed % _openClaims.length;
        Claimed storage claimed = _openClaims[index];
        if (BatchId.unwrap(claimed.id) == 0) {
            (bool possible, IParameters.Values memory values) = _canAnchor(1);
            if (!possible || seed % 3 == 0) return;
            claimed.id = _anchorReceipts(claimed.answers, 0, values);
            ++reached[Corner.AnchoredLate];
        }
        Batch storage b = _batches[claimed.id];
        Receipt memory receipt = _receiptOf(claimed);
        uint256 node = token.balanceOf(NODE);
        uint256 client = token.balanceOf(receipt.client);
        try inclusion.answer(Trees.open(_receipts(b), claimed.leaf, b.canary)) {}
        catch (bytes memory reason) {
            Check.yes(b.state == IBatches.State.Void, "only what nobody judges is no answer");
            Check.eq(bytes32(bytes4(reason)), bytes32(IInclusion.InclusionNotJudged.selector), "refused");
            ++reached[Corner.AnswerRefused];
            return;
        }
        Check.yes(b.state != IBatches.State.Void, "nobody judges it");
        bool wasFalse = false;
        if (b.state == IBatches.State.Settled) wasFalse = b.settledAt + ANSWER_SECONDS <= claimed.answerBy;
        // It was decided before the time to appeal.
        if (b.state == IBatches.State.Final) {
            wasFalse = b.finalAt + ANSWER_SECONDS <= claimed.answerBy + b.values.appealWindowSeconds + 1;
        }
        ++reached[wasFalse ? Corner.ClaimFalse : Corner.ClaimRight];
        Check.eq(token.balanceOf(NODE) - node, wasFalse ? INCLUSION_BOND : 0, "the node's for a false claim");
        Check.eq(token.balanceOf(receipt.client) - client, wasFalse ? 0 : INCLUSION_BOND, "else the client's");
        _claimStates[LeafLib.structHash(receipt)] = IInclusion.State.Answered;
        _answeredIn[LeafLib.structHash(receipt)] = b.id;
        if (b.state != IBatches.State.Final) _answered.push(claimed);
        _dropClaim(index);
    }

    /// Nobody has answered: the node pays a leaf's stake and the fee, half of it to the client.
    function concludeClaim(uint256 seed) external counted {
        if (_openClaims.length == 0) return;
        uint256 index = seed % _openClaims.length;
        Claimed storage claimed = _openClaims[index];
        if (timestamp <= claimed.answerBy) {
            if (seed % 4 != 0) return;
            _wait(claimed.answerBy + 1 - timestamp);
        }
        Receipt memory receipt = _receiptOf(claimed);
        uint256 stake = parameters.current().stakePerLeafWei;
        uint256 before = token.balanceOf(receipt.client);
        inclusion.conclude(receipt);
        uint256 half = _slash(NODE, stake + (receipt.feeWei < stake ? receipt.feeWei : stake)) / 2;
        Check.eq(token.balanceOf(receipt.client) - before, INCLUSION_BOND + half, "the bond, half of what is taken");
        _gained[receipt.client] += half;
        ++reached[Corner.Broken];
        _claimStates[LeafLib.structHash(receipt)] = IInclusion.State.Broken;
        _dropClaim(index);
    }

    // Canaries are paid

    function fundExaminers(uint256 amount) external counted {
        amount %= 2 ether;
        require(token.transfer(address(examiners), amount));
        _pool += amount;
    }

    /// For canaries that were opened and rejected, a third as many as ordinary answers that were accepted; once.
    function claimForExaminer(uint256 seed) external counted {
        if (_closed.length == 0) return;
        Batch storage b = _batches[_closed[seed % _closed.length]];
        IExaminers.Values memory values = _examining();
        // Mostly for a batch that pays.
        for (uint256 i = 0; i < _closed.length && seed % 4 != 0; ++i) {
            if (!_examined[b.id] && _rewardOf(b, values) > 0) break;
            b = _batches[_closed[i]];
        }
        uint256 due = _rewardOf(b, values);
        uint256 today = timestamp / 1 days;
        bytes4 refusal = 0;
        if (_examined[b.id]) refusal = IExaminers.ExaminersAlreadyPaid.selector;
        else if (due == 0) refusal = IExaminers.ExaminersNothingToPay.selector;
        else if (_spent[today] + due > values.budgetWei) refusal = IExaminers.ExaminersBudgetSpent.selector;
        else if (due > _pool) refusal = IExaminers.ExaminersPoolTooSmall.selector;
        uint256 before = token.balanceOf(NODE);
        try examiners.claim(_headerOf(b.id)) returns (uint256 amount) {
            Check.eq(amount, due, "for canaries");
            Check.eq(bytes32(refusal), 0, "paid all the same");
            Check.eq(token.balanceOf(NODE) - before, due, "the node has it");
            _examined[b.id] = true;
            _spent[today] += due;
            _pool -= due;
            ++reached[Corner.Examined];
        } catch (bytes memory reason) {
            Check.eq(bytes32(bytes4(reason)), bytes32(refusal), "refused");
        }
    }

    function _rewardOf(Batch storage b, IExaminers.Values memory values) private view returns (uint256 due) {
        if (b.opened == 0) return 0;
        uint256 shown = b.accepted & b.rejected;
        uint256 confirmed = _popcount(b.opened & b.rejected & ~shown);
        uint256 ordinary = _popcount(b.accepted & ~shown & ~b.opened) / values.ordinaryPerCanary;
        due = (confirmed < ordinary ? confirmed : ordinary) * values.bountyWei;
        if (due > _fee(b) / 2) due = _fee(b) / 2;
    }

    /// What is to be paid for a leaf, or why nothing is.
    function _due(Batch storage b, uint256 leaf, uint256 who, uint256 asOf)
        private
        view
        returns (uint256 amount, bytes4 refusal)
    {
        Receipt memory receipt = _receipts(b)[leaf];
        Request memory order = _orderOf(b.answers, leaf);
        bool contracts = leaf == 0 && b.answers.request != 0;
        if (receipt.client != _payers[who] || contracts) return (0, IPayments.PaymentsOtherOrder.selector);
        if (order.deadline < asOf) return (0, IPayments.PaymentsAcknowledged.selector);
        if (_opened[receipt.requestHash]) return (0, IPayments.PaymentsAlreadyOpened.selector);
        bool settled = b.state == IBatches.State.Settled || b.state == IBatches.State.Final;
        if (!settled || _wordOf(b.accepted, b.rejected, leaf) != IVerdicts.Verdict.Accepted) {
            return (0, IPayments.PaymentsNotAccepted.selector);
        }
        bool appealed = (b.appealed >> leaf) & 1 == 1;
        bool isFinal = appealed ? (b.concluded >> leaf) & 1 == 1 : b.state == IBatches.State.Final;
        if (!isFinal) return (0, IPayments.PaymentsNotFinal.selector);
        amount = receipt.feeWei < order.maxFeeWei ? receipt.feeWei : order.maxFeeWei;
        if (amount > b.values.stakePerLeafWei) amount = b.values.stakePerLeafWei;
    }

    /// Shows one leaf; the selector of the error that refuses it, or 0.
    function _present(IPayments.Voucher memory voucher, Batch storage b, uint256 leaf, bytes memory signature)
        private
        returns (bytes4)
    {
        Request[] memory orders = new Request[](1);
        Opening[] memory openings = new Opening[](1);
        (orders[0], openings[0]) = (_orderOf(b.answers, leaf), Trees.open(_receipts(b), leaf, b.canary));
        vm.prank(NODE);
        try payments.collectOpened(voucher, signature, orders, openings) {
            return 0;
        } catch (bytes memory reason) {
            return bytes4(reason);
        }
    }

    /// Acknowledges something now and then, and half a day later all that was due before; its limit is no hindrance.
    function _voucherFor(uint256 who, uint256 seed) private view returns (IPayments.Voucher memory) {
        address payer = _payers[who];
        uint256 earned = _collected[payer] + (seed % 8 == 3 ? seed % 0.1 ether : 0);
        uint256 asOf = seed % 16 == 5 ? timestamp - 12 hours : 0;
        if (asOf < _asOf[payer]) asOf = _asOf[payer];
        return IPayments.Voucher(payer, NODE, _collected[payer] + 100 ether, earned, uint64(asOf));
    }

    function _receiptOf(Claimed memory claimed) private view returns (Receipt memory) {
        return _receiptsOf(claimed.answers)[claimed.leaf];
    }

    function _dropClaim(uint256 index) private {
        _openClaims[index] = _openClaims[_openClaims.length - 1];
        _openClaims.pop();
    }

    /// A claim whose answer is void, early enough to claim again.
    function _answeredInVain() private view returns (bool, uint256) {
        for (uint256 i = 0; i < _answered.length; ++i) {
            bool late = timestamp > _answered[i].answers.issued + ANCHOR_SECONDS + CLAIM_SECONDS;
            if (_batches[_answered[i].id].state == IBatches.State.Void && !late) return (true, i);
        }
        return (false, 0);
    }

    /// A batch in any state; one of no leaves if there is none.
    function _anyOf(uint256 seed) private view returns (Batch storage) {
        BatchId[] storage ids = seed % 8 < 5 ? _closed : seed % 8 < 7 ? _open : _void;
        if (ids.length == 0) return _batches[BatchId.wrap(0)];
        // Of the newest eight: what is old is over.
        return _batches[ids[ids.length - 1 - (seed >> 3) % (ids.length < 8 ? ids.length : 8)]];
    }
}
