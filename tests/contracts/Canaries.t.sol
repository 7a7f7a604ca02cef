// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICanaries} from "../../contracts/interfaces/ICanaries.sol";
import {IFinality} from "../../contracts/interfaces/IFinality.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, Header, ModelId, Role} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";

contract CanariesTest is AppealWorld {
    uint256 private constant CLIENT_KEY = 0xC11E47;
    uint256 private constant LEAVES = 4;
    uint256 private constant CANARIES = 10; // leaves 1 and 3

    address private _client;

    function setUp() external {
        _appealWorld();
        _client = vm.addr(CLIENT_KEY);
    }

    function testOpenedCanariesAreNotedAndCostTheNodeNothing() external {
        BatchId id = _settledWithCanaries(5, CANARIES);
        uint256 accepted = reputation.recordOf(NODE, Role.Node, model).acceptedMicro;
        uint256 rejected = reputation.recordOf(NODE, Role.Node, model).rejectedMicro;
        vm.expectEmit(address(finality));
        emit IFinality.CanariesOpened(id, CANARIES);
        _openAll(id);
        Check.eq(finality.marksOf(id).canaries, CANARIES, "noted");
        _finalize(id);
        Check.eq(staking.stakeOf(NODE).active, STAKE, "not slashed");
        Check.eq(staking.stakeOf(NODE).locked, 0, "free");
        Check.eq(payments.refundOf(id, 1), 0, "nobody paid for them, nobody is refunded");
        uint256 gained = reputation.recordOf(NODE, Role.Node, model).acceptedMicro - accepted;
        Check.yes(gained > 1.9e6 && gained <= 2e6, "merit for the other two only");
        Check.atMost(reputation.recordOf(NODE, Role.Node, model).rejectedMicro, rejected, "no fault");
        _verdictOf(id, 1, REJECTED, true);
    }

    function testCanariesThatAreNotOpenedAreBadAnswers() external {
        BatchId id = _settledWithCanaries(5, CANARIES);
        _finalize(id);
        Check.eq(STAKE - staking.stakeOf(NODE).active, 2 ether, "slashed");
        Check.eq(payments.refundOf(id, 1), 0.4 ether, "refunded");
    }

    function testAVerifierThatAcceptedACanaryPaysMore() external {
        (bytes32 root, bytes32 canary) = _tree();
        BatchId id = _anchor(root, canary, LEAVES);
        _draw(id);
        _vote(id, 15, 0, 5, CANARIES, 5, CANARIES);
        _openAll(id);
        uint256[3] memory before = _stakes(id);
        _finalize(id);
        uint256[3] memory left = _stakes(id);
        Check.eq(before[0] - left[0], 30 ether - 0.02 ether, "a canary's penalty; two leaves were right");
        Check.eq(left[1] - before[1], 0.04 ether, "the others are paid");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "nor the node slashed");
    }

    function testAnAppealMakesAMajorityPayThatAcceptedACanary() external {
        BatchId id = _settledWithCanaries(15, 0);
        _openAll(id);
        uint256[3] memory before = _stakes(id);
        _appeal(NODE, id, 1, REJECTED);
        _hear(id, 1, 0, 7);
        _conclude(id, 1);
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(before[i] - _stakes(id)[i], 30 ether, "each of them");
        }
        Check.eq(staking.stakeOf(NODE).active, STAKE, "the node has shown it beforehand");
        Check.eq(appeals.creditOf(NODE), BOND_1 - 7 ether + 45 ether, "half of 90");
        _finalize(id);
        Check.eq(staking.stakeOf(NODE).active, STAKE, "not slashed");
        Check.eq(staking.stakeOf(NODE).locked, 0, "free");
        Check.eq(payments.refundOf(id, 1), 0, "nor refunded");
    }

    function testACanaryThatIsOpenedDuringAnAppealCounts() external {
        BatchId id = _settledWithCanaries(15, 0);
        uint256[3] memory before = _stakes(id);
        _appeal(NODE, id, 1, REJECTED);
        _openAll(id);
        _hear(id, 1, 0, 7);
        _conclude(id, 1);
        Check.eq(before[0] - _stakes(id)[0], 30 ether, "canary");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "not slashed");
    }

    function testAttackACanaryThatIsOpenedAfterItsAppealExcusesNoOtherLie() external {
        BatchId id = _settledWithCanaries(15, 0);
        uint256[3] memory before = _stakes(id);
        // The ring has a leaf of its own found bad, which begins the time to appeal anew, and calls it a canary then.
        _appeal(NODE, id, 1, REJECTED);
        _hear(id, 1, 0, 7);
        _conclude(id, 1);
        Check.eq(before[0] - _stakes(id)[0], 8 ether, "an overturned vote");
        _openAll(id);
        Check.eq(finality.marksOf(id).canaries, CANARIES & ~uint256(2), "whose appeal is over is none any more");
        // Somebody else finds a lie that was meant.
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(before[i] - _stakes(id)[i], 16 ether, "another");
        }
        Check.yes(appeals.creditOf(ALICE) > BOND_1, "and a prize for it");
    }

    function testANodeCannotCallTheAnswerOfAClientThatItCheatedACanary() external {
        BatchId id = _settledWithCanaries(5, CANARIES);
        (Opening[] memory openings, bytes[] memory signatures) = _openings(id, CANARIES);
        // The node signs itself.
        signatures[1] = _sign(0xA0DE, canaries.digestOf(id, 3));
        _refused(abi.encodeWithSelector(ICanaries.CanariesBadSignature.selector, 3, _client), id, openings, signatures);
        // The client agreed to the other leaf, and to the same leaf of another batch.
        signatures[1] = _sign(CLIENT_KEY, canaries.digestOf(id, 1));
        _refused(abi.encodeWithSelector(ICanaries.CanariesBadSignature.selector, 3, _client), id, openings, signatures);
        signatures[1] = _sign(CLIENT_KEY, canaries.digestOf(BatchId.wrap("another"), 3));
        _refused(abi.encodeWithSelector(ICanaries.CanariesBadSignature.selector, 3, _client), id, openings, signatures);
        // It may leave the leaf out only by leaving out all: the number is in the commitment.
        _finalize(id);
        Check.eq(STAKE - staking.stakeOf(NODE).active, 2 ether, "slashed");
    }

    function testAnAnswerForNobodyIsNoCanary() external {
        _client = address(0);
        BatchId id = _settledWithCanaries(5, CANARIES);
        (Opening[] memory openings, bytes[] memory signatures) = _openings(id, CANARIES);
        _refused(
            abi.encodeWithSelector(ICanaries.CanariesBadSignature.selector, 1, address(0)), id, openings, signatures
        );
        // Not even with a signature from which nobody is recovered.
        signatures[0] = new bytes(65);
        _refused(
            abi.encodeWithSelector(ICanaries.CanariesBadSignature.selector, 1, address(0)), id, openings, signatures
        );
    }

    function testAContractWalletSigns() external {
        SigningWallet wallet = new SigningWallet();
        _client = address(wallet);
        BatchId id = _settledWithCanaries(5, CANARIES);
        (Opening[] memory openings,) = _openings(id, CANARIES);
        bytes[] memory signatures = new bytes[](2);
        _refused(
            abi.encodeWithSelector(ICanaries.CanariesBadSignature.selector, 1, _client), id, openings, signatures
        );
        wallet.agree(canaries.digestOf(id, 1));
        _refused(
            abi.encodeWithSelector(ICanaries.CanariesBadSignature.selector, 3, _client), id, openings, signatures
        );
        wallet.agree(canaries.digestOf(id, 3));
        canaries.open(_headerOf(id), CANARIES, SALT, openings, signatures);
        Check.eq(finality.marksOf(id).canaries, CANARIES, "EIP-1271");
    }

    function testOnlyWhatWasCommittedToIsOpened() external {
        BatchId id = _settledWithCanaries(5, CANARIES);
        (Opening[] memory openings, bytes[] memory signatures) = _openings(id, CANARIES);
        Header memory header = _headerOf(id);
        for (uint256 leaves = 0; leaves < 16; ++leaves) {
            if (leaves == CANARIES) continue;
            bytes32 opened = keccak256(abi.encode(leaves, SALT));
            vm.expectRevert(
                abi.encodeWithSelector(ICanaries.CanariesCommitmentMismatch.selector, header.canary, opened)
            );
            canaries.open(header, leaves, SALT, openings, signatures);
        }
        vm.expectPartialRevert(ICanaries.CanariesCommitmentMismatch.selector);
        canaries.open(header, CANARIES, "other salt", openings, signatures);
        // A header of its own gives another batch, of which nobody knows.
        header.canary = keccak256(abi.encode(uint256(15), SALT));
        (openings, signatures) = _openings(id, 15);
        vm.expectPartialRevert(ICanaries.CanariesBadOpening.selector);
        canaries.open(header, 15, SALT, openings, signatures);
    }

    function testEveryCanaryIsShownOnceAndInOrder() external {
        BatchId id = _settledWithCanaries(5, CANARIES);
        (Opening[] memory openings, bytes[] memory signatures) = _openings(id, CANARIES);
        Opening[] memory one = new Opening[](1);
        one[0] = openings[0];
        _refused(abi.encodeWithSelector(ICanaries.CanariesWrongNumber.selector, 1, 2), id, one, signatures);
        _refused(abi.encodeWithSelector(ICanaries.CanariesWrongNumber.selector, 0, 2), id, openings, new bytes[](0));
        Opening memory second = openings[1];
        openings[1] = openings[0];
        _refused(abi.encodeWithSelector(ICanaries.CanariesWrongLeaf.selector, 1, 3), id, openings, signatures);
        openings[0] = second;
        _refused(abi.encodeWithSelector(ICanaries.CanariesWrongLeaf.selector, 3, 1), id, openings, signatures);
        openings[0].index = 257;
        _refused(abi.encodeWithSelector(ICanaries.CanariesWrongLeaf.selector, 257, 1), id, openings, signatures);
    }

    function testAnOpeningMustLeadToTheRoot() external {
        BatchId id = _settledWithCanaries(5, CANARIES);
        bytes memory bad = abi.encodeWithSelector(ICanaries.CanariesBadOpening.selector, id, 1);
        (Opening[] memory openings, bytes[] memory signatures) = _openings(id, CANARIES);
        openings[0].receipt.feeWei = 7;
        _refused(bad, id, openings, signatures);
        (openings,) = _openings(id, CANARIES);
        openings[0].proof[3] = "sibling";
        _refused(bad, id, openings, signatures);
        (openings,) = _openings(id, CANARIES);
        openings[0].proof = new bytes32[](7);
        _refused(bad, id, openings, signatures);
        (openings,) = _openings(id, CANARIES);
        openings[0].receipt.node = ALICE;
        _refused(bad, id, openings, signatures);
    }

    function testOpeningTwiceChangesNothing() external {
        BatchId id = _settledWithCanaries(5, CANARIES);
        _openAll(id);
        _openAll(id);
        Check.eq(finality.marksOf(id).canaries, CANARIES, "as before");
        _finalize(id);
        Check.eq(staking.stakeOf(NODE).active, STAKE, "not slashed");
    }

    function testCanariesAreOpenedWhenTheVerdictIsThereAndCanStillChange() external {
        (bytes32 root, bytes32 canary) = _tree();
        BatchId id = _anchor(root, canary, LEAVES);
        _draw(id);
        (Opening[] memory openings, bytes[] memory signatures) = _openings(id, CANARIES);
        // Before, it would tell the verifiers.
        _refused(abi.encodeWithSelector(IFinality.FinalityNotSettled.selector, id), id, openings, signatures);
        _vote(id, 5, CANARIES, 5, CANARIES, 5, CANARIES);
        uint256 deadline = timestamp + 600;
        _wait(600);
        _openAll(id);
        _wait(1);
        _refused(abi.encodeWithSelector(IFinality.FinalityDeadlinePassed.selector, deadline), id, openings, signatures);
        _finalizeNow(id);
        _refused(abi.encodeWithSelector(IFinality.FinalityNotSettled.selector, id), id, openings, signatures);
    }

    function testLeavesBeyondTheBatchAreNoCanaries() external {
        (bytes32 root, bytes32 canary) = _tree();
        // The tree has four leaves, the batch two.
        BatchId id = _anchor(root, canary, 2);
        _draw(id);
        _vote(id, 1, 2, 1, 2, 1, 2);
        _openAll(id);
        Check.eq(finality.marksOf(id).canaries, 2, "leaf 1");
    }

    function testABatchWithoutCanariesCanSaySo() external {
        bytes32 canary = keccak256(abi.encode(uint256(0), SALT));
        BatchId id = _anchor("root", canary, 1);
        _draw(id);
        _vote(id, 1, 0, 1, 0, 1, 0);
        canaries.open(_headerOf(id), 0, SALT, new Opening[](0), new bytes[](0));
        Check.eq(finality.marksOf(id).canaries, 0, "none");
    }

    function testACalibrationHasNoCanaries() external {
        bytes32 canary = keccak256(abi.encode(uint256(0), SALT));
        Check.yes(canary != NO_CANARY, "as the fixture anchors it");
        BatchId id = _answer(_request(_verifier(0), Role.Verifier), "calibration");
        _vote(id, 3, 0, 3, 0, 3, 0);
        Header memory header = _headerOf(id);
        vm.prank(address(canaries));
        vm.expectRevert(abi.encodeWithSelector(IFinality.FinalityNotForCalibration.selector, id));
        finality.noteCanaries(header, 1);
    }

    function testWhatAClientSignsNamesChainContractBatchAndLeaf() external {
        BatchId id = BatchId.wrap("batch");
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Trine"),
                keccak256("1"),
                block.chainid,
                address(canaries)
            )
        );
        bytes32 structHash = keccak256(abi.encode(keccak256("Canary(bytes32 batchId,uint256 leafIndex)"), id, 3));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, structHash));
        Check.eq(canaries.digestOf(id, 3), digest, "EIP-712");
        vm.chainId(block.chainid + 1);
        Check.yes(canaries.digestOf(id, 3) != digest, "of this chain");
    }

    function testAConstructorRefusesToMissAContract() external {
        bytes memory code = vm.getCode("Canaries");
        for (uint256 missing = 0; missing < 2; ++missing) {
            bytes memory initCode = bytes.concat(
                code, abi.encode(missing == 0 ? address(0) : ALICE, missing == 1 ? address(0) : ALICE)
            );
            address created;
            bytes32 reason;
            assembly ("memory-safe") {
                created := create(0, add(initCode, 32), mload(initCode))
                returndatacopy(0, 0, 4)
                reason := mload(0)
            }
            Check.eq(created, address(0), "refused");
            Check.yes(bytes4(reason) == ICanaries.CanariesZeroAddress.selector, "for the missing one");
        }
    }

    function _settledWithCanaries(uint256 accepts, uint256 rejects) private returns (BatchId id) {
        (bytes32 root, bytes32 canary) = _tree();
        id = _anchor(root, canary, LEAVES);
        _draw(id);
        _vote(id, accepts, rejects, accepts, rejects, accepts, rejects);
    }

    function _stakes(BatchId id) private view returns (uint256[3] memory stakes) {
        for (uint256 i = 0; i < 3; ++i) {
            stakes[i] = staking.stakeOf(_seatOf(id, i)).active;
        }
    }

    function _tree() private view returns (bytes32 root, bytes32 canary) {
        return (Trees.root(_receipts()), keccak256(abi.encode(CANARIES, SALT)));
    }

    function _receipts() private view returns (Receipt[] memory receipts) {
        receipts = new Receipt[](LEAVES);
        for (uint256 i = 0; i < LEAVES; ++i) {
            receipts[i].client = _client;
            receipts[i].node = NODE;
            receipts[i].modelId = ModelId.unwrap(model);
            receipts[i].inputHash = keccak256(abi.encode("input", i));
            receipts[i].feeWei = 1 ether;
        }
    }

    function _openAll(BatchId id) private {
        (Opening[] memory openings, bytes[] memory signatures) = _openings(id, CANARIES);
        canaries.open(_headerOf(id), CANARIES, SALT, openings, signatures);
    }

    function _openings(BatchId id, uint256 leaves)
        private
        returns (Opening[] memory openings, bytes[] memory signatures)
    {
        Receipt[] memory receipts = _receipts();
        bytes32 canary = _headerOf(id).canary;
        uint256 count = 0;
        for (uint256 i = 0; i < LEAVES; ++i) {
            count += (leaves >> i) & 1;
        }
        openings = new Opening[](count);
        signatures = new bytes[](count);
        uint256 next = 0;
        for (uint256 i = 0; i < LEAVES; ++i) {
            if ((leaves >> i) & 1 == 0) continue;
            openings[next] = Trees.open(receipts, i, canary);
            signatures[next++] = _sign(CLIENT_KEY, canaries.digestOf(id, i));
        }
    }

    function _sign(uint256 key, bytes32 digest) private returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function _refused(bytes memory reason, BatchId id, Opening[] memory openings, bytes[] memory signatures) private {
        Header memory header = _headerOf(id);
        vm.expectRevert(reason);
        canaries.open(header, CANARIES, SALT, openings, signatures);
    }
}

/// @notice A wallet that signs by remembering what it agreed to (EIP-1271).
contract SigningWallet {
    mapping(bytes32 digest => bool) private _agreed;

    function agree(bytes32 digest) external {
        _agreed[digest] = true;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return _agreed[digest] ? this.isValidSignature.selector : bytes4(0);
    }
}
