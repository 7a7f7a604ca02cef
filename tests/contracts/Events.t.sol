// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {ICommittees} from "../../contracts/interfaces/ICommittees.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, ModelId} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Vouchers} from "./Incentives.t.sol";
import {Trees} from "./Trees.sol";
import {Check, Vm, vm} from "./Vm.sol";

interface IGuardian {
    event GuardianChanged(address indexed guardian);

    function setGuardian(address guardian) external;
}

/// @notice What contracts tell: operators act on it, clients and audits read nothing else of the past.
contract EventsTest is AppealWorld {
    uint256 private constant KEY = 0xC11E47;
    address private constant TREASURY = address(0x7EA);

    function setUp() external {
        _appealWorld();
    }

    function testPaymentsTellWhereEveryTokenWent() external {
        address client = vm.addr(KEY);
        _fund(client);
        vm.expectEmit(address(payments));
        emit IPayments.Deposited(client, NODE, 10 ether, 10 ether);
        vm.prank(client);
        payments.deposit(NODE, 10 ether);
        vm.expectEmit(address(payments));
        emit IPayments.ProtocolFeeChanged(100, TREASURY);
        payments.setProtocolFee(100, TREASURY);

        IPayments.Voucher memory voucher = IPayments.Voucher(client, NODE, 5 ether, 7 ether, 0);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, Vouchers.digestOf(payments, voucher));
        vm.expectEmit(address(payments));
        emit IPayments.Collected(client, NODE, 5 ether, 7 ether, 5 ether);
        vm.expectEmit(address(payments));
        emit IPayments.PaidOut(NODE, 5 ether, 0.05 ether, 0, 4.95 ether);
        vm.prank(NODE);
        payments.collect(voucher, abi.encodePacked(r, s, v));
        vm.expectEmit(address(payments));
        emit IPayments.ProtocolFeesSent(TREASURY, 0.05 ether);
        payments.sendProtocolFees();
        vm.expectEmit(address(payments));
        emit IPayments.WithdrawalRequested(client, NODE, 2 ether, timestamp + 1 days);
        vm.prank(client);
        payments.requestWithdrawal(NODE, 2 ether);
    }

    function testRefundsTellWhoGotWhatOfASlash() external {
        Receipt[] memory receipts = new Receipt[](1);
        (receipts[0].client, receipts[0].node) = (CLIENT, NODE);
        (receipts[0].modelId, receipts[0].feeWei) = (ModelId.unwrap(model), 0.3 ether);
        BatchId id = _drawn(Trees.root(receipts), 1);
        _vote(id, 0, 1, 0, 1, 0, 1);
        _wait(_values().appealWindowSeconds + 1);
        vm.expectEmit(address(payments));
        emit IPayments.RefundsFunded(id, 1, 0.4 ether);
        _finalizeNow(id);
        vm.expectEmit(address(payments));
        emit IPayments.Refunded(id, 0, CLIENT, 0.3 ether, 0.1 ether);
        payments.refund(id, Trees.open(receipts, 0, NO_CANARY));
    }

    function testAnAppealTellsEveryStep() external {
        BatchId id = _settled("appealed", 1);
        vm.expectEmit(address(appeals));
        emit IAppeals.AppealOpened(id, 0, ALICE, 1, REJECTED, BOND_1, blockNumber + 2);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        // Seat 0 says nothing, the others reject.
        IStaking.Seat[] memory seats = _jury(id, 0);
        for (uint256 i = 1; i < 7; ++i) {
            bytes32 commitment = _appealCommitment(id, 0, seats[i].verifier, REJECTED);
            vm.expectEmit(address(appeals));
            emit IAppeals.AppealVoteCommitted(id, 0, seats[i].verifier, commitment);
            vm.prank(seats[i].verifier);
            appeals.commit(id, 0, seats, i, commitment);
        }
        _wait(appeals.caseOf(id, 0).clock + 1 - timestamp);
        for (uint256 i = 1; i < 7; ++i) {
            vm.expectEmit(address(appeals));
            emit IAppeals.AppealVoteRevealed(id, 0, seats[i].verifier, REJECTED);
            _revealAppeal(id, 0, i, REJECTED);
        }
        _wait(_values().revealSeconds + 1);
        vm.expectEmit(address(appeals));
        emit IAppeals.AppealSeatPenalized(id, 0, seats[0].verifier, 10 ether);
        vm.expectEmit(address(appeals));
        emit IAppeals.AppealResolved(id, 0, 1, REJECTED, timestamp + _values().appealWindowSeconds);
        _resolve(id, 0);
        vm.recordLogs();
        _conclude(id, 0);
        Vm.Log memory log = _told(address(appeals), IAppeals.AppealConcluded.selector);
        Check.eq(log.topics[1], BatchId.unwrap(id), "batch");
        Check.eq(uint256(log.topics[2]), 0, "leaf");
        Check.eq(log.topics[3], bytes32(uint256(uint160(ALICE))), "winner");
        uint256 prize = appeals.creditOf(ALICE) - BOND_1;
        Check.yes(prize > 0, "of what the wrong lost");
        Check.eq(keccak256(log.data), keccak256(abi.encode(REJECTED, prize)), "verdict and prize");
    }

    function testAnAppealThatIsNotHeardTellsItsNextRound() external {
        BatchId id = _settled("unheard", 1);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        _wait(appeals.caseOf(id, 0).clock + _values().revealSeconds + 1 - timestamp);
        vm.expectEmit(address(appeals));
        emit IAppeals.AppealRedrawn(id, 0, 1, blockNumber + 2);
        _resolve(id, 0);
    }

    function testARequestTellsWhatIsAskedAndWhatComesBack() external {
        _fund(CLIENT);
        IRequests.Order memory order =
            IRequests.Order(model, NODE, "input", 10, 1 ether, uint64(timestamp + 1 days), 0, true);
        vm.recordLogs();
        vm.prank(CLIENT);
        bytes32 requestId = requests.post(order);
        Vm.Log memory log = _told(address(requests), IRequests.RequestPosted.selector);
        Check.eq(log.topics[1], requestId, "id");
        Check.eq(log.topics[2], bytes32(uint256(uint160(CLIENT))), "whose");
        Check.eq(log.topics[3], ModelId.unwrap(model), "model");
        bytes memory data =
            abi.encode(NODE, bytes("input"), uint32(10), 1 ether, uint64(timestamp + 1 days), uint32(0), true);
        Check.eq(keccak256(log.data), keccak256(data), "what is asked");
        _wait(1 days + 1);
        vm.expectEmit(address(requests));
        emit IRequests.RequestExpired(requestId, CLIENT, 1 ether);
        requests.expire(requestId);
    }

    function testGovernanceTellsWhatItChanged() external {
        IParameters.Values memory values = _values();
        values.maxRounds = 3;
        vm.expectEmit(address(parameters));
        emit IParameters.ParametersSet(2, values);
        parameters.set(values);
        vm.expectEmit(address(batches));
        emit IGuardian.GuardianChanged(ALICE);
        IGuardian(address(batches)).setGuardian(ALICE);
    }

    function testADeploymentTellsWhatItBeginsWith() external {
        vm.recordLogs();
        _deploy();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        Vm.Log memory log = _only(logs, address(parameters), IParameters.ParametersSet.selector);
        Check.eq(keccak256(log.data), keccak256(abi.encode(_values())), "values");
        log = _only(logs, address(registry), IModelRegistry.RegistrarSet.selector);
        Check.eq(log.topics[1], 0, "no registrar");
        address[2] memory guarded = [address(batches), address(requests)];
        for (uint256 i = 0; i < 2; ++i) {
            log = _only(logs, guarded[i], IGuardian.GuardianChanged.selector);
            Check.eq(log.topics[1], bytes32(uint256(uint160(GUARDIAN))), "guardian");
        }
    }

    function testWeightsAreToldWhenTheyChangeAndOnlyThen() external {
        address verifier = _verifier(3);
        // What it earned by being calibrated counts once somebody says so.
        committees.refresh(model, verifier);
        vm.recordLogs();
        committees.refresh(model, verifier);
        uint256 changes = _all(address(committees), ICommittees.VerifierWeightChanged.selector).length;
        Check.eq(changes, 0, "nothing has changed");
        vm.recordLogs();
        vm.prank(verifier);
        staking.stake(100 ether);
        committees.refresh(model, verifier);
        // Both pools: who judges answers, and who judges calibrations.
        Vm.Log[] memory logs = _all(address(committees), ICommittees.VerifierWeightChanged.selector);
        Check.eq(logs.length, 2, "told once each");
        for (uint256 i = 0; i < 2; ++i) {
            Check.eq(logs[i].topics[1], ModelId.unwrap(model), "model");
            Check.eq(logs[i].topics[2], bytes32(uint256(uint160(verifier))), "verifier");
            (bool calibrated, uint256 position, bytes32 hardwareClass, uint256 weight, uint256 fromEpoch) =
                abi.decode(logs[i].data, (bool, uint256, bytes32, uint256, uint256));
            ICommittees.Row[] memory rows = committees.poolOf(model, calibrated, fromEpoch, position, 1);
            Check.eq(rows[0].verifier, verifier, "its place");
            Check.eq(rows[0].weight, weight, "its weight");
            Check.eq(hardwareClass, _classOf(verifier), "its class");
            Check.eq(fromEpoch, committees.currentEpoch() + 1, "from the next epoch on");
        }
    }

    function _told(address emitter, bytes32 topic) private returns (Vm.Log memory) {
        return _only(vm.getRecordedLogs(), emitter, topic);
    }

    function _all(address emitter, bytes32 topic) private returns (Vm.Log[] memory) {
        return _among(vm.getRecordedLogs(), emitter, topic);
    }

    function _only(Vm.Log[] memory logs, address emitter, bytes32 topic) private pure returns (Vm.Log memory) {
        Vm.Log[] memory found = _among(logs, emitter, topic);
        Check.eq(found.length, 1, "told once");
        return found[0];
    }

    function _among(Vm.Log[] memory logs, address emitter, bytes32 topic)
        private
        pure
        returns (Vm.Log[] memory found)
    {
        uint256 count = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == emitter && logs[i].topics[0] == topic) ++count;
        }
        found = new Vm.Log[](count);
        uint256 next = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == emitter && logs[i].topics[0] == topic) found[next++] = logs[i];
        }
    }
}
