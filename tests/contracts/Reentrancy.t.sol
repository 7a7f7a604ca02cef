// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IAnswerConsumer} from "../../contracts/interfaces/IAnswerConsumer.sol";
import {IFinality} from "../../contracts/interfaces/IFinality.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, Header, ModelId} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";

/// @notice A world whose token calls whoever receives it, and receivers that call back.
contract ReentrancyTest is AppealWorld {
    bytes4 private constant REENTERED = bytes4(keccak256("ReentrancyGuardReentrantCall()"));

    Receiver private _attacker;

    function _tokenCode() internal pure override returns (bytes memory) {
        return type(CallingToken).creationCode;
    }

    function setUp() external {
        _calibratedWorld(14);
        _attacker = new Receiver(address(token));
        require(token.transfer(address(_attacker), 1000 ether));
        address[4] memory spenders = [address(staking), address(payments), address(appeals), address(requests)];
        for (uint256 i = 0; i < 4; ++i) {
            _do(address(token), abi.encodeCall(token.approve, (spenders[i], type(uint256).max)));
        }
    }

    function testAWithdrawalOfStakeIsPaidOnce() external {
        _do(address(staking), abi.encodeCall(IStaking.stake, (100 ether)));
        _do(address(staking), abi.encodeCall(IStaking.unbond, (address(_attacker), 100 ether)));
        _do(address(staking), abi.encodeCall(IStaking.addCredit, (5 ether)));
        _wait(UNBONDING);
        bytes memory withdraw = abi.encodeCall(IStaking.withdraw, (address(_attacker)));
        _reentering(address(staking), withdraw, address(staking), withdraw, 100 ether);
        _do(address(staking), abi.encodeCall(IStaking.stake, (10 ether)));
        bytes memory credit = abi.encodeCall(IStaking.withdrawCredit, ());
        _reentering(address(staking), credit, address(staking), credit, 5 ether);
        // One guard for all that moves stake.
        _do(address(staking), abi.encodeCall(IStaking.addCredit, (5 ether)));
        bytes memory unbond = abi.encodeCall(IStaking.unbond, (address(_attacker), 10 ether));
        _reentering(address(staking), credit, address(staking), unbond, 5 ether);
        Check.eq(token.balanceOf(address(staking)), _owedByStaking() + 10 ether, "Staking has what it owes");
    }

    function testADepositIsPaidOutOnce() external {
        _do(address(payments), abi.encodeCall(IPayments.deposit, (NODE, 10 ether)));
        _do(address(payments), abi.encodeCall(IPayments.requestWithdrawal, (NODE, 10 ether)));
        _wait(1 days);
        bytes memory withdraw = abi.encodeCall(IPayments.withdraw, (NODE));
        _reentering(address(payments), withdraw, address(payments), withdraw, 10 ether);
        Check.eq(token.balanceOf(address(payments)), payments.totalOwed(), "Payments has what it owes");
    }

    function testACreditOfAnAppealIsPaidOnce() external {
        BatchId id = _settled("root", 1);
        _do(address(appeals), abi.encodeCall(IAppeals.appeal, (_headerOf(id), _seatsOf(id), 0, REJECTED)));
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        bytes memory credit = abi.encodeCall(IAppeals.withdrawCredit, ());
        _reentering(address(appeals), credit, address(appeals), credit, BOND_1 + 5.1 ether);
        Check.eq(token.balanceOf(address(appeals)), 0, "all is paid");
    }

    function testACreditOfARequestIsPaidOnce() external {
        bytes32 requestId = _post(0);
        _wait(1 days + 1);
        requests.expire(requestId);
        bytes memory credit = abi.encodeCall(IRequests.withdrawCredit, ());
        _reentering(address(requests), credit, address(requests), credit, 1 ether);
        Check.eq(token.balanceOf(address(requests)), requests.totalOwed(), "Requests has what it owes");
    }

    function testARefundIsPaidOnceAndFundsNothingOnTheWay() external {
        Receipt[] memory receipts = _receipts(0);
        BatchId id = _anchor(Trees.root(receipts), 1);
        _draw(id);
        _vote(id, 0, 1, 0, 1, 0, 1);
        BatchId other = _drawn("other", 1);
        _vote(other, 0, 1, 0, 1, 0, 1);
        _finalize(id);
        bytes memory refund = abi.encodeCall(IPayments.refund, (id, Trees.open(receipts, 0, NO_CANARY)));
        // While the tokens are on their way, more is here than is owed: another slash must not count it as its own.
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](1);
        (headers[0], seats[0]) = (_headerOf(other), _seatsOf(other));
        bytes memory finalize = abi.encodeCall(IFinality.finalize, (headers, seats));
        _reentering(address(payments), refund, address(finality), finalize, 0.3 ether);
        Check.eq(token.balanceOf(address(payments)), payments.totalOwed(), "Payments has what it owes");
        _finalizeNow(other);
        Check.eq(token.balanceOf(address(payments)), payments.totalOwed(), "and later");
        _do(address(payments), abi.encodeCall(IPayments.deposit, (NODE, 1 ether)));
        vm.expectPartialRevert(IPayments.PaymentsNothingToRefund.selector);
        payments.refund(id, Trees.open(receipts, 0, NO_CANARY));
    }

    function testACallbackCannotBringOrExpireItsRequestAgain() external {
        bytes32 requestId = _post(1_000_000);
        Receipt[] memory receipts = _receipts(requestId);
        BatchId id = _anchor(Trees.root(receipts), 1);
        _draw(id);
        _vote(id, 1, 0, 1, 0, 1, 0);
        Opening memory opening = Trees.open(receipts, 0, NO_CANARY);
        bytes memory fulfil = abi.encodeCall(IRequests.fulfil, (requestId, id, opening, "answer"));
        _attacker.prepare(address(requests), fulfil);
        uint256 before = token.balanceOf(NODE);
        requests.fulfil(requestId, id, opening, "answer");
        Check.yes(_attacker.tried() && !_attacker.succeeded(), "refused in the callback");
        Check.yes(bytes4(_attacker.failure()) == REENTERED, "by the guard");
        Check.eq(token.balanceOf(NODE) - before, 0.3 ether, "paid once");
        Check.eq(requests.creditOf(address(_attacker)), 0.7 ether, "the rest is the requester's");
        Check.eq(token.balanceOf(address(requests)), requests.totalOwed(), "Requests has what it owes");
    }

    function testACallbackMayAskTheNextQuestion() external {
        bytes32 requestId = _post(1_000_000);
        Receipt[] memory receipts = _receipts(requestId);
        BatchId id = _anchor(Trees.root(receipts), 1);
        _draw(id);
        _vote(id, 1, 0, 1, 0, 1, 0);
        _attacker.prepare(address(requests), abi.encodeCall(IRequests.post, (_order(0))));
        requests.fulfil(requestId, id, Trees.open(receipts, 0, NO_CANARY), "answer");
        Check.yes(_attacker.succeeded(), "posted");
        Check.eq(requests.totalOwed(), 0.7 ether + 1 ether, "what was left, and the next escrow");
        Check.eq(token.balanceOf(address(requests)), requests.totalOwed(), "Requests has what it owes");
    }

    function testACallbackThatFailsChangesNothing() external {
        bytes32 requestId = _post(1_000_000);
        Receipt[] memory receipts = _receipts(requestId);
        BatchId id = _anchor(Trees.root(receipts), 1);
        _draw(id);
        _vote(id, 1, 0, 1, 0, 1, 0);
        vm.etch(address(_attacker), hex"5f5ffd");
        // Tokens do not reach it, so nothing is sent to it.
        requests.fulfil(requestId, id, Trees.open(receipts, 0, NO_CANARY), "answer");
        Check.eq(
            uint256(requests.requestOf(requestId).state), uint256(IRequests.State.Fulfilled), "the node is paid"
        );
    }

    /// A call during which the receiver makes another one; `gain` is what comes of both.
    function _reentering(
        address target,
        bytes memory data,
        address again,
        bytes memory dataAgain,
        uint256 gain
    ) private {
        _attacker.prepare(again, dataAgain);
        uint256 before = token.balanceOf(address(_attacker));
        _do(target, data);
        Check.eq(token.balanceOf(address(_attacker)) - before, gain, "paid once");
        Check.yes(_attacker.tried() && !_attacker.succeeded(), "refused");
        Check.yes(bytes4(_attacker.failure()) == REENTERED, "by the guard");
    }

    function _do(address target, bytes memory data) private {
        _attacker.execute(target, data);
    }

    function _post(uint32 callbackGas) private returns (bytes32 requestId) {
        requestId = requests.nextRequestId(address(_attacker));
        _do(address(requests), abi.encodeCall(IRequests.post, (_order(callbackGas))));
    }

    function _order(uint32 callbackGas) private view returns (IRequests.Order memory) {
        return IRequests.Order({
            modelId: model,
            node: address(0),
            input: "input",
            maxTokens: 10,
            maxFeeWei: 1 ether,
            deadline: uint64(timestamp + 1 days),
            callbackGas: callbackGas,
            waitForFinal: false
        });
    }

    function _receipts(bytes32 requestId) private view returns (Receipt[] memory receipts) {
        receipts = new Receipt[](1);
        receipts[0].requestHash = requestId;
        receipts[0].client = address(_attacker);
        receipts[0].node = NODE;
        receipts[0].modelId = ModelId.unwrap(model);
        receipts[0].inputHash = keccak256("input");
        receipts[0].textHash = keccak256("answer");
        receipts[0].feeWei = 0.3 ether;
    }
}

/// @notice Calls whoever receives it and has code, as tokens with hooks do.
contract CallingToken is ERC20, ERC20Burnable, ERC20Permit {
    constructor(address holder, uint256 supply) ERC20("Calling", "CALL") ERC20Permit("Calling") {
        _mint(holder, supply);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (to.code.length == 0) return;
        // Who does not know the call is not disturbed by it.
        try Receiver(to).onTokens() {} catch {}
    }
}

/// @notice Tries a prepared call once, when tokens come or an answer does, and remembers what became of it.
contract Receiver is IAnswerConsumer {
    address private immutable TOKEN;
    address private _target;
    bytes private _data;
    bool public tried;
    bool public succeeded;
    bytes public failure;

    constructor(address token) {
        TOKEN = token;
    }

    function prepare(address target, bytes calldata data) external {
        (_target, _data, tried, succeeded) = (target, data, false, false);
    }

    function execute(address target, bytes calldata data) external {
        (bool done, bytes memory reason) = target.call(data);
        if (done) return;
        assembly ("memory-safe") {
            revert(add(reason, 32), mload(reason))
        }
    }

    function onTokens() external {
        require(msg.sender == TOKEN);
        _try();
    }

    function onTrineAnswer(bytes32, bytes calldata, bytes32, uint256) external {
        _try();
    }

    function _try() private {
        if (tried || _target == address(0)) return;
        tried = true;
        (succeeded, failure) = _target.call(_data);
    }
}
