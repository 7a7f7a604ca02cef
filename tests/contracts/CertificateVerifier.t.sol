// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ExampleConsumer} from "../../contracts/foreign/ExampleConsumer.sol";
import {ICertificateVerifier} from "../../contracts/interfaces/ICertificateVerifier.sol";
import {CertificateLib} from "../../contracts/libraries/CertificateLib.sol";
import {LeafLib, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {ModelId} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {Relay} from "./Measured.sol";
import {Check, vm} from "./Vm.sol";

/// @notice What Python made passes: key root, certificates of three sizes, handover; and what it costs.
contract CertificateVectorsTest {
    string private _json;
    ICertificateVerifier private _verifier;

    function setUp() external {
        _json = vm.readFile("tests/vectors/bls.json");
        ICertificateVerifier.KeySet memory set = abi.decode(_bytes(".key_set"), (ICertificateVerifier.KeySet));
        bytes memory arguments = abi.encode(31337, vm.parseJsonAddress(_json, ".batches"), 2, _epoch(), set);
        _verifier = ICertificateVerifier(Built.create("CertificateVerifier", arguments));
    }

    function testCertificatesOfPythonPass() external view {
        uint256[3] memory sizes = [uint256(3), 7, 15];
        for (uint256 i = 0; i < 3; ++i) {
            (bytes32 batchId, ICertificateVerifier.Verdict verdict, uint256 size) = _verifier.check(_certificate(i));
            Check.eq(batchId, vm.parseJsonBytes32Array(_json, ".certificate_batchId")[i], "batch");
            Check.yes(verdict == ICertificateVerifier.Verdict.Accepted, "accepted");
            Check.eq(size, sizes[i], "size");
        }
    }

    function testAHandoverOfPythonPasses() external {
        bytes memory encoded = _bytes(".next_key_set");
        ICertificateVerifier.KeySet memory next = abi.decode(encoded, (ICertificateVerifier.KeySet));
        Check.eq(
            _verifier.handoverDigest(_epoch() + 1, next), vm.parseJsonBytes32(_json, ".handover_digest"), "digest"
        );
        ICertificateVerifier.Signers memory signers =
            abi.decode(_bytes(".handover_signers"), (ICertificateVerifier.Signers));
        _verifier.advance(_epoch() + 1, next, signers);
        Check.eq(_verifier.newestEpoch(), _epoch() + 1, "epoch");
        Check.eq(keccak256(abi.encode(_verifier.keySetOf(_epoch() + 1))), keccak256(encoded), "key set");
    }

    function testAConsumerActsOnAnAnswerForLessThan250k() external {
        Receipt memory receipt = abi.decode(_bytes(".certificate_receipt"), (Receipt));
        string memory text = string(_bytes(".certificate_text"));
        ExampleConsumer consumer =
            ExampleConsumer(Built.create("ExampleConsumer", abi.encode(_verifier, receipt.modelId, 3)));
        consumer.ask{value: 1 ether}(receipt.inputHash, 100);
        ICertificateVerifier.Certificate memory certificate = _certificate(0);
        vm.deal(receipt.node, 1 wei);
        // The whole transaction, with the consumer's own receipt, text, payment and storage.
        consumer.answer(certificate, receipt, text);
        Check.atMost(vm.snapshotGasLastCall("certificate", "a consumer acts on three keys"), 250_000, "gas");
        Check.eq(receipt.node.balance, 1 ether + 1 wei, "paid");
    }

    function testAWholeTransactionWithThreeKeysCostsLessThan250k() external {
        Relay relay = Relay(Built.create("Relay", abi.encode(_verifier)));
        uint256[3] memory limits = [uint256(208_000), 256_000, 355_000];
        string[3] memory names = ["check of three keys", "check of seven keys", "check of fifteen keys"];
        for (uint256 i = 0; i < 3; ++i) {
            relay.relay(_certificate(i));
            Check.atMost(vm.snapshotGasLastCall("certificate", names[i]), limits[i], names[i]);
        }
    }

    function _certificate(uint256 i) private view returns (ICertificateVerifier.Certificate memory) {
        return abi.decode(vm.parseJsonBytesArray(_json, ".certificate")[i], (ICertificateVerifier.Certificate));
    }

    function _epoch() private view returns (uint64) {
        return uint64(uint256(vm.parseJsonBytes32(_json, ".epoch")));
    }

    function _bytes(string memory key) private view returns (bytes memory) {
        return vm.parseJsonBytes(_json, key);
    }
}

contract CertificateVerifierTest {
    uint256 private constant SOURCE = 8453;
    address private constant BATCHES = address(0xba7c4);
    uint64 private constant EPOCH = 7;
    uint256 private constant KEYS = 6;
    address private constant NODE = address(0x40de);
    bytes32 private constant MODEL = keccak256("model");

    ICertificateVerifier private _verifier;
    bytes32[] private _keyLeaves; // of eight, two are padding
    uint256[] private _members;
    Receipt private _receipt;

    function setUp() external {
        for (uint256 i = 0; i < 8; ++i) {
            bytes32 keyHash = keccak256(BlsSigner.publicKey(_secret(i)));
            _keyLeaves.push(i < KEYS ? CertificateLib.keyLeaf(i, keyHash, 1) : bytes32(0));
        }
        _members = [0, 2, 5];
        _verifier = _deploy(SOURCE, BATCHES, EPOCH);
        _receipt.node = NODE;
        _receipt.modelId = MODEL;
        _receipt.inputHash = keccak256("question");
        _receipt.textHash = keccak256("answer");
    }

    function testEachBitIsItsLeafsVerdict() external view {
        ICertificateVerifier.Certificate memory certificate = _certificate(1 << 3, 1 << 4);
        (, ICertificateVerifier.Verdict verdict,) = _verifier.check(certificate);
        Check.yes(verdict == ICertificateVerifier.Verdict.Accepted, "accepted");
        certificate = _certificate(1 << 4, 1 << 3);
        (, verdict,) = _verifier.check(certificate);
        Check.yes(verdict == ICertificateVerifier.Verdict.Rejected, "rejected");
        certificate = _certificate(1 << 4, 1 << 5);
        (, verdict,) = _verifier.check(certificate);
        Check.yes(verdict == ICertificateVerifier.Verdict.Inconclusive, "inconclusive");
        (, verdict,) = _verifier.check(_certificate(1 << 4, 1 << 2));
        Check.yes(verdict == ICertificateVerifier.Verdict.Inconclusive, "whatever those before it are");
        (, verdict,) = _verifier.check(_certificate(0, 0));
        Check.yes(verdict == ICertificateVerifier.Verdict.Inconclusive, "and if none is anything");
        (, verdict,) = _verifier.check(_certificate(0xff, 0));
        Check.yes(verdict == ICertificateVerifier.Verdict.Accepted, "accepted like all");
        (, verdict,) = _verifier.check(_certificate(0, 0xff));
        Check.yes(verdict == ICertificateVerifier.Verdict.Rejected, "rejected like all");
    }

    function testAResultIsNotForAnotherChain() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        _verifier = _deploy(SOURCE + 1, BATCHES, EPOCH);
        _expect(ICertificateVerifier.CertificateVerifierNotSigned.selector);
        _verifier.check(certificate);
    }

    function testAResultIsNotForAnotherContract() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        _verifier = _deploy(SOURCE, address(0xba7c5), EPOCH);
        _expect(ICertificateVerifier.CertificateVerifierNotSigned.selector);
        _verifier.check(certificate);
    }

    function testAResultIsNotForAnotherEpoch() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        _verifier = _deploy(SOURCE, BATCHES, EPOCH + 1);
        certificate.epoch = EPOCH + 1;
        _expect(ICertificateVerifier.CertificateVerifierNotSigned.selector);
        _verifier.check(certificate);
    }

    function testAnUnknownEpochIsRefused() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        certificate.epoch = EPOCH + 1;
        vm.expectRevert(
            abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierUnknownEpoch.selector, EPOCH + 1)
        );
        _verifier.check(certificate);
    }

    function testNothingInTheBatchCanBeExchanged() external {
        bytes4 notSigned = ICertificateVerifier.CertificateVerifierNotSigned.selector;
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        certificate.accepted = 9;
        _expect(notSigned);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        certificate.rejected = 1;
        _expect(notSigned);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        certificate.node = address(0x1);
        _expect(notSigned);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        certificate.modelId = keccak256("another model");
        _expect(notSigned);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        certificate.canary = bytes32(uint256(1));
        _expect(notSigned);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        certificate.receiptHash = keccak256("another receipt");
        _expect(ICertificateVerifier.CertificateVerifierNotInBatch.selector);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        certificate.leafIndex = 4;
        _expect(ICertificateVerifier.CertificateVerifierNotInBatch.selector);
        _verifier.check(certificate);
    }

    function testPaddingIsNoAnswer() external {
        // Zero leaves fill the batch's tree; no receipt hashes to zero, and a shorter proof is refused.
        ICertificateVerifier.Certificate memory certificate = _certificate(type(uint256).max, 0);
        certificate.leafIndex = 200;
        certificate.receiptHash = 0;
        _expect(ICertificateVerifier.CertificateVerifierNotInBatch.selector);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        bytes32[] memory shorter = new bytes32[](7);
        certificate.proof = shorter;
        _expect(ICertificateVerifier.CertificateVerifierNotInBatch.selector);
        _verifier.check(certificate);
    }

    function testPaddingOfTheKeySetSignsNothing() external {
        _members = [0, 2, 6];
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectRevert(
            abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierIndexOutOfBounds.selector, 6, KEYS)
        );
        _verifier.check(certificate);
    }

    function testWhoIsNotInTheSetCannotSign() external {
        // A key of nobody's at a place in the set.
        _keyLeaves[5] = CertificateLib.keyLeaf(5, keccak256("another key"), 1);
        _verifier = _deploy(SOURCE, BATCHES, EPOCH);
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        _expect(ICertificateVerifier.CertificateVerifierNotEligible.selector);
        _verifier.check(certificate);
    }

    function testAWeightCannotBeClaimed() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        certificate.signers.members[0].weight = 2;
        _expect(ICertificateVerifier.CertificateVerifierNotEligible.selector);
        _verifier.check(certificate);
    }

    function testOneKeyCannotSignThreeTimes() external {
        _members = [2, 2, 2];
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectRevert(
            abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierMembersNotRising.selector, 2)
        );
        _verifier.check(certificate);
    }

    function testTwoOrFourKeysAreNoCommittee() external {
        _members = [0, 2];
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectRevert(abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierNoCommittee.selector, 2));
        _verifier.check(certificate);
        _members = [0, 2, 3, 5];
        certificate = _certificate(8, 0);
        vm.expectRevert(abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierNoCommittee.selector, 4));
        _verifier.check(certificate);
    }

    function testAResultThatContradictsItselfIsRefused() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 8);
        vm.expectRevert(abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierContradiction.selector, 8));
        _verifier.check(certificate);
    }

    function testMalformedSignersAreRefused() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        certificate.signers.keys = bytes.concat(certificate.signers.keys, new bytes(256));
        _expect(ICertificateVerifier.CertificateVerifierMalformedSigners.selector);
        _verifier.check(certificate);
        certificate = _certificate(8, 0);
        certificate.signers.proofs = new bytes32[](8);
        _expect(ICertificateVerifier.CertificateVerifierMalformedSigners.selector);
        _verifier.check(certificate);
    }

    function testAnExpiredSetSignsNothing() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        (ICertificateVerifier.KeySet memory next, ICertificateVerifier.Signers memory signers) = _handover(6);
        vm.warp(1_000_001);
        _expect(ICertificateVerifier.CertificateVerifierKeySetExpired.selector);
        _verifier.check(certificate);
        _expect(ICertificateVerifier.CertificateVerifierKeySetExpired.selector);
        _verifier.advance(EPOCH + 1, next, signers);
    }

    function testASetSignsToItsLastSecond() external {
        vm.warp(1_000_000);
        (bytes32 batchId,,) = _verifier.check(_certificate(8, 0));
        Check.yes(batchId != 0, "still");
    }

    function testAHandoverHasOneSignerAtLeastAndAsManyAsABlockHasRoomFor() external {
        ICertificateVerifier.KeySet memory next = _set();
        ICertificateVerifier.Signers memory signers;
        bytes4 outOfBounds = ICertificateVerifier.CertificateVerifierSignersOutOfBounds.selector;
        vm.expectRevert(abi.encodeWithSelector(outOfBounds, 0, 256));
        _verifier.advance(EPOCH + 1, next, signers);
        signers.members = new ICertificateVerifier.Member[](257);
        vm.expectRevert(abi.encodeWithSelector(outOfBounds, 257, 256));
        _verifier.advance(EPOCH + 1, next, signers);
        // As many are looked at, and these have no keys.
        signers.members = new ICertificateVerifier.Member[](256);
        _expect(ICertificateVerifier.CertificateVerifierMalformedSigners.selector);
        _verifier.advance(EPOCH + 1, next, signers);
        // One that weighs enough is enough.
        next = _set();
        next.totalWeight = 1;
        _verifier = _deploy(SOURCE, BATCHES, 2, EPOCH, next);
        _members = [0];
        signers = _signers(_verifier.handoverDigest(EPOCH + 1, next));
        _verifier.advance(EPOCH + 1, next, signers);
        Check.eq(_verifier.newestEpoch(), EPOCH + 1, "epoch");
    }

    function testMoreThanTwoThirdsHandOver() external {
        (ICertificateVerifier.KeySet memory next, ICertificateVerifier.Signers memory signers) = _handover(5);
        vm.expectEmit(address(_verifier));
        emit ICertificateVerifier.KeySetInstalled(
            EPOCH + 1, next.root, next.validUntil, next.count, next.totalWeight
        );
        _verifier.advance(EPOCH + 1, next, signers);
        Check.eq(_verifier.newestEpoch(), EPOCH + 1, "epoch");
        Check.eq(_verifier.keySetOf(EPOCH + 1).root, next.root, "root");
    }

    function testExactlyTwoThirdsDoNot() external {
        (ICertificateVerifier.KeySet memory next, ICertificateVerifier.Signers memory signers) = _handover(4);
        vm.expectRevert(abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierNoQuorum.selector, 4, 6));
        _verifier.advance(EPOCH + 1, next, signers);
    }

    function testDuplicatesDoNotMakeAQuorum() external {
        ICertificateVerifier.KeySet memory next = _set();
        _members = [0, 1, 1, 2, 3];
        ICertificateVerifier.Signers memory signers = _signers(_verifier.handoverDigest(EPOCH + 1, next));
        vm.expectRevert(
            abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierMembersNotRising.selector, 1)
        );
        _verifier.advance(EPOCH + 1, next, signers);
    }

    function testNothingInAHandoverCanBeExchanged() external {
        bytes4 notSigned = ICertificateVerifier.CertificateVerifierNotSigned.selector;
        (ICertificateVerifier.KeySet memory next, ICertificateVerifier.Signers memory signers) = _handover(6);
        _expect(notSigned);
        _verifier.advance(EPOCH + 2, next, signers);
        next.root = keccak256("another");
        _expect(notSigned);
        _verifier.advance(EPOCH + 1, next, signers);
        next = _set();
        next.count = 7;
        _expect(notSigned);
        _verifier.advance(EPOCH + 1, next, signers);
        next = _set();
        next.totalWeight = 7;
        _expect(notSigned);
        _verifier.advance(EPOCH + 1, next, signers);
        next = _set();
        next.validUntil += 1;
        _expect(notSigned);
        _verifier.advance(EPOCH + 1, next, signers);
    }

    function testAHandoverIsNotForAnotherSourceOrHistory() external {
        bytes4 notSigned = ICertificateVerifier.CertificateVerifierNotSigned.selector;
        (ICertificateVerifier.KeySet memory next, ICertificateVerifier.Signers memory signers) = _handover(6);
        _verifier = _deploy(SOURCE + 1, BATCHES, EPOCH);
        _expect(notSigned);
        _verifier.advance(EPOCH + 2, next, signers);
        _verifier = _deploy(SOURCE, address(0x1), EPOCH);
        _expect(notSigned);
        _verifier.advance(EPOCH + 2, next, signers);
        _verifier = _deploy(SOURCE, BATCHES, EPOCH - 1);
        _expect(notSigned);
        _verifier.advance(EPOCH + 1, next, signers);
    }

    function testEpochsOnlyGoForward() external {
        (ICertificateVerifier.KeySet memory next, ICertificateVerifier.Signers memory signers) = _handover(6);
        vm.expectRevert(
            abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierEpochNotNewer.selector, EPOCH, EPOCH)
        );
        _verifier.advance(EPOCH, next, signers);
        _verifier.advance(EPOCH + 1, next, signers);
        _expect(ICertificateVerifier.CertificateVerifierEpochNotNewer.selector);
        _verifier.advance(EPOCH + 1, next, signers);
        _expect(ICertificateVerifier.CertificateVerifierEpochTooFarAhead.selector);
        _verifier.advance(type(uint64).max, next, signers);
        uint64 furthest = EPOCH + 1 + 1024;
        vm.expectRevert(
            abi.encodeWithSelector(
                ICertificateVerifier.CertificateVerifierEpochTooFarAhead.selector, furthest + 1, furthest
            )
        );
        _verifier.advance(furthest + 1, next, signers);
        _advance(furthest);
        Check.eq(_verifier.newestEpoch(), furthest, "as far as one step goes");
    }

    function testOldCertificatesAreRefused() external {
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        _advance(EPOCH + 2);
        _verifier.check(certificate);
        _advance(EPOCH + 3);
        vm.expectRevert(
            abi.encodeWithSelector(
                ICertificateVerifier.CertificateVerifierEpochTooOld.selector, EPOCH, EPOCH + 1
            )
        );
        _verifier.check(certificate);
    }

    function testNothingIsTooOldBeforeThereAreSoManyEpochs() external {
        _verifier = _deploy(SOURCE, BATCHES, 1024, EPOCH, _set());
        (, ICertificateVerifier.Verdict verdict,) = _verifier.check(_certificate(8, 0));
        Check.yes(verdict == ICertificateVerifier.Verdict.Accepted, "accepted");
    }

    function testParametersAreBounded() external {
        ICertificateVerifier.KeySet memory set = _set();
        _expectOutOfBounds("sourceChainId");
        _deploy(0, BATCHES, 2, EPOCH, set);
        _expectOutOfBounds("sourceBatches");
        _deploy(SOURCE, address(0), 2, EPOCH, set);
        _expectOutOfBounds("maxAge");
        _deploy(SOURCE, BATCHES, 1025, EPOCH, set);
        set.root = 0;
        _expectOutOfBounds("root");
        _deploy(SOURCE, BATCHES, 2, EPOCH, set);
        set = _set();
        set.count = 2;
        _expectOutOfBounds("count");
        _deploy(SOURCE, BATCHES, 2, EPOCH, set);
        set = _set();
        set.totalWeight = 0;
        _expectOutOfBounds("totalWeight");
        _deploy(SOURCE, BATCHES, 2, EPOCH, set);
        set = _set();
        set.validUntil = uint64(block.timestamp);
        _expectOutOfBounds("validUntil");
        _deploy(SOURCE, BATCHES, 2, EPOCH, set);
        set = _set();
        set.count = 65_537;
        _expectOutOfBounds("count");
        _deploy(SOURCE, BATCHES, 2, EPOCH, set);
        // The largest set, and the smallest of everything.
        set.count = 65_536;
        _deploy(SOURCE, BATCHES, 1024, EPOCH, set);
        (set.count, set.totalWeight, set.validUntil) = (3, 1, uint64(block.timestamp + 1));
        _deploy(1, BATCHES, 0, 0, set);
    }

    function testAnAnswerPaysOnce() external {
        ExampleConsumer consumer = _consumer(3);
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectEmit(address(consumer));
        emit ExampleConsumer.Answered(
            _receipt.inputHash,
            CertificateLib.batchId(SOURCE, BATCHES, NODE, MODEL, certificate.root, 0),
            3,
            NODE,
            "answer"
        );
        consumer.answer(certificate, _receipt, "answer");
        Check.eq(NODE.balance, 1 ether, "paid");
        Check.eq(consumer.questionOf(_receipt.inputHash).rewardWei, 0, "no more to pay");
        // The same question again, for next to nothing: the answer that was paid for does not count.
        consumer.ask{value: 1 wei}(_receipt.inputHash, 100);
        vm.expectRevert(
            abi.encodeWithSelector(
                ExampleConsumer.ExampleConsumerAlreadyUsed.selector,
                CertificateLib.batchId(SOURCE, BATCHES, NODE, MODEL, certificate.root, 0),
                3
            )
        );
        consumer.answer(certificate, _receipt, "answer");
    }

    function testAQuestionIsPutOnceWithAReward() external {
        ExampleConsumer consumer = ExampleConsumer(
            Built.create("ExampleConsumer", abi.encode(_verifier, _receipt.modelId, 15))
        );
        bytes32 question = _receipt.inputHash;
        vm.expectRevert(
            abi.encodeWithSelector(ExampleConsumer.ExampleConsumerParameterOutOfBounds.selector, "reward")
        );
        consumer.ask(question, 100);
        vm.expectEmit(address(consumer));
        emit ExampleConsumer.Asked(question, address(this), 1, 100);
        consumer.ask{value: 1}(question, 100);
        vm.expectRevert(abi.encodeWithSelector(ExampleConsumer.ExampleConsumerAlreadyAsked.selector, question));
        consumer.ask{value: 1}(question, 100);
        // Whoever asked has it back, and it may be put again.
        vm.warp(101);
        vm.prank(NODE);
        vm.expectRevert(
            abi.encodeWithSelector(ExampleConsumer.ExampleConsumerNotYours.selector, address(this), NODE)
        );
        consumer.takeBack(question);
        vm.expectEmit(address(consumer));
        emit ExampleConsumer.TakenBack(question, address(this), 1);
        consumer.takeBack(question);
        vm.expectRevert(abi.encodeWithSelector(ExampleConsumer.ExampleConsumerNothingAsked.selector, question));
        consumer.takeBack(question);
        consumer.ask{value: 2}(question, 200);
        Check.eq(consumer.questionOf(question).rewardWei, 2, "asked again");
    }

    function testAConsumersParametersAreBounded() external {
        _refusedConsumer("verifier", address(0), MODEL, 3);
        _refusedConsumer("modelId", address(_verifier), 0, 3);
        _refusedConsumer("minCommittee", address(_verifier), MODEL, 2);
        _refusedConsumer("minCommittee", address(_verifier), MODEL, 16);
    }

    function testAnAnswerHas4096BytesAtMost() external {
        string memory longest = string(new bytes(4096));
        _receipt.textHash = keccak256(bytes(longest));
        ExampleConsumer consumer = _consumer(3);
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectRevert(
            abi.encodeWithSelector(ExampleConsumer.ExampleConsumerTextTooLong.selector, 4097, 4096)
        );
        consumer.answer(certificate, _receipt, string(new bytes(4097)));
        consumer.answer(certificate, _receipt, longest);
        Check.eq(NODE.balance, 1 ether, "paid");
    }

    function testANodeThatRefusesItsRewardLeavesTheQuestionOpen() external {
        ExampleConsumer consumer = _consumer(3);
        vm.etch(NODE, hex"5f5ffd");
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectRevert(abi.encodeWithSelector(ExampleConsumer.ExampleConsumerPaymentFailed.selector, NODE));
        consumer.answer(certificate, _receipt, "answer");
        Check.eq(consumer.questionOf(_receipt.inputHash).rewardWei, 1 ether, "still asked");
    }

    function testOnlyAnAcceptedAnswerPays() external {
        ExampleConsumer consumer = _consumer(3);
        ICertificateVerifier.Certificate memory certificate = _certificate(0, 8);
        _expect(ExampleConsumer.ExampleConsumerNotAccepted.selector);
        consumer.answer(certificate, _receipt, "answer");
    }

    function testAConsumerMayAskForMoreSigners() external {
        ExampleConsumer consumer = _consumer(7);
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectRevert(
            abi.encodeWithSelector(ExampleConsumer.ExampleConsumerCommitteeTooSmall.selector, 3, 7)
        );
        consumer.answer(certificate, _receipt, "answer");
    }

    function testAnotherModelsAnswerDoesNotPay() external {
        bytes memory arguments = abi.encode(_verifier, ModelId.wrap("another"), 3);
        ExampleConsumer consumer = ExampleConsumer(Built.create("ExampleConsumer", arguments));
        consumer.ask{value: 1 ether}(_receipt.inputHash, 100);
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        vm.expectRevert(
            abi.encodeWithSelector(ExampleConsumer.ExampleConsumerOtherModel.selector, _receipt.modelId)
        );
        consumer.answer(certificate, _receipt, "answer");
    }

    function testAnotherTextOrReceiptDoesNotPay() external {
        ExampleConsumer consumer = _consumer(3);
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        _expect(ExampleConsumer.ExampleConsumerOtherText.selector);
        consumer.answer(certificate, _receipt, "another answer");
        _receipt.feeWei = 1;
        _expect(ExampleConsumer.ExampleConsumerOtherReceipt.selector);
        consumer.answer(certificate, _receipt, "answer");
    }

    function testARewardCanBeTakenBackAfterTheDeadlineOnly() external {
        ExampleConsumer consumer = _consumer(3);
        vm.warp(100);
        vm.expectRevert(abi.encodeWithSelector(ExampleConsumer.ExampleConsumerTooEarly.selector, 100));
        consumer.takeBack(_receipt.inputHash);
        vm.warp(101);
        uint256 before = address(this).balance;
        consumer.takeBack(_receipt.inputHash);
        Check.eq(address(this).balance, before + 1 ether, "returned");
        ICertificateVerifier.Certificate memory certificate = _certificate(8, 0);
        _expect(ExampleConsumer.ExampleConsumerNothingAsked.selector);
        consumer.answer(certificate, _receipt, "answer");
    }

    receive() external payable {}

    function _consumer(uint256 minCommittee) private returns (ExampleConsumer consumer) {
        bytes memory arguments = abi.encode(_verifier, _receipt.modelId, minCommittee);
        consumer = ExampleConsumer(Built.create("ExampleConsumer", arguments));
        consumer.ask{value: 1 ether}(_receipt.inputHash, 100);
    }

    function _refusedConsumer(string memory name, address verifier, bytes32 modelId, uint256 minCommittee) private {
        vm.expectRevert(
            abi.encodeWithSelector(ExampleConsumer.ExampleConsumerParameterOutOfBounds.selector, name)
        );
        Built.create("ExampleConsumer", abi.encode(verifier, modelId, minCommittee));
    }

    function _deploy(uint256 chainId, address batches, uint64 epoch) private returns (ICertificateVerifier) {
        return _deploy(chainId, batches, 2, epoch, _set());
    }

    function _deploy(
        uint256 chainId,
        address batches,
        uint64 maxAge,
        uint64 epoch,
        ICertificateVerifier.KeySet memory set
    ) private returns (ICertificateVerifier) {
        return
            ICertificateVerifier(Built.create("CertificateVerifier", abi.encode(chainId, batches, maxAge, epoch, set)));
    }

    function _set() private view returns (ICertificateVerifier.KeySet memory set) {
        return ICertificateVerifier.KeySet(_rootOf(_keyLeaves, _pair), 1_000_000, uint32(KEYS), uint128(KEYS));
    }

    function _advance(uint64 epoch) private {
        ICertificateVerifier.KeySet memory next = _set();
        _members = [0, 1, 2, 3, 4];
        ICertificateVerifier.Signers memory signers = _signers(_verifier.handoverDigest(epoch, next));
        _verifier.advance(epoch, next, signers);
    }

    /// The same keys for the next epoch, signed by the first `count`.
    function _handover(uint256 count)
        private
        returns (ICertificateVerifier.KeySet memory next, ICertificateVerifier.Signers memory signers)
    {
        next = _set();
        delete _members;
        for (uint256 i = 0; i < count; ++i) {
            _members.push(i);
        }
        signers = _signers(_verifier.handoverDigest(EPOCH + 1, next));
    }

    /// Of a batch with `_receipt` as leaf 3 of five, signed by `_members`.
    function _certificate(uint256 accepted, uint256 rejected)
        private
        view
        returns (ICertificateVerifier.Certificate memory certificate)
    {
        bytes32[] memory leaves = new bytes32[](256);
        for (uint256 i = 0; i < 5; ++i) {
            leaves[i] = LeafLib.leafHash(i, _receipt);
        }
        certificate.epoch = EPOCH;
        certificate.node = NODE;
        certificate.modelId = MODEL;
        certificate.root = _rootOf(leaves, LeafLib.parent);
        certificate.accepted = accepted;
        certificate.rejected = rejected;
        certificate.leafIndex = 3;
        certificate.receiptHash = LeafLib.structHash(_receipt);
        certificate.leafTokens = _receipt.promptTokens + _receipt.outputTokens;
        certificate.proof = _proofOf(leaves, 3, LeafLib.parent);
        bytes32 batchId = CertificateLib.batchId(SOURCE, BATCHES, NODE, MODEL, certificate.root, 0);
        certificate.signers =
            _signers(CertificateLib.resultDigest(SOURCE, BATCHES, EPOCH, batchId, accepted, rejected));
    }

    function _signers(bytes32 digest) private view returns (ICertificateVerifier.Signers memory signers) {
        uint256 count = _members.length;
        uint256[] memory secrets = new uint256[](count);
        signers.members = new ICertificateVerifier.Member[](count);
        signers.proofs = new bytes32[](3 * count);
        for (uint256 i = 0; i < count; ++i) {
            secrets[i] = _secret(_members[i]);
            signers.members[i] = ICertificateVerifier.Member(uint32(_members[i]), 1);
            bytes32[] memory proof = _proofOf(_keyLeaves, _members[i], _pair);
            for (uint256 j = 0; j < 3; ++j) {
                signers.proofs[3 * i + j] = proof[j];
            }
        }
        (signers.keys, signers.signature) = BlsSigner.signAll(secrets, digest);
    }

    function _secret(uint256 index) private pure returns (uint256) {
        return 5000 + index;
    }

    function _rootOf(bytes32[] memory leaves, function(bytes32, bytes32) pure returns (bytes32) parent)
        private
        pure
        returns (bytes32)
    {
        while (leaves.length > 1) {
            leaves = _above(leaves, parent);
        }
        return leaves[0];
    }

    function _proofOf(
        bytes32[] memory leaves,
        uint256 index,
        function(bytes32, bytes32) pure returns (bytes32) parent
    ) private pure returns (bytes32[] memory proof) {
        uint256 depth = 0;
        while (1 << depth < leaves.length) ++depth;
        proof = new bytes32[](depth);
        for (uint256 i = 0; i < depth; ++i) {
            proof[i] = leaves[index ^ 1];
            leaves = _above(leaves, parent);
            index >>= 1;
        }
    }

    function _above(bytes32[] memory leaves, function(bytes32, bytes32) pure returns (bytes32) parent)
        private
        pure
        returns (bytes32[] memory above)
    {
        above = new bytes32[](leaves.length / 2);
        for (uint256 i = 0; i < above.length; ++i) {
            above[i] = parent(leaves[2 * i], leaves[2 * i + 1]);
        }
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function _expect(bytes4 selector) private {
        vm.expectPartialRevert(selector);
    }

    function _expectOutOfBounds(string memory name) private {
        vm.expectRevert(
            abi.encodeWithSelector(ICertificateVerifier.CertificateVerifierParameterOutOfBounds.selector, name)
        );
    }
}
