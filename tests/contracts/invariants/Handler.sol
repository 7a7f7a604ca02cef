// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAppeals} from "../../../contracts/interfaces/IAppeals.sol";
import {IBatches} from "../../../contracts/interfaces/IBatches.sol";
import {IFinality} from "../../../contracts/interfaces/IFinality.sol";
import {IParameters} from "../../../contracts/interfaces/IParameters.sol";
import {IPayments} from "../../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../../contracts/interfaces/IRequests.sol";
import {IStaking} from "../../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../../contracts/interfaces/IVerdicts.sol";
import {Opening, Receipt} from "../../../contracts/libraries/LeafLib.sol";
import {Request, RequestLib} from "../../../contracts/libraries/RequestLib.sol";
import {BatchId, ModelId} from "../../../contracts/types/Types.sol";
import {Trees} from "../Trees.sol";
import {Check, Vm, vm} from "../Vm.sol";
import {Model} from "./Model.sol";

interface IGuarded {
    function pause() external;
    function unpause() external;
    function paused() external view returns (bool);
}

/// @notice All roles at random. Every function does something that the protocol must allow, and tells the model; when
/// nothing of the kind is possible, nothing. So none reverts: whatever does is a fault of the protocol.
abstract contract Handler is Model {
    using RequestLib for Request;

    uint256 internal constant ANCHOR_SECONDS = 1 hours; // from a receipt to the time by which it is in a batch
    uint256 internal constant MAX_BATCHES = 6; // open at a time
    uint256 private constant MAX_VERSIONS = 40;
    bytes4 private constant TOO_FEW = bytes4(keccak256("CommitteesTooFew(uint256,uint256)"));

    // Stake

    function stake(uint256 who, uint256 amount) external counted {
        address operator = _operator(who);
        amount = 1e9 + amount % 300 ether;
        _give(operator, amount);
        vm.prank(operator);
        staking.stake(amount);
        _stakeAdded(operator, amount);
        committees.refresh(model, operator);
    }

    function delegate(uint256 who, uint256 whom, uint256 amount) external counted {
        address operator = _operator(whom);
        address delegator = _delegator(who);
        (uint256 own,) = staking.delegationOf(operator, operator);
        if (own == 0) return;
        amount = 1e9 + amount % 100 ether;
        // All that others may ever have, or what this one brings.
        vm.startPrank(operator);
        uint16 commission = uint16(staking.commissionOf(operator));
        if (who % 8 == 0) staking.openDelegation(amount % 200 ether, commission);
        else staking.openDelegation(staking.stakeOf(operator).active + amount, commission);
        vm.stopPrank();
        if (staking.stakeOf(operator).active - own + amount > staking.delegationLimitOf(operator)) return;
        _give(delegator, amount);
        vm.prank(delegator);
        staking.delegate(operator, amount, 5000);
        _stakeAdded(operator, amount);
    }

    function unbond(uint256 who, uint256 whom, uint256 amount) external counted {
        address operator = _operator(whom);
        address holder = who % 3 == 0 ? _delegator(who) : operator;
        (uint256 worth,) = staking.delegationOf(operator, holder);
        if (worth == 0) return;
        // Mostly a little, sometimes everything.
        amount = who % 16 == 1 ? worth : 1e9 + amount % 60 ether;
        if (amount > worth) amount = worth;
        vm.prank(holder);
        staking.unbond(operator, amount);
        // What is left to be released when the last holder leaves is the operator's credit.
        uint256 credited = staking.creditOf(operator) - _credit[operator];
        _credit[operator] += credited;
        _stakeTaken(operator, credited);
    }

    function withdraw(uint256 who, uint256 whom) external counted {
        address operator = _operator(whom);
        address holder = who % 2 == 0 ? _delegator(who) : operator;
        (IStaking.Ticket memory ticket, uint256 amount) = staking.ticketOf(operator, holder);
        if (ticket.shares == 0 || ticket.releasableAt > timestamp) return;
        IStaking.Stake memory s = staking.stakeOf(operator);
        if (s.active + s.unbonding - amount < s.locked) return;
        uint256 before = token.balanceOf(holder);
        vm.prank(holder);
        staking.withdraw(operator);
        Check.eq(token.balanceOf(holder) - before, amount, "the ticket's worth is paid");
        _stakeTaken(operator, amount);
    }

    function setCommission(uint256 who, uint16 bps) external counted {
        vm.prank(_operator(who));
        staking.setCommission(bps % 5001);
    }

    function addCredit(uint256 who, uint256 amount) external counted {
        address operator = who % 2 == 0 ? NODE : _operator(who);
        amount %= 50 ether;
        _give(operator, amount);
        vm.prank(operator);
        staking.addCredit(amount);
        _credit[operator] += amount;
    }

    function withdrawCredit(uint256 who) external counted {
        address operator = _operator(who);
        if (staking.creditOf(operator) == 0) return;
        vm.prank(operator);
        staking.withdrawCredit();
        _credit[operator] = 0;
    }

    // Batches

    function anchor(uint256 seed, uint256 size) external counted {
        uint256 leaves = size % 16 == 0 ? 1 + seed % 256 : 1 + seed % 5;
        (bool possible, IParameters.Values memory values) = _canAnchor(leaves);
        if (!possible) return;
        uint256 canaries_ = leaves <= 5 ? (seed >> 8) % (1 << leaves) : 0;
        _anchorBatch(leaves, canaries_, values);
    }

    /// A void batch is anchored again as it was.
    function anchorAgain(uint256 seed) external counted {
        if (_void.length == 0) return;
        uint256 index = seed % _void.length;
        Batch storage b = _batches[_void[index]];
        (bool possible, IParameters.Values memory values) = _canAnchor(b.leaves);
        if (!possible) return;
        _anchor(b.root, b.canary, b.leaves);
        _anchored(b, values);
        ++reached[Corner.AnchoredAgain];
        _open.push(b.id);
        _void[index] = _void[_void.length - 1];
        _void.pop();
    }

    function draw(uint256 seed) external counted {
        (bool found, Batch storage b) = _pick(seed, IBatches.State.Anchored);
        if (!found) return;
        _drawOrExpire(b);
    }

    /// Waits until it is too late.
    function expire(uint256 seed) external counted {
        if (seed % 4 != 0) return;
        (bool found, Batch storage b) = _pick(seed >> 2, IBatches.State.Anchored);
        if (!found) return;
        _reach(batches.batchOf(b.id).clock + EPOCH_BLOCKS + 1);
        _expire(b.id);
        _modelExpired(b);
        _drop(b);
    }

    function commit(uint256 seed, uint256 votes) external counted {
        (bool found, Batch storage b) = _pick(seed, IBatches.State.Drawn);
        if (!found) return;
        _commitSome(b, votes);
    }

    function reveal(uint256 seed, uint256 which) external counted {
        (bool found, Batch storage b) = _pick(seed, IBatches.State.Drawn);
        if (!found) return;
        _revealSome(b, which);
    }

    function settle(uint256 seed) external counted {
        (bool found, Batch storage b) = _pick(seed, IBatches.State.Drawn);
        if (!found) return;
        _settleBatch(b);
    }

    /// Goes on to the settlement of a batch, if it comes to one.
    function live(uint256 seed, uint256 votes) external counted {
        if (_open.length == 0) return;
        Batch storage b = _batches[_open[seed % _open.length]];
        if (b.state == IBatches.State.Anchored) _drawOrExpire(b);
        if (b.state != IBatches.State.Drawn) return;
        // Honest mostly.
        _commitSome(b, votes | (votes % 4 == 0 ? 0 : 7));
        _revealSome(b, votes % 8 == 0 ? votes : 7);
        if (b.state == IBatches.State.Drawn) _settleBatch(b);
    }

    function finalize(uint256 seed) external counted {
        (bool found, Batch storage b) = _pick(seed, IBatches.State.Settled);
        if (!found || b.appealed != b.concluded) return;
        uint256 deadline = b.settledAt + b.values.appealWindowSeconds;
        if (timestamp <= deadline) {
            if (seed % 2 == 0) return;
            _wait(deadline + 1 - timestamp);
        }
        vm.recordLogs();
        _finalizeNow(b.id);
        _closedOnce(b);
        _modelFinal(b);
        _drop(b);
    }

    function openCanaries(uint256 seed) external counted {
        (bool found, Batch storage b) = _pick(seed, IBatches.State.Settled);
        if (!found || b.leaves > 5 || timestamp > b.settledAt + b.values.appealWindowSeconds) return;
        (Opening[] memory openings, bytes[] memory signatures) = _canaryOpenings(b);
        canaries.open(_headerOf(b.id), b.canaries, SALT, openings, signatures);
        b.opened |= b.canaries & ~b.concluded;
    }

    // Appeals

    function appeal(uint256 seed, uint256 leaf, bool accept) external counted {
        (bool found, Batch storage b) = _pick(seed, IBatches.State.Settled);
        if (!found || timestamp > b.settledAt + b.values.appealWindowSeconds) return;
        leaf %= b.leaves;
        if (b.appealed & (1 << leaf) != 0 || _cases.length >= MAX_BATCHES) return;
        IVerdicts.Verdict claim = _claimAgainst(_wordOf(b.accepted, b.rejected, leaf), accept);
        address who = _delegator(seed);
        _give(who, 7 * uint256(b.values.appealBondPerSeatWei));
        _appeal(who, b.id, leaf, claim);
        _modelAppealed(b, leaf, who, claim);
    }

    function appealAgain(uint256 seed, bool accept) external counted {
        (bool found, Case storage c) = _pickCase(seed, IAppeals.Phase.Resolved);
        if (!found || c.level == 2) return;
        Batch storage b = _batches[c.id];
        if (timestamp > c.resolvedAt + b.values.appealWindowSeconds) return;
        IVerdicts.Verdict claim = _claimAgainst(c.verdict, accept);
        address who = _delegator(seed);
        _give(who, 15 * uint256(b.values.appealBondPerSeatWei));
        _appealAgain(who, c.id, c.leaf, claim);
        _modelLevel(c, who, claim);
    }

    function drawAppeal(uint256 seed) external counted {
        (bool found, Case storage c) = _pickCase(seed, IAppeals.Phase.Open);
        if (!found) return;
        uint256 seedBlock = appeals.caseOf(c.id, c.leaf).clock;
        if (seed % 8 != 7 && blockNumber <= seedBlock + EPOCH_BLOCKS) {
            _drawAppeal(c.id, c.leaf);
            if (appeals.caseOf(c.id, c.leaf).phase == IAppeals.Phase.Resolved) {
                // Too few verifiers are left.
                c.unheard[c.level - 1] = true;
                ++reached[Corner.AppealUnheard];
                _modelResolved(c, c.verdict);
                return;
            }
            c.phase = IAppeals.Phase.Drawn;
            c.deadline = _modelQueued(_jury(c.id, c.leaf), _batches[c.id]);
            _modelSeatsLocked(_jury(c.id, c.leaf));
            return;
        }
        _reach(seedBlock + EPOCH_BLOCKS + 1);
        appeals.expire(c.id, c.leaf);
        _modelResolved(c, c.verdict);
    }

    function voteOnAppeal(uint256 seed, uint256 votes) external counted {
        (bool found, Case storage c) = _pickCase(seed, IAppeals.Phase.Drawn);
        if (!found) return;
        IStaking.Seat[] memory seats = _jury(c.id, c.leaf);
        // Codes as in `Case`; half of the cases are heard by all.
        for (uint256 i = 0; i < seats.length; ++i) {
            uint256 vote = (votes >> (3 * i)) % 8;
            if (seed % 2 == 0 && vote < 2) vote += 2;
            // A quarter follows the appellant.
            if (seed % 4 == 2 && vote > 1) vote = c.claims[c.level - 1] == ACCEPTED ? 2 : 4;
            if (timestamp > c.deadline) vote = 0;
            c.votes[c.level - 1][i] = vote;
            if (vote > 0) _commitAppeal(c.id, c.leaf, i, _meaning(vote));
        }
        _revealAppeals(c, seats.length);
        _resolveAppeal(c, seats);
    }

    function conclude(uint256 seed) external counted {
        (bool found, Case storage c) = _pickCase(seed, IAppeals.Phase.Resolved);
        if (!found) return;
        Batch storage b = _batches[c.id];
        uint256 deadline = c.resolvedAt + b.values.appealWindowSeconds;
        if (c.level == 1 && timestamp <= deadline) {
            if (seed % 2 == 0) return;
            _wait(deadline + 1 - timestamp);
        }
        vm.recordLogs();
        _concludeNow(c.id, c.leaf);
        _closedOnce(b);
        _modelConcluded(b, c);
        _dropCase(c);
    }

    function withdrawBounty(uint256 who) external counted {
        address account = _delegator(who);
        if (appeals.creditOf(account) == 0) return;
        vm.prank(account);
        appeals.withdrawCredit();
        _bounties[account] = 0;
    }

    // Payments and requests

    function deposit(uint256 who, uint256 amount) external counted {
        amount = 1 + amount % 100 ether;
        address payer = _payer(who);
        _give(payer, amount);
        vm.prank(payer);
        payments.deposit(NODE, amount);
        _deposits[payer] += amount;
    }

    function collect(uint256 who, uint256 amount, uint256 earned) external counted {
        address payer = _payer(who);
        uint256 collected = payments.collectedOf(payer, NODE);
        amount = collected + 1 + amount % 50 ether;
        earned = collected + 1 + earned % 50 ether;
        IPayments.Voucher memory voucher = IPayments.Voucher(payer, NODE, amount, earned, 0);
        uint256 due = earned < amount ? earned : amount;
        uint256 paid = due - collected;
        if (paid > _deposits[payer]) paid = _deposits[payer];
        if (paid == 0) return;
        bytes memory signature = _signVoucher(who, voucher);
        (uint256 wallet, uint256 pool) = (token.balanceOf(NODE), _poolOf(NODE));
        vm.prank(NODE);
        payments.collect(voucher, signature);
        _deposits[payer] -= paid;
        _collected[payer] += paid;
        _paidToNode(wallet, pool, paid);
    }

    function requestWithdrawal(uint256 who, uint256 amount) external counted {
        address payer = _payer(who);
        if (_deposits[payer] == 0) return;
        vm.prank(payer);
        payments.requestWithdrawal(NODE, 1 + amount % _deposits[payer]);
    }

    function withdrawDeposit(uint256 who) external counted {
        address payer = _payer(who);
        IPayments.Account memory account = payments.accountOf(payer, NODE);
        if (account.leaving == 0) return;
        if (account.withdrawableAt > timestamp) _wait(account.withdrawableAt - timestamp);
        uint256 before = token.balanceOf(payer);
        vm.prank(payer);
        payments.withdraw(NODE);
        _deposits[payer] -= token.balanceOf(payer) - before;
    }

    function setProtocolFee(uint256 bps) external counted {
        payments.setProtocolFee(bps % 1001, address(0x7EA));
    }

    function sendProtocolFees() external counted {
        (,, uint256 unsent) = payments.protocolFee();
        if (unsent > 0) payments.sendProtocolFees();
    }

    function refund(uint256 seed, uint256 leaf) external counted {
        if (_closed.length == 0) return;
        Batch storage b = _batches[_closed[seed % _closed.length]];
        if (b.leaves > 5) return;
        leaf %= b.leaves;
        (IVerdicts.Verdict verdict, bool isFinal) = finality.verdictOf(b.id, leaf);
        uint256 perLeaf = payments.refundOf(b.id, leaf);
        if (verdict != REJECTED || !isFinal || perLeaf == 0) return;
        Opening memory opening = Trees.open(_receipts(b), leaf, b.canary);
        uint256 before = token.balanceOf(opening.receipt.client);
        payments.refund(b.id, opening);
        uint256 gained = token.balanceOf(opening.receipt.client) - before;
        _gained[opening.receipt.client] += gained;
        ++reached[Corner.Refunded];
        Check.atMost(gained, perLeaf, "at most what the slash brought");
        Check.atMost(gained, opening.receipt.feeWei, "at most the fee");
    }

    function post(uint256 who, uint256 fee) external counted {
        if (_requestId != 0) return;
        address payer = _payer(who);
        fee %= 3 ether;
        _give(payer, fee);
        vm.prank(payer);
        _requestId = requests.post(
            IRequests.Order({
                modelId: model,
                node: address(0),
                input: "input",
                maxTokens: 10,
                maxFeeWei: uint128(fee),
                deadline: uint64(timestamp + 1 days),
                callbackGas: 0,
                waitForFinal: who % 2 == 0
            })
        );
    }

    /// Brings the answer if there is one; lets the request expire if there will be none.
    function answer(uint256 seed) external counted {
        if (_requestId == 0) return;
        IRequests.Request memory request = requests.requestOf(_requestId);
        BatchId id = _answeredBy[_requestId];
        if (timestamp > request.deadline) {
            requests.expire(_requestId);
            _requestId = 0;
        } else if (BatchId.unwrap(id) != 0) {
            (IVerdicts.Verdict verdict, bool isFinal) = finality.verdictOf(id, 0);
            if (verdict != ACCEPTED || (request.waitForFinal && !isFinal)) {
                if (seed % 8 == 0) _wait(request.deadline + 1 - timestamp);
                return;
            }
            Opening memory opening = Trees.open(_receipts(_batches[id]), 0, _batches[id].canary);
            (uint256 wallet, uint256 pool) = (token.balanceOf(NODE), _poolOf(NODE));
            requests.fulfil(_requestId, id, opening, "answer");
            ++reached[Corner.Answered];
            uint256 fee = opening.receipt.feeWei;
            _paidToNode(wallet, pool, fee < request.escrow ? fee : request.escrow);
            _requestId = 0;
        } else if (seed % 4 == 0) {
            _wait(request.deadline + 1 - timestamp);
        }
    }

    function withdrawRequestCredit(uint256 who) external counted {
        address payer = _payer(who);
        if (requests.creditOf(payer) == 0) return;
        vm.prank(payer);
        requests.withdrawCredit();
    }

    // Governance, time and blocks

    function setParameters(uint256 seed) external counted {
        if (parameters.version() >= MAX_VERSIONS) return;
        IParameters.Values memory v = _values();
        v.wrongVotePenaltyWei = uint96(10 ether + seed % 10 ether);
        v.stakePerLeafWei = uint96(1 + (seed >> 8) % 2 ether);
        v.refundPerLeafWei = uint96((seed >> 16) % (uint256(v.stakePerLeafWei) / 2 + 1));
        v.verifierFeePerLeafWei = uint64((seed >> 24) % 0.1 ether);
        v.verifierFeePerTokenWei = uint56((seed >> 28) % 0.0001 ether);
        v.checkTokensPerSecond = uint32(20 + (seed >> 36) % 1000);
        v.canaryPenaltyWei = uint96(v.wrongVotePenaltyWei + (seed >> 32) % 40 ether);
        v.appealFeePerSeatWei = uint96((seed >> 40) % 1 ether);
        v.overturnedFineWei = uint96(
            7 * v.appealFeePerSeatWei + (seed >> 64) % (v.wrongVotePenaltyWei - 7 * v.appealFeePerSeatWei + 1)
        );
        v.dissentFineWei = uint96((seed >> 80) % (uint256(v.overturnedFineWei) / (1 + seed % 50) + 1));
        v.maxRounds = uint8(1 + (seed >> 48) % 3);
        v.appealWindowSeconds = uint32(1 + (seed >> 56) % 3600);
        parameters.set(v);
    }

    function pause(uint256 seed) external counted {
        if (IGuarded(address(batches)).paused()) {
            IGuarded(address(batches)).unpause();
        } else if (seed % 4 == 0) {
            vm.prank(GUARDIAN);
            IGuarded(address(batches)).pause();
        }
    }

    function wait(uint256 seed) external counted {
        _wait(seed % 8 == 0 ? seed % 4 days : seed % 10 minutes);
    }

    function mine(uint256 seed) external counted {
        _mine(1 + seed % 20);
    }

    function refresh(uint256 who) external counted {
        committees.refresh(model, _operator(who));
    }

    function _drawOrExpire(Batch storage b) private {
        if (blockNumber <= batches.batchOf(b.id).clock + EPOCH_BLOCKS) {
            try this.tryDraw(b.id) {
                _modelDrawn(b);
                return;
            } catch (bytes memory reason) {
                Check.yes(bytes4(reason) == TOO_FEW, "a draw fails only for want of verifiers");
            }
            _reach(batches.batchOf(b.id).clock + EPOCH_BLOCKS + 1);
        }
        _expire(b.id);
        _modelExpired(b);
        _drop(b);
    }

    function tryDraw(BatchId id) external {
        if (msg.sender != address(this)) return;
        _draw(id);
    }

    /// Three bits say who commits, 2 each how it votes: mostly that all is well.
    function _commitSome(Batch storage b, uint256 votes) private {
        if (timestamp > b.deadline) return;
        uint256 mask = _mask(b.leaves);
        for (uint256 i = 0; i < 3; ++i) {
            if ((votes >> i) & 1 == 0 || b.ballot[i] != 0) continue;
            uint256 kind = (votes >> (3 + 3 * i)) % 8;
            uint256 random = uint256(keccak256(abi.encode(votes, i))) & mask;
            b.accepts[i] = kind < 3 ? mask : kind < 5 ? mask & ~b.canaries : kind == 5 ? random : 0;
            b.rejects[i] = kind < 3 || kind == 7 ? 0 : kind < 5 ? b.canaries : mask & ~b.accepts[i];
            // Whoever says nothing on some leaves cannot tell.
            if (votes % 5 == 0) b.rejects[i] &= random;
            // Some are shown to nobody, some not to all.
            uint256 hidden = uint256(keccak256(abi.encode(votes, votes % 7 == 0 ? 9 : i, "hidden"))) & mask;
            if (votes % 3 == 0) (b.accepts[i], b.rejects[i]) = (b.accepts[i] | hidden, b.rejects[i] | hidden);
            b.ballot[i] = 1;
            _commit(b.id, i, b.accepts[i], b.rejects[i]);
        }
        if (b.ballot[0] != 0 && b.ballot[1] != 0 && b.ballot[2] != 0 && !b.allCommitted) {
            (b.allCommitted, b.deadline) = (true, timestamp);
        }
    }

    function _revealSome(Batch storage b, uint256 which) private {
        if (!b.allCommitted && timestamp <= b.deadline) _wait(b.deadline + 1 - timestamp);
        if (timestamp > b.deadline + b.values.revealSeconds) return;
        for (uint256 i = 0; i < 3; ++i) {
            if ((which >> i) & 1 == 0 || b.ballot[i] != 1) continue;
            _reveal(b.id, i, b.accepts[i], b.rejects[i]);
            b.ballot[i] = 2;
        }
        if (b.ballot[0] + b.ballot[1] + b.ballot[2] == 6) _modelSettled(b);
    }

    function _settleBatch(Batch storage b) private {
        uint256 committed = 0;
        uint256 revealed = 0;
        for (uint256 i = 0; i < 3; ++i) {
            if (b.ballot[i] > 0) ++committed;
            if (b.ballot[i] > 1) ++revealed;
        }
        uint256 until = committed >= 2 && revealed < committed ? b.deadline + b.values.revealSeconds : b.deadline;
        if (timestamp <= until) _wait(until + 1 - timestamp);
        _settle(b.id);
        if (revealed >= 2) _modelSettled(b);
        else _modelRedrawn(b, committed >= 2);
        if (b.state == IBatches.State.Void) _drop(b);
    }

    function _revealAppeals(Case storage c, uint256 seats) private {
        uint256[15] storage votes = c.votes[c.level - 1];
        uint256 committed = 0;
        for (uint256 i = 0; i < seats; ++i) {
            if (votes[i] > 0) ++committed;
        }
        if (committed < seats && timestamp <= c.deadline) _wait(c.deadline + 1 - timestamp);
        if (committed == 0 || timestamp > c.deadline + _batches[c.id].values.revealSeconds) return;
        for (uint256 i = 0; i < seats; ++i) {
            if (votes[i] > 1) _revealAppeal(c.id, c.leaf, i, _meaning(votes[i]));
        }
    }

    function _resolveAppeal(Case storage c, IStaking.Seat[] memory seats) private {
        _wait(_batches[c.id].values.revealSeconds + 1);
        _resolve(c.id, c.leaf);
        _modelHeard(c, seats);
    }

    function _anchorBatch(uint256 leaves, uint256 canaries_, IParameters.Values memory values) private {
        bytes32 request = leaves <= 5 && BatchId.unwrap(_answeredBy[_requestId]) == 0 ? _requestId : bytes32(0);
        _anchorReceipts(Answers(bytes32(++_nonce), timestamp, leaves, request), canaries_, values);
    }

    function _anchorReceipts(Answers memory answers, uint256 canaries_, IParameters.Values memory values)
        internal
        returns (BatchId id)
    {
        (uint256 leaves, bytes32 nonce) = (answers.leaves, answers.nonce);
        bytes32 canary = leaves <= 5 ? keccak256(abi.encode(canaries_, SALT)) : nonce;
        bytes32 root = leaves <= 5
            ? Trees.root(_receiptsOf(answers))
            : _root(bytes32(uint256(nonce) << 32), uint256(keccak256(abi.encode(nonce))) % 65_537);
        id = _anchor(root, canary, leaves);
        Batch storage b = _batches[id];
        (b.id, b.root, b.canary, b.leaves, b.canaries) = (id, root, canary, leaves, canaries_);
        b.answers = answers;
        if (answers.request != 0) _answeredBy[answers.request] = id;
        _anchored(b, values);
        _open.push(id);
    }

    /// Whether the node can anchor, and under what parameters.
    function _canAnchor(uint256 leaves) internal view returns (bool, IParameters.Values memory values) {
        values = parameters.current();
        if (_open.length >= MAX_BATCHES || IGuarded(address(batches)).paused()) return (false, values);
        bool hasStake = staking.freeStakeOf(NODE) >= leaves * values.stakePerLeafWei;
        return (hasStake && staking.creditOf(NODE) >= _highestFee(leaves, values), values);
    }

    function _highestFee(uint256 leaves, IParameters.Values memory values) private pure returns (uint256) {
        return leaves * values.verifierFeePerLeafWei + uint256(values.maxBatchTokens) * values.verifierFeePerTokenWei;
    }

    function _receipts(Batch storage b) internal view returns (Receipt[] memory) {
        return _receiptsOf(b.answers);
    }

    function _receiptsOf(Answers memory answers) internal view returns (Receipt[] memory receipts) {
        receipts = new Receipt[](answers.leaves);
        for (uint256 i = 0; i < answers.leaves; ++i) {
            Request memory order = _orderOf(answers, i);
            receipts[i].requestHash = order.digest(address(batches));
            receipts[i].client = order.client;
            receipts[i].node = NODE;
            receipts[i].modelId = order.modelId;
            receipts[i].promptHash = answers.nonce;
            receipts[i].inputHash = order.inputHash;
            receipts[i].textHash = keccak256("answer");
            receipts[i].promptTokens = 1 + uint32(uint256(answers.nonce) % 2000);
            receipts[i].outputTokens = 1 + uint32(i);
            receipts[i].feeWei = uint256(keccak256(abi.encode(answers.nonce, i))) % 1 ether;
            receipts[i].issuedAt = uint64(answers.issued);
            receipts[i].anchorBy = uint64(answers.issued + ANCHOR_SECONDS);
        }
        if (answers.request == 0) return receipts;
        receipts[0].requestHash = answers.request;
        receipts[0].client = requests.requestOf(answers.request).requester;
    }

    /// What the client of a leaf signed; leaf 0 may answer a contract instead.
    function _orderOf(Answers memory answers, uint256 leaf) internal view returns (Request memory order) {
        uint256 random = uint256(keccak256(abi.encode("order", answers.nonce, leaf)));
        order.client = _payers[leaf % 2];
        order.modelId = ModelId.unwrap(model);
        order.inputHash = keccak256("input");
        order.maxTokens = 10;
        order.maxFeeWei = random % 1.5 ether;
        order.nonce = random;
        order.deadline = uint64(answers.issued + (random >> 128) % 1 days);
    }

    function _canaryOpenings(Batch storage b)
        private
        returns (Opening[] memory openings, bytes[] memory signatures)
    {
        uint256 count = _popcount(b.canaries);
        openings = new Opening[](count);
        signatures = new bytes[](count);
        uint256 next = 0;
        Receipt[] memory receipts = _receipts(b);
        for (uint256 i = 0; i < b.leaves; ++i) {
            if ((b.canaries >> i) & 1 == 0) continue;
            openings[next] = Trees.open(receipts, i, b.canary);
            uint256 who = receipts[i].client == _payers[0] ? 0 : 1;
            signatures[next++] = _sign(who, canaries.digestOf(b.id, i));
        }
    }

    function _signVoucher(uint256 who, IPayments.Voucher memory voucher) internal returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Trine"),
                keccak256("1"),
                block.chainid,
                address(payments)
            )
        );
        bytes32 typeHash =
            keccak256("Voucher(address payer,address payee,uint256 cumulativeWei,uint256 earnedWei,uint64 asOf)");
        bytes32 structHash = keccak256(abi.encode(typeHash, voucher));
        return _sign(who, keccak256(abi.encodePacked(hex"1901", domain, structHash)));
    }

    function _sign(uint256 who, bytes32 digest) private returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY + who % 2, digest);
        return abi.encodePacked(r, s, v);
    }

    /// No leaf of a batch is closed twice.
    function _closedOnce(Batch storage b) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IFinality.LeavesFinalized.selector) continue;
            (uint256 leaves,,,) = abi.decode(logs[i].data, (uint256, uint256, uint256, uint256));
            Check.eq(leaves & b.closedLeaves, 0, "a leaf is closed twice");
            b.closedLeaves |= leaves;
        }
    }
}
