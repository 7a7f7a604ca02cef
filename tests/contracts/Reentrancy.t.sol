// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IAnswerConsumer} from "../../contracts/interfaces/IAnswerConsumer.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IFinality} from "../../contracts/interfaces/IFinality.sol";
import {IInclusion} from "../../contracts/interfaces/IInclusion.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {Request, RequestLib} from "../../contracts/libraries/RequestLib.sol";
import {BatchId, ChallengeId, Header, ModelId} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";

/// @notice A world whose token calls whoever receives it, and receivers that call back.
contract ReentrancyTest is AppealWorld {
    using RequestLib for Receipt;

    uint256 private constant NODE_KEY = 0x40DE;
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

    /// Whatever a guarded contract is asked while it pays somebody, by whomever, it refuses.
    function testNothingGuardedIsDoneWhileItsContractPays() external {
        bytes[] memory calls = new bytes[](8);
        calls[0] = abi.encodeCall(IStaking.stake, (1 ether));
        calls[1] = abi.encodeCall(IStaking.delegate, (NODE, 1 ether, 0));
        calls[2] = abi.encodeCall(IStaking.unbond, (NODE, 1 ether));
        calls[3] = abi.encodeCall(IStaking.withdraw, (NODE));
        calls[4] = abi.encodeCall(IStaking.addCredit, (1 ether));
        calls[5] = abi.encodeCall(IStaking.withdrawCredit, ());
        calls[6] = abi.encodeCall(IStaking.slash, (NODE, 1, address(_attacker), 1, 0));
        for (uint256 i = 0; i < 7; ++i) {
            _do(address(staking), abi.encodeCall(IStaking.addCredit, (1 ether)));
            _reentering(
                address(staking), abi.encodeCall(IStaking.withdrawCredit, ()), address(staking), calls[i], 1 ether
            );
        }

        IPayments.Voucher memory voucher;
        Opening memory opening;
        calls[0] = abi.encodeCall(IPayments.deposit, (NODE, 1));
        calls[1] = abi.encodeCall(IPayments.depositWithPermit, (NODE, 1, 0, 0, 0, 0));
        calls[2] = abi.encodeCall(IPayments.collect, (voucher, ""));
        calls[3] = abi.encodeCall(IPayments.collectOpened, (voucher, "", new Request[](0), new Opening[](0)));
        calls[4] = abi.encodeCall(IPayments.payOut, (NODE, 1));
        calls[5] = abi.encodeCall(IPayments.refund, (BatchId.wrap(0), opening));
        calls[6] = abi.encodeCall(IPayments.fundRefunds, (BatchId.wrap(0), 1, 1));
        calls[7] = abi.encodeCall(IPayments.sendProtocolFees, ());
        for (uint256 i = 0; i < 8; ++i) {
            _do(address(payments), abi.encodeCall(IPayments.deposit, (NODE, 1 ether)));
            _do(address(payments), abi.encodeCall(IPayments.requestWithdrawal, (NODE, 1 ether)));
            _wait(1 days);
            _reentering(
                address(payments), abi.encodeCall(IPayments.withdraw, (NODE)), address(payments), calls[i], 1 ether
            );
        }
    }

    function testNothingOfAnAppealOrARequestIsDoneWhileTheirContractPays() external {
        Header memory header;
        bytes[] memory calls = new bytes[](6);
        IStaking.Seat[][] memory judges = new IStaking.Seat[][](0);
        IStaking.Seat[] memory seats = new IStaking.Seat[](0);
        calls[0] = abi.encodeCall(IAppeals.appeal, (header, seats, 0, REJECTED));
        calls[1] = abi.encodeCall(IAppeals.appealAgain, (BatchId.wrap(0), 0, REJECTED));
        calls[2] = abi.encodeCall(IAppeals.draw, (header, 0, judges));
        calls[3] = abi.encodeCall(IAppeals.expire, (BatchId.wrap(0), 0));
        calls[4] = abi.encodeCall(IAppeals.resolve, (header, 0, seats));
        calls[5] = abi.encodeCall(IAppeals.conclude, (header, 0, judges));
        BatchId id = _settled("appealed", 6);
        for (uint256 i = 0; i < 6; ++i) {
            // An appeal that nobody hears brings its bond back as a credit.
            _do(
                address(appeals), abi.encodeCall(IAppeals.appeal, (_headerOf(id), _seatsOf(id), i, REJECTED))
            );
            for (uint256 round = 0; round < _values().maxRounds; ++round) {
                _drawAppeal(id, i);
                _wait(appeals.caseOf(id, i).clock + 1 - timestamp);
                _resolve(id, i);
            }
            _conclude(id, i);
            _reentering(
                address(appeals), abi.encodeCall(IAppeals.withdrawCredit, ()), address(appeals), calls[i], BOND_1
            );
            if (i < 5) id = _settled(bytes32(uint256(i + 1) << 64), 6);
        }

        Opening memory opening;
        bytes32 requestId = _post(0);
        _wait(1 days + 1);
        requests.expire(requestId);
        bytes memory fulfil = abi.encodeCall(IRequests.fulfil, (requestId, BatchId.wrap(0), opening, ""));
        bytes memory withdraw = abi.encodeCall(IRequests.withdrawCredit, ());
        _reentering(address(requests), withdraw, address(requests), fulfil, 1 ether);
    }

    function testNothingOfAClaimIsDoneWhileItsBondIsPaid() external {
        Receipt memory receipt;
        (receipt.client, receipt.node) = (address(_attacker), vm.addr(NODE_KEY));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(NODE_KEY, receipt.digest(address(batches)));
        _do(address(token), abi.encodeCall(token.approve, (address(inclusion), type(uint256).max)));
        Opening memory opening;
        bytes[] memory calls = new bytes[](3);
        calls[0] = abi.encodeCall(IInclusion.claim, (receipt, ""));
        calls[1] = abi.encodeCall(IInclusion.answer, (opening));
        calls[2] = abi.encodeCall(IInclusion.conclude, (receipt));
        for (uint256 i = 0; i < 3; ++i) {
            receipt.issuedAt += 1;
            receipt.anchorBy = uint64(timestamp);
            (v, r, s) = vm.sign(NODE_KEY, receipt.digest(address(batches)));
            _wait(1);
            _do(address(inclusion), abi.encodeCall(IInclusion.claim, (receipt, abi.encodePacked(r, s, v))));
            _wait(6 hours + 1);
            _reentering(
                address(inclusion),
                abi.encodeCall(IInclusion.conclude, (receipt)),
                address(inclusion),
                calls[i],
                INCLUSION_BOND
            );
        }
    }

    /// Trine's own contracts never call back. Should a mistake in one ever let them, nothing guarded is done.
    function testNothingGuardedIsDoneWhileOnesOwnContractsAreCalled() external {
        BatchId id = _anchor("root", 1);
        BatchId settled = _settled("settled", 1);
        Header memory header = _headerOf(id);
        IStaking.Seat[] memory seats = new IStaking.Seat[](0);
        bytes[] memory calls = new bytes[](6);
        calls[0] = abi.encodeCall(IBatches.anchorCalibration, (ChallengeId.wrap(0), "root", NO_CANARY, 1));
        calls[1] = abi.encodeCall(IBatches.draw, (header));
        calls[2] = abi.encodeCall(IBatches.expire, (header));
        calls[3] = abi.encodeCall(IBatches.reveal, (header, seats, 0, 1, 0, 7, SALT));
        calls[4] = abi.encodeCall(IBatches.settle, (header, seats));
        calls[5] = abi.encodeCall(IBatches.settleSigned, (header, seats, 0, 1, 0, "", ""));
        _reachDraw(id);
        vm.etch(address(committees), type(Turncoat).runtimeCode);
        for (uint256 i = 0; i < 6; ++i) {
            Turncoat(address(committees)).prepare(address(batches), calls[i]);
            vm.expectRevert(abi.encodeWithSelector(REENTERED));
            batches.draw(header);
        }

        _wait(_values().appealWindowSeconds + 1);
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory committees_ = new IStaking.Seat[][](1);
        (headers[0], committees_[0]) = (_headerOf(settled), _seatsOf(settled));
        calls[0] = abi.encodeCall(IFinality.finalize, (headers, committees_));
        calls[1] = abi.encodeCall(IFinality.openAppeal, (header, seats, 0));
        calls[2] = abi.encodeCall(IFinality.concludeAppeal, (header, seats, 0, ACCEPTED));
        vm.etch(address(reputation), type(Turncoat).runtimeCode);
        for (uint256 i = 0; i < 3; ++i) {
            Turncoat(address(reputation)).prepare(address(finality), calls[i]);
            vm.expectRevert(abi.encodeWithSelector(REENTERED));
            finality.finalize(headers, committees_);
        }
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

/// @notice Makes a prepared call, whatever it is asked, and fails as that does.
contract Turncoat {
    address private _target;
    bytes private _data;

    function prepare(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    fallback() external {
        (, bytes memory reason) = _target.call(_data);
        assembly ("memory-safe") {
            revert(add(reason, 32), mload(reason))
        }
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
