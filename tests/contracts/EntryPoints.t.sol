// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICertificateVerifier} from "../../contracts/interfaces/ICertificateVerifier.sol";
import {
    IErc8004Adapter,
    IErc8004Identity,
    IErc8004Reputation,
    IErc8004Validation
} from "../../contracts/interfaces/IErc8004.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {CertificateLib} from "../../contracts/libraries/CertificateLib.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {Request, RequestLib} from "../../contracts/libraries/RequestLib.sol";
import {BatchId, ChallengeId, ModelId, Role} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Built} from "./Built.sol";
import {ContractWallet} from "./Doubles.sol";
import {Trees} from "./Trees.sol";
import {vm} from "./Vm.sol";
import {World} from "./World.sol";
import {IIdentityRegistry} from "./erc8004/IRegistries.sol";

/// @notice What all of Trine's contracts with a guardian have, too.
interface IGuarded {
    function pause() external;
    function unpause() external;
    function setGuardian(address guardian) external;
    function transferOwnership(address owner) external;
    function acceptOwnership() external;
}

/// @notice What the token can beyond the interface that the protocol asks for.
interface IPermitToken {
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;
    function burnFrom(address account, uint256 value) external;
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;
    function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
}

interface ITimelock {
    function schedule(
        address target,
        uint256 value,
        bytes calldata data,
        bytes32 predecessor,
        bytes32 salt,
        uint256 delay
    ) external;
    function execute(address target, uint256 value, bytes calldata data, bytes32 predecessor, bytes32 salt) external;
    function cancel(bytes32 id) external;
    function hashOperation(address target, uint256 value, bytes calldata data, bytes32 predecessor, bytes32 salt)
        external
        pure
        returns (bytes32);
}

/// @notice `check` as a transaction of its own: calls of views are none here.
interface ICertificateCheck {
    function check(ICertificateVerifier.Certificate calldata certificate) external;
}

/// @notice What every function costs that an account may send a transaction to, the transaction's base cost included:
/// `isolate` makes each call one. Functions that only Trine's contracts may call are in the costs of those who call
/// them. All operators have worked before. `make gas` writes the numbers to snapshots/ and docs/gas.md.
contract EntryPointsTest is World {
    uint256 private constant USER_KEY = 0xC11E47;
    bytes private constant INPUT = '{"messages":[{"content":"How much is it?","role":"user"}]}';
    bytes private constant OUTPUT = "It is as much as a transaction.";

    address private _user; // a client that stakes, delegates, pays and asks

    function setUp() external {
        _calibratedWorld(10);
        _user = vm.addr(USER_KEY);
        _fund(_user);
        for (uint256 i = 0; i < 24; ++i) {
            _finalize(_settled(_root(keccak256(abi.encode("warm", i)), 200), 1));
        }
    }

    function testStaking() external {
        vm.prank(NODE);
        staking.openDelegation(100 ether, 0);
        vm.snapshotGasLastCall("staking", "open delegation");
        vm.startPrank(_user);
        staking.stake(10 ether);
        vm.snapshotGasLastCall("staking", "stake more");
        staking.addCredit(10 ether);
        vm.snapshotGasLastCall("staking", "add credit");
        staking.delegate(NODE, 10 ether, 0);
        vm.snapshotGasLastCall("staking", "delegate for the first time");
        staking.delegate(NODE, 10 ether, 0);
        vm.snapshotGasLastCall("staking", "delegate more");
        staking.unbond(NODE, 5 ether);
        vm.snapshotGasLastCall("staking", "unbond");
        _wait(UNBONDING);
        staking.withdraw(NODE);
        vm.snapshotGasLastCall("staking", "withdraw");
        staking.withdrawCredit();
        vm.snapshotGasLastCall("staking", "withdraw credit");
        vm.stopPrank();
        vm.startPrank(NODE);
        staking.setCommission(1000);
        vm.snapshotGasLastCall("staking", "set a commission");
        staking.setEndpoint("https://node.example.org:8443");
        vm.snapshotGasLastCall("staking", "set an endpoint");
        vm.stopPrank();
    }

    function testBatches() external {
        BatchId id = _anchor("a batch", 256);
        vm.snapshotGasLastCall("batches", "anchor");
        _draw(id);
        vm.snapshotGasLastCall("batches", "draw");
        uint256 all = type(uint256).max;
        _commit(id, 0, all, 0);
        vm.snapshotGasLastCall("batches", "commit");
        _commit(id, 1, all - 1, 1);
        _commit(id, 2, all - 1, 1);
        vm.snapshotGasLastCall("batches", "commit last");
        _reveal(id, 0, all, 0);
        vm.snapshotGasLastCall("batches", "reveal that all is well");
        _reveal(id, 1, all - 1, 1);
        vm.snapshotGasLastCall("batches", "reveal a rejection");
        _reveal(id, 2, all - 1, 1);
        vm.snapshotGasLastCall("batches", "reveal last, which settles a rejection");
        _finalize(id);
        vm.snapshotGasLastCall("finality", "finalize a batch with a rejection and a wrong vote");

        id = _drawn("with a silent seat", 4);
        _commit(id, 0, 15, 0);
        _commit(id, 1, 15, 0);
        _wait(_values().commitSeconds + 1);
        _reveal(id, 0, 15, 0);
        _reveal(id, 1, 15, 0);
        _settle(id);
        vm.snapshotGasLastCall("batches", "settle a batch with a silent seat");
        _finalize(id);
        vm.snapshotGasLastCall("finality", "finalize a batch with a silent seat");

        id = _drawn("without votes", 4);
        _wait(_values().commitSeconds + 1);
        _settle(id);
        vm.snapshotGasLastCall("batches", "settle a silent committee, draw another");
        _draw(id);
        _wait(_values().commitSeconds + 1);
        _settle(id);
        vm.snapshotGasLastCall("batches", "settle the last silent committee");

        id = _anchor("never drawn", 4);
        _mine(committees.drawWindowBlocks() + 3);
        _expire(id);
        vm.snapshotGasLastCall("batches", "expire");
    }

    function testBatchesSettledBySignatures() external {
        _registerKeys();
        BatchId id = _anchor("signed without a draw", 4);
        (uint256 epoch, bytes memory publicKeys, bytes memory signature) = _signed(id, 15);
        IStaking.Seat[] memory none = new IStaking.Seat[](0);
        batches.settleSigned(_headerOf(id), none, epoch, 15, 0, publicKeys, signature);
        vm.snapshotGasLastCall("batches", "settle by signatures without a draw");
        id = _anchor("signed after the draw", 4);
        (epoch, publicKeys, signature) = _signed(id, 15);
        _draw(id);
        batches.settleSigned(_headerOf(id), _seatsOf(id), epoch, 15, 0, publicKeys, signature);
        vm.snapshotGasLastCall("batches", "settle by signatures after a draw");
    }

    function testFinality() external {
        BatchId id = _settled("a batch", 4);
        _finalize(id);
        vm.snapshotGasLastCall("finality", "finalize one batch");
    }

    function testCalibration() external {
        ChallengeId challenge = _request(NODE, Role.Node);
        vm.snapshotGasLastCall("calibration", "request as a node");
        _request(_verifier(0), Role.Verifier);
        vm.snapshotGasLastCall("calibration", "request as a verifier");
        _mine(3);
        _showSeed(calibration.challengeOf(challenge).seedBlock, 0);
        _seal(challenge);
        vm.snapshotGasLastCall("calibration", "seal");
        vm.prank(NODE);
        batches.anchorCalibration(challenge, "calibration of the gas test", NO_CANARY, 100);
        vm.snapshotGasLastCall("batches", "anchor a calibration");

        challenge = _request(_verifier(1), Role.Verifier);
        BatchId id = _answer(challenge, "calibration of a verifier");
        _commit(id, 0, 3, 0);
        _commit(id, 1, 3, 0);
        _commit(id, 2, 3, 0);
        _reveal(id, 0, 3, 0);
        vm.snapshotGasLastCall("batches", "reveal in a calibration");
        _reveal(id, 1, 3, 0);
        _reveal(id, 2, 3, 0);
        vm.snapshotGasLastCall("batches", "reveal last, which calibrates a verifier");
        _finalizeNow(id);
        vm.snapshotGasLastCall("finality", "finalize a calibration");
    }

    function testCommittees() external {
        vm.prank(_verifier(0));
        staking.stake(100 ether);
        committees.refresh(model, _verifier(0));
        vm.snapshotGasLastCall("committees", "refresh a changed weight");
        committees.refresh(model, _verifier(0));
        vm.snapshotGasLastCall("committees", "refresh an unchanged weight");
    }

    function testCanaries() external {
        Receipt[] memory receipts = _receipts(4);
        uint256 leaves = 10;
        bytes32 canary = keccak256(abi.encode(leaves, SALT));
        BatchId id = _anchor(Trees.root(receipts), canary, 4);
        _draw(id);
        _vote(id, 5, leaves, 5, leaves, 5, leaves);
        Opening[] memory openings = new Opening[](2);
        bytes[] memory signatures = new bytes[](2);
        for (uint256 i = 0; i < 2; ++i) {
            openings[i] = Trees.open(receipts, 2 * i + 1, canary);
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(USER_KEY, canaries.digestOf(id, 2 * i + 1));
            signatures[i] = abi.encodePacked(r, s, v);
        }
        canaries.open(_headerOf(id), leaves, SALT, openings, signatures);
        vm.snapshotGasLastCall("canaries", "open two canaries");
        _finalize(id);
        vm.snapshotGasLastCall("finality", "finalize a batch with canaries");
    }

    function testPayments() external {
        vm.startPrank(_user);
        payments.deposit(NODE, 100 ether);
        vm.snapshotGasLastCall("payments", "deposit for the first time");
        payments.deposit(NODE, 100 ether);
        vm.snapshotGasLastCall("payments", "deposit more");
        (uint8 v, bytes32 r, bytes32 s) = _permit(address(payments), 10 ether, 0);
        payments.depositWithPermit(NODE, 10 ether, timestamp, v, r, s);
        vm.snapshotGasLastCall("payments", "deposit with a permit");
        vm.stopPrank();

        _collect(1 ether);
        vm.snapshotGasLastCall("payments", "collect for the first time");
        _collect(2 ether);
        vm.snapshotGasLastCall("payments", "collect more");
        payments.setProtocolFee(100, GUARDIAN);
        vm.snapshotGasLastCall("payments", "set a protocol fee");
        vm.prank(NODE);
        staking.openDelegation(100 ether, 0);
        vm.prank(_user);
        staking.delegate(NODE, 10 ether, 0);
        _collect(3 ether);
        _collect(4 ether);
        vm.snapshotGasLastCall("payments", "collect with a protocol fee and a share of delegators");
        payments.sendProtocolFees();
        vm.snapshotGasLastCall("payments", "send protocol fees");

        vm.startPrank(_user);
        payments.requestWithdrawal(NODE, 50 ether);
        vm.snapshotGasLastCall("payments", "request a withdrawal");
        _wait(1 days);
        payments.withdraw(NODE);
        vm.snapshotGasLastCall("payments", "withdraw");
        vm.stopPrank();

        Receipt[] memory receipts = _receipts(4);
        BatchId id = _drawn(Trees.root(receipts), 4);
        _vote(id, 13, 2, 13, 2, 13, 2);
        _finalize(id);
        vm.snapshotGasLastCall("finality", "finalize a batch with a rejection");
        payments.refund(id, Trees.open(receipts, 1, NO_CANARY));
        vm.snapshotGasLastCall("payments", "refund");
    }

    function testAnswersThatAreOpened() external {
        vm.prank(_user);
        payments.deposit(NODE, 200 ether);
        Receipt[] memory receipts = _receipts(100);
        Request[] memory orders = new Request[](100);
        for (uint256 i = 0; i < 100; ++i) {
            orders[i] = Request(_user, ModelId.unwrap(model), receipts[i].inputHash, 256, 2 ether, i, 2_000_000_000);
            receipts[i].requestHash = RequestLib.digest(orders[i], address(batches));
        }
        BatchId id = _settled(Trees.root(receipts), 100);
        _finalize(id);
        _collectOpened(receipts, orders, 0, 1);
        vm.snapshotGasLastCall("payments", "open an answer");
        _collectOpened(receipts, orders, 1, 32);
        vm.snapshotGasLastCall("payments", "open 32 answers");
    }

    function testReceiptsThatAreInNoBatch() external {
        vm.etch(NODE, address(new ContractWallet(_user)).code);
        vm.prank(_user);
        token.approve(address(inclusion), type(uint256).max);
        Receipt[] memory receipts = _receipts(2);
        receipts[1].anchorBy = uint64(timestamp);
        receipts[0].anchorBy = uint64(timestamp);
        _anchor(Trees.root(receipts), 2);
        _wait(1);
        _claim(receipts[0]);
        _claim(receipts[1]);
        vm.snapshotGasLastCall("inclusion", "claim");
        inclusion.answer(Trees.open(receipts, 1, NO_CANARY));
        vm.snapshotGasLastCall("inclusion", "answer");
        _wait(6 hours + 1);
        inclusion.conclude(receipts[0]);
        vm.snapshotGasLastCall("inclusion", "conclude");
    }

    function testRequests() external {
        IRequests.Order memory order =
            IRequests.Order(model, address(0), INPUT, 32, 1 ether, uint64(timestamp + 1 days), 0, false);
        vm.startPrank(_user);
        requests.post(order);
        vm.snapshotGasLastCall("requests", "post for the first time");
        bytes32 first = requests.nextRequestId(_user);
        requests.post(order);
        vm.snapshotGasLastCall("requests", "post");
        bytes32 second = requests.nextRequestId(_user);
        requests.post(order);
        vm.stopPrank();

        Receipt[] memory receipts = _receipts(4);
        receipts[2].requestHash = first;
        receipts[2].inputHash = keccak256(INPUT);
        receipts[2].textHash = keccak256(OUTPUT);
        receipts[2].outputTokens = 32;
        receipts[2].feeWei = 0.6 ether;
        BatchId id = _settled(Trees.root(receipts), 4);
        requests.fulfil(first, id, Trees.open(receipts, 2, NO_CANARY), OUTPUT);
        vm.snapshotGasLastCall("requests", "fulfil");
        _wait(1 days + 1);
        requests.expire(second);
        vm.snapshotGasLastCall("requests", "expire");
        vm.prank(_user);
        requests.withdrawCredit();
        vm.snapshotGasLastCall("requests", "withdraw credit");
    }

    function testModelRegistry() external {
        registry.register(
            "another",
            "https://models.example.org/another",
            _bytes(2048),
            _bytes(1024),
            _classes(),
            _bytes(4096),
            64,
            1 gwei
        );
        vm.snapshotGasLastCall("modelregistry", "register a model, 7 KB of documents");
        registry.setPolicy(model, _bytes(1024), _classes());
        vm.snapshotGasLastCall("modelregistry", "set a policy, 1 KB");
        registry.setPromptSet(model, _bytes(4096), 64);
        vm.snapshotGasLastCall("modelregistry", "set a prompt set, 4 KB");
        registry.setPrice(model, 2 gwei);
        vm.snapshotGasLastCall("modelregistry", "set a price");
        registry.setRegistrar(GUARDIAN);
        vm.snapshotGasLastCall("modelregistry", "set a registrar");
    }

    function testParameters() external {
        parameters.set(_values());
        vm.snapshotGasLastCall("parameters", "set all values");
    }

    function testVerifierKeys() external {
        bytes memory proof = BlsSigner.prove(7, address(keys), NODE);
        bytes memory key = BlsSigner.publicKey(7);
        vm.prank(NODE);
        keys.register(key, proof);
        vm.snapshotGasLastCall("verifierkeys", "register a key");
        proof = BlsSigner.prove(8, address(keys), NODE);
        key = BlsSigner.publicKey(8);
        vm.prank(NODE);
        keys.register(key, proof);
        vm.snapshotGasLastCall("verifierkeys", "replace a key");
    }

    function testGuards() external {
        address[2] memory guarded = [address(batches), address(requests)];
        string[2] memory groups = ["batches", "requests"];
        for (uint256 i = 0; i < 2; ++i) {
            IGuarded it = IGuarded(guarded[i]);
            vm.prank(GUARDIAN);
            it.pause();
            vm.snapshotGasLastCall(groups[i], "pause");
            it.unpause();
            vm.snapshotGasLastCall(groups[i], "unpause");
            it.setGuardian(_user);
            vm.snapshotGasLastCall(groups[i], "set a guardian");
        }
        _handOver(address(batches), "batches");
        _handOver(address(requests), "requests");
        _handOver(address(payments), "payments");
        _handOver(address(registry), "modelregistry");
        _handOver(address(parameters), "parameters");
    }

    function testTrineToken() external {
        IPermitToken more = IPermitToken(address(token));
        vm.startPrank(_user);
        require(token.transfer(NODE, 1 ether));
        vm.snapshotGasLastCall("trinetoken", "transfer");
        token.approve(NODE, 10 ether);
        vm.snapshotGasLastCall("trinetoken", "approve");
        token.burn(1 ether);
        vm.snapshotGasLastCall("trinetoken", "burn");
        vm.stopPrank();
        vm.startPrank(NODE);
        require(token.transferFrom(_user, NODE, 1 ether));
        vm.snapshotGasLastCall("trinetoken", "transfer from");
        more.burnFrom(_user, 1 ether);
        vm.snapshotGasLastCall("trinetoken", "burn from");
        vm.stopPrank();
        (uint8 v, bytes32 r, bytes32 s) = _permit(CLIENT, 10 ether, 0);
        more.permit(_user, CLIENT, 10 ether, timestamp, v, r, s);
        vm.snapshotGasLastCall("trinetoken", "permit");
        uint256 until = timestamp + 1;
        (v, r, s) = _authorize("TransferWithAuthorization", NODE, until, "1");
        more.transferWithAuthorization(_user, NODE, 1 ether, 0, until, "1", v, r, s);
        vm.snapshotGasLastCall("trinetoken", "transfer with authorization");
        (v, r, s) = _authorize("ReceiveWithAuthorization", NODE, until, "2");
        vm.prank(NODE);
        more.receiveWithAuthorization(_user, NODE, 1 ether, 0, until, "2", v, r, s);
        vm.snapshotGasLastCall("trinetoken", "receive with authorization");
        bytes32 cancellation = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
        (v, r, s) =
            vm.sign(USER_KEY, _digest(address(token), keccak256(abi.encode(cancellation, _user, bytes32("3")))));
        more.cancelAuthorization(_user, "3", v, r, s);
        vm.snapshotGasLastCall("trinetoken", "cancel an authorization");
    }

    function testErc8004Adapter() external {
        IIdentityRegistry identity = IIdentityRegistry(Built.create("IdentityRegistry"));
        IErc8004Identity agents = IErc8004Identity(address(identity));
        IErc8004Reputation opinions =
            IErc8004Reputation(Built.create("ReputationRegistry", abi.encode(agents)));
        IErc8004Validation validations =
            IErc8004Validation(Built.create("ValidationRegistry", abi.encode(agents)));
        IErc8004Adapter adapter = IErc8004Adapter(
            factory.deploy(
                "adapter",
                bytes.concat(
                    vm.getCode("Erc8004Adapter"),
                    abi.encode(batches, agents, opinions, validations)
                )
            )
        );
        vm.startPrank(NODE);
        uint256 agent = identity.register();
        identity.setApprovalForAll(address(adapter), true);
        adapter.link(agent);
        vm.snapshotGasLastCall("erc8004adapter", "link");
        vm.stopPrank();

        Receipt[] memory receipts = _receipts(4);
        BatchId id = _settled(Trees.root(receipts), 4);
        adapter.publish(_headerOf(id));
        vm.snapshotGasLastCall("erc8004adapter", "publish a settled batch");
        _finalize(id);
        adapter.publishUnder(_headerOf(id), SALT);
        vm.snapshotGasLastCall("erc8004adapter", "publish a final batch under a salt");
        Opening memory opening = Trees.open(receipts, 1, NO_CANARY);
        vm.prank(_user);
        adapter.giveFeedback(id, opening, 95, 0, "quality");
        vm.snapshotGasLastCall("erc8004adapter", "give feedback");
        vm.prank(NODE);
        adapter.unlink();
        vm.snapshotGasLastCall("erc8004adapter", "unlink");
    }

    function testFactory() external {
        bytes memory code = _tokenCode();
        bytes memory arguments = abi.encode(address(this), 1 ether);
        factory.deploy("another", bytes.concat(code, arguments));
        vm.snapshotGasLastCall("factory", "deploy the token");
        factory.deployWith("a third", code, bytes.concat(bytes4("init"), arguments));
        vm.snapshotGasLastCall("factory", "deploy the token with a constructor call");
    }

    function testTimelock() external {
        address[] memory anyone = new address[](1);
        address[] memory proposers = new address[](1);
        proposers[0] = address(this);
        ITimelock timelock = ITimelock(
            factory.deploy(
                "timelock",
                bytes.concat(
                    vm.getCode("Timelock"), abi.encode(2 days, proposers, anyone)
                )
            )
        );
        IGuarded(address(parameters)).transferOwnership(address(timelock));
        bytes memory call = abi.encodeCall(IGuarded.acceptOwnership, ());
        timelock.schedule(address(parameters), 0, call, 0, 0, 2 days);
        _wait(2 days);
        timelock.execute(address(parameters), 0, call, 0, 0);
        call = abi.encodeCall(parameters.set, (_values()));
        timelock.schedule(address(parameters), 0, call, 0, 0, 2 days);
        vm.snapshotGasLastCall("timelock", "schedule all parameters");
        timelock.schedule(address(parameters), 0, call, 0, SALT, 2 days);
        timelock.cancel(timelock.hashOperation(address(parameters), 0, call, 0, SALT));
        vm.snapshotGasLastCall("timelock", "cancel");
        _wait(2 days);
        timelock.execute(address(parameters), 0, call, 0, 0);
        vm.snapshotGasLastCall("timelock", "execute all parameters");
    }

    function _handOver(address owned, string memory group) private {
        IGuarded(owned).transferOwnership(_user);
        vm.snapshotGasLastCall(group, "transfer ownership");
        vm.prank(_user);
        IGuarded(owned).acceptOwnership();
        vm.snapshotGasLastCall(group, "accept ownership");
    }

    function _registerKeys() private {
        for (uint256 i = 0; i < verifiers; ++i) {
            address verifier = _verifier(i);
            bytes memory proof = BlsSigner.prove(uint160(verifier), address(keys), verifier);
            bytes memory key = BlsSigner.publicKey(uint160(verifier));
            vm.prank(verifier);
            keys.register(key, proof);
        }
    }

    function _signed(BatchId id, uint256 accepted)
        private
        returns (uint256 epoch, bytes memory publicKeys, bytes memory signature)
    {
        epoch = committees.epochAt(batches.batchOf(id).clock);
        address[] memory drawn = _named(id);
        uint256[] memory secrets = new uint256[](3);
        for (uint256 i = 0; i < 3; ++i) {
            secrets[i] = uint160(drawn[i]);
        }
        bytes32 digest = CertificateLib.resultDigest(
            block.chainid, address(batches), epoch, BatchId.unwrap(id), accepted, 0
        );
        (publicKeys, signature) = BlsSigner.signAll(secrets, digest);
    }

    function _receipts(uint256 count) private view returns (Receipt[] memory receipts) {
        receipts = new Receipt[](count);
        for (uint256 i = 0; i < count; ++i) {
            receipts[i].client = _user;
            receipts[i].node = NODE;
            receipts[i].modelId = ModelId.unwrap(model);
            receipts[i].inputHash = keccak256(abi.encode("input", i));
            receipts[i].feeWei = 1 ether;
        }
    }

    function _claim(Receipt memory receipt) private {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(USER_KEY, RequestLib.digest(receipt, address(batches)));
        vm.prank(_user);
        inclusion.claim(receipt, abi.encodePacked(r, s, v));
    }

    function _collectOpened(Receipt[] memory receipts, Request[] memory orders, uint256 from, uint256 count) private {
        Request[] memory shown = new Request[](count);
        Opening[] memory openings = new Opening[](count);
        for (uint256 i = 0; i < count; ++i) {
            (shown[i], openings[i]) = (orders[from + i], Trees.open(receipts, from + i, NO_CANARY));
        }
        IPayments.Voucher memory voucher = IPayments.Voucher(_user, NODE, 200 ether, 0, 0);
        bytes memory signature = _signed(voucher);
        vm.prank(NODE);
        payments.collectOpened(voucher, signature, shown, openings);
    }

    function _collect(uint256 cumulativeWei) private {
        IPayments.Voucher memory voucher = IPayments.Voucher(_user, NODE, cumulativeWei, cumulativeWei, 0);
        bytes memory signature = _signed(voucher);
        vm.prank(NODE);
        payments.collect(voucher, signature);
    }

    function _signed(IPayments.Voucher memory voucher) private returns (bytes memory) {
        bytes32 typeHash = keccak256(
            "Voucher(address payer,address payee,uint256 cumulativeWei,uint256 earnedWei,uint64 asOf)"
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, voucher));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(USER_KEY, _digest(address(payments), structHash));
        return abi.encodePacked(r, s, v);
    }

    function _permit(address spender, uint256 amount, uint256 nonce) private returns (uint8, bytes32, bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                _user,
                spender,
                amount,
                nonce,
                timestamp
            )
        );
        return vm.sign(USER_KEY, _digest(address(token), structHash));
    }

    function _authorize(string memory kind, address to, uint256 validBefore, bytes32 nonce)
        private
        returns (uint8, bytes32, bytes32)
    {
        bytes32 typeHash = keccak256(
            abi.encodePacked(
                kind,
                "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
            )
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, _user, to, 1 ether, uint256(0), validBefore, nonce));
        return vm.sign(USER_KEY, _digest(address(token), structHash));
    }

    function _digest(address verifying, bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Trine"),
                keccak256("1"),
                block.chainid,
                verifying
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// Without zero bytes, nearly: what a document costs as calldata.
    function _bytes(uint256 length) private pure returns (bytes memory content) {
        for (uint256 i = 0; content.length < length; ++i) {
            content = bytes.concat(content, keccak256(abi.encode(i)));
        }
    }
}

/// @notice The same of appeals, which need more verifiers.
contract AppealEntryPointsTest is AppealWorld {
    function setUp() external {
        _appealWorld();
        for (uint256 i = 0; i < 20; ++i) {
            _finalize(_settled(_root(keccak256(abi.encode("warm", i)), 200), 1));
        }
        BatchId id = _settled("warm appeal", 4);
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        _finalize(id);
    }

    function testAppeals() external {
        BatchId id = _settled("appealed", 4);
        _appeal(ALICE, id, 1, REJECTED);
        vm.snapshotGasLastCall("appeals", "appeal a leaf");
        _drawAppeal(id, 1);
        vm.snapshotGasLastCall("appeals", "draw seven seats");
        _ballots(id, 7, "seven");
        _resolve(id, 1);
        vm.snapshotGasLastCall("appeals", "resolve seven seats");
        _appealAgain(BOB, id, 1, ACCEPTED);
        vm.snapshotGasLastCall("appeals", "appeal again");
        _drawAppeal(id, 1);
        vm.snapshotGasLastCall("appeals", "draw fifteen seats");
        _ballots(id, 15, "fifteen");
        _resolve(id, 1);
        vm.snapshotGasLastCall("appeals", "resolve fifteen seats");
        _conclude(id, 1);
        vm.snapshotGasLastCall("appeals", "conclude after two appeals");
        _finalize(id);
        vm.snapshotGasLastCall("finality", "finalize a batch with a concluded appeal");

        id = _settled("appealed once", 4);
        _appeal(ALICE, id, 1, REJECTED);
        _hear(id, 1, 0, 7);
        _conclude(id, 1);
        vm.snapshotGasLastCall("appeals", "conclude after one appeal");
        vm.prank(ALICE);
        appeals.withdrawCredit();
        vm.snapshotGasLastCall("appeals", "withdraw credit");

        id = _settled("never drawn", 4);
        _appeal(BOB, id, 1, REJECTED);
        _mine(committees.drawWindowBlocks() + 3);
        appeals.expire(id, 1);
        vm.snapshotGasLastCall("appeals", "expire");
    }

    /// All reject; the last commitment and the last vote are those of a full committee.
    function _ballots(BatchId id, uint256 seats, string memory of_) private {
        for (uint256 i = 0; i < seats; ++i) {
            _commitAppeal(id, 1, i, REJECTED);
            if (i == 1) vm.snapshotGasLastCall("appeals", string.concat("commit as one of ", of_));
        }
        for (uint256 i = 0; i < seats; ++i) {
            _revealAppeal(id, 1, i, REJECTED);
            if (i == 1) vm.snapshotGasLastCall("appeals", string.concat("reveal as one of ", of_));
        }
    }
}

/// @notice On another chain, with what Python made.
contract CertificateEntryPointsTest {
    function testCertificateVerifier() external {
        string memory json = vm.readFile("tests/vectors/bls.json");
        uint64 epoch = uint64(uint256(vm.parseJsonBytes32(json, ".epoch")));
        ICertificateVerifier.KeySet memory next =
            abi.decode(vm.parseJsonBytes(json, ".next_key_set"), (ICertificateVerifier.KeySet));
        ICertificateVerifier.Signers memory signers =
            abi.decode(vm.parseJsonBytes(json, ".handover_signers"), (ICertificateVerifier.Signers));
        bytes[] memory certificates = vm.parseJsonBytesArray(json, ".certificate");
        address verifier = _deploy(json, epoch);
        string[3] memory sizes = ["three", "seven", "fifteen"];
        for (uint256 i = 0; i < 3; ++i) {
            ICertificateCheck(verifier).check(abi.decode(certificates[i], (ICertificateVerifier.Certificate)));
            vm.snapshotGasLastCall("certificateverifier", string.concat("check ", sizes[i], " keys"));
        }
        ICertificateVerifier(verifier).advance(epoch + 1, next, signers);
        vm.snapshotGasLastCall("certificateverifier", "advance by fifteen keys");
    }

    function _deploy(string memory json, uint64 epoch) private returns (address) {
        ICertificateVerifier.KeySet memory set =
            abi.decode(vm.parseJsonBytes(json, ".key_set"), (ICertificateVerifier.KeySet));
        bytes memory arguments = abi.encode(31337, vm.parseJsonAddress(json, ".batches"), 2, epoch, set);
        return Built.create("CertificateVerifier", arguments);
    }
}
