// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IVerifierKeys} from "../../contracts/interfaces/IVerifierKeys.sol";
import {Bls12381} from "../../contracts/libraries/Bls12381.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";

contract VerifierKeysTest {
    bytes32 private constant MESSAGE = keccak256("a result");
    address private constant MALLORY = address(0xbad);
    uint256 private constant GROUP_ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;

    IVerifierKeys private _registry;
    address[] private _signers;
    uint256[] private _secrets;

    function setUp() external {
        _registry = IVerifierKeys(Built.create("VerifierKeys"));
        for (uint256 i = 0; i < 3; ++i) {
            _secrets.push(1000 + i);
            _signers.push(address(uint160(100 + i)));
            _register(_secrets[i], _signers[i]);
        }
    }

    function testProofsOfPythonRegisterTheirKeys() external {
        string memory json = vm.readFile("tests/vectors/bls.json");
        address registry = vm.parseJsonAddress(json, ".registry");
        vm.etch(registry, address(_registry).code);
        address[] memory operators = vm.parseJsonAddressArray(json, ".operator");
        bytes[] memory keys = vm.parseJsonBytesArray(json, ".key");
        bytes[] memory proofs = vm.parseJsonBytesArray(json, ".possession");
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(operators[i]);
            IVerifierKeys(registry).register(keys[i], proofs[i]);
            Check.eq(IVerifierKeys(registry).keyHashOf(operators[i]), keccak256(keys[i]), "key");
            Check.eq(IVerifierKeys(registry).operatorOf(keccak256(keys[i])), operators[i], "operator");
        }
    }

    function testAKeyWithoutAProofIsRefused() external {
        bytes memory key = BlsSigner.publicKey(7);
        bytes memory message = abi.encode(block.chainid, _registry, MALLORY, keccak256(key));
        // Signed as a message, not as a proof.
        _refused(key, BlsSigner.sign(7, message, Bls12381.MESSAGE_TAG), _invalidProof(key));
    }

    function testARogueKeyIsRefused() external {
        // Mallory's key is chosen as the difference of one that it knows and the others': it has no proof for it.
        bytes memory rogue = BlsSigner.publicKey(GROUP_ORDER + 7 - 1000 - 1001);
        bytes memory keys = bytes.concat(BlsSigner.publicKey(1000), BlsSigner.publicKey(1001), rogue);
        Check.yes(this.verify(MESSAGE, keys, BlsSigner.sign(7, MESSAGE)), "it would forge the others' signatures");
        bytes memory message = abi.encode(block.chainid, _registry, MALLORY, keccak256(rogue));
        _refused(rogue, BlsSigner.sign(7, message, Bls12381.PROOF_TAG), _invalidProof(rogue));
    }

    function testAProofOfAnotherOperatorIsRefused() external {
        bytes memory key = BlsSigner.publicKey(7);
        _refused(key, BlsSigner.prove(7, address(_registry), address(0x600d)), _invalidProof(key));
    }

    function testAProofForAnotherRegistryIsRefused() external {
        bytes memory key = BlsSigner.publicKey(7);
        _refused(key, BlsSigner.prove(7, address(0x1234), MALLORY), _invalidProof(key));
    }

    function testAProofForAnotherChainIsRefused() external {
        bytes memory key = BlsSigner.publicKey(7);
        bytes memory proof = BlsSigner.prove(7, address(_registry), MALLORY);
        vm.chainId(1);
        _refused(key, proof, _invalidProof(key));
    }

    function testAKeyOfAnotherOperatorIsRefused() external {
        bytes memory key = BlsSigner.publicKey(1000);
        bytes memory taken =
            abi.encodeWithSelector(IVerifierKeys.VerifierKeysKeyTaken.selector, keccak256(key), _signers[0]);
        _refused(key, BlsSigner.prove(1000, address(_registry), MALLORY), taken);
    }

    function testAReplacedKeyIsNeverUsedAgain() external {
        bytes memory next = BlsSigner.publicKey(7);
        vm.expectEmit(address(_registry));
        emit IVerifierKeys.KeyRegistered(
            _signers[0], keccak256(next), keccak256(BlsSigner.publicKey(1000)), next
        );
        _register(7, _signers[0]);
        Check.eq(_registry.keyHashOf(_signers[0]), keccak256(BlsSigner.publicKey(7)), "replaced");
        bytes memory key = BlsSigner.publicKey(1000);
        Check.eq(_registry.operatorOf(keccak256(key)), _signers[0], "still its operator's");
        bytes memory proof = BlsSigner.prove(1000, address(_registry), _signers[0]);
        vm.expectRevert(
            abi.encodeWithSelector(IVerifierKeys.VerifierKeysKeyTaken.selector, keccak256(key), _signers[0])
        );
        vm.prank(_signers[0]);
        _registry.register(key, proof);
    }

    function testAReplacedKeySignsNoMore() external {
        (bytes memory keys, bytes memory signature) = BlsSigner.signAll(_secrets, MESSAGE);
        _register(7, _signers[0]);
        vm.expectPartialRevert(IVerifierKeys.VerifierKeysWrongKey.selector);
        _registry.requireSigned(MESSAGE, _signers, keys, signature);
    }

    function testTheZeroKeyWithTheZeroProofIsRefused() external {
        _refused(new bytes(256), new bytes(128), abi.encodeWithSelector(Bls12381.Bls12381Infinity.selector));
    }

    function testAKeyOutsideTheSubgroupIsRefused() external {
        bytes memory key = vm.parseJsonBytes(vm.readFile("tests/vectors/bls.json"), ".outside_g2");
        bytes memory error_ = abi.encodeWithSelector(Bls12381.Bls12381PrecompileFailed.selector, 0x0f);
        _refused(key, BlsSigner.sign(7, MESSAGE), error_);
    }

    function testAKeyOfAnotherLengthIsRefused() external {
        bytes memory error_ = abi.encodeWithSelector(IVerifierKeys.VerifierKeysInvalidKeyLength.selector, 512);
        _refused(new bytes(512), new bytes(128), error_);
    }

    function testAllSignersTogetherPass() external view {
        (bytes memory keys, bytes memory signature) = BlsSigner.signAll(_secrets, MESSAGE);
        _registry.requireSigned(MESSAGE, _signers, keys, signature);
        Check.atMost(vm.lastCallGas().gasTotalUsed, 132_000, "gas");
    }

    function testOneMissingSignatureFails() external {
        (bytes memory keys,) = BlsSigner.signAll(_secrets, MESSAGE);
        bytes memory signature = BlsSigner.add(BlsSigner.sign(1000, MESSAGE), BlsSigner.sign(1001, MESSAGE));
        vm.expectRevert(abi.encodeWithSelector(IVerifierKeys.VerifierKeysNotSigned.selector, MESSAGE));
        _registry.requireSigned(MESSAGE, _signers, keys, signature);
    }

    function testKeysInAnotherOrderFail() external {
        (, bytes memory signature) = BlsSigner.signAll(_secrets, MESSAGE);
        (_secrets[0], _secrets[1]) = (_secrets[1], _secrets[0]);
        (bytes memory keys,) = BlsSigner.signAll(_secrets, MESSAGE);
        vm.expectPartialRevert(IVerifierKeys.VerifierKeysWrongKey.selector);
        _registry.requireSigned(MESSAGE, _signers, keys, signature);
    }

    function testWhoHasNoKeyCannotSign() external {
        _signers.push(MALLORY);
        _secrets.push(7);
        (bytes memory keys, bytes memory signature) = BlsSigner.signAll(_secrets, MESSAGE);
        vm.expectPartialRevert(IVerifierKeys.VerifierKeysWrongKey.selector);
        _registry.requireSigned(MESSAGE, _signers, keys, signature);
    }

    function testNobodyCannotSign() external {
        bytes memory signature = BlsSigner.sign(7, MESSAGE);
        vm.expectRevert(abi.encodeWithSelector(IVerifierKeys.VerifierKeysSignersOutOfBounds.selector, 0, 64));
        _registry.requireSigned(MESSAGE, new address[](0), "", signature);
    }

    function testNoMoreThan64Sign() external {
        vm.expectRevert(abi.encodeWithSelector(IVerifierKeys.VerifierKeysSignersOutOfBounds.selector, 65, 64));
        _registry.requireSigned(MESSAGE, new address[](65), "", "");
        // As many are looked at, and these have no keys.
        vm.expectRevert(abi.encodeWithSelector(IVerifierKeys.VerifierKeysKeysLength.selector, 0, 64 * 256));
        _registry.requireSigned(MESSAGE, new address[](64), "", "");
    }

    function testMoreKeysThanSignersFail() external {
        (bytes memory keys, bytes memory signature) = BlsSigner.signAll(_secrets, MESSAGE);
        keys = bytes.concat(keys, BlsSigner.publicKey(7));
        vm.expectRevert(abi.encodeWithSelector(IVerifierKeys.VerifierKeysKeysLength.selector, 1024, 768));
        _registry.requireSigned(MESSAGE, _signers, keys, signature);
    }

    function verify(bytes32 message, bytes calldata keys, bytes calldata signature) external view returns (bool) {
        return Bls12381.verify(message, keys, signature);
    }

    function _register(uint256 secret, address operator) private {
        bytes memory key = BlsSigner.publicKey(secret);
        bytes memory proof = BlsSigner.prove(secret, address(_registry), operator);
        vm.prank(operator);
        _registry.register(key, proof);
    }

    function _refused(bytes memory key, bytes memory proof, bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(MALLORY);
        _registry.register(key, proof);
    }

    function _invalidProof(bytes memory key) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IVerifierKeys.VerifierKeysInvalidProof.selector, MALLORY, keccak256(key));
    }
}
