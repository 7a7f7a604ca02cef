// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Bls12381} from "../../contracts/libraries/Bls12381.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Built} from "./Built.sol";
import {Checker} from "./Measured.sol";
import {Check, vm} from "./Vm.sol";

contract Bls12381Test {
    uint256 private constant GROUP_ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;

    Checker private _checker;
    string private _json;
    bytes32 private _message;
    bytes[] private _keys;

    function setUp() external {
        _checker = Checker(Built.create("Checker"));
        _json = vm.readFile("tests/vectors/bls.json");
        _message = vm.parseJsonBytes32(_json, ".message");
        _keys = vm.parseJsonBytesArray(_json, ".key");
    }

    function testHashesToThePointsThatTheRfcPrints() external view {
        bytes[] memory messages = vm.parseJsonBytesArray(_json, ".rfc9380_message");
        bytes[] memory points = vm.parseJsonBytesArray(_json, ".rfc9380_point");
        bytes memory tag = vm.parseJsonBytes(_json, ".rfc9380_tag");
        Check.eq(messages.length, 5, "cases");
        for (uint256 i = 0; i < messages.length; ++i) {
            Check.eq(keccak256(_checker.hashToG1(messages[i], tag)), keccak256(points[i]), "point");
        }
    }

    function testHashesMessagesLikePython() external view {
        bytes memory point = _checker.hashToG1(abi.encodePacked(_message), Bls12381.MESSAGE_TAG);
        Check.eq(keccak256(point), keccak256(vm.parseJsonBytes(_json, ".hash")), "hash");
    }

    function testTheTestsSignerSignsLikePython() external view {
        bytes32[] memory secrets = vm.parseJsonBytes32Array(_json, ".secret");
        bytes[] memory signatures = vm.parseJsonBytesArray(_json, ".signature");
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(keccak256(BlsSigner.publicKey(uint256(secrets[i]))), keccak256(_keys[i]), "key");
            Check.eq(keccak256(BlsSigner.sign(uint256(secrets[i]), _message)), keccak256(signatures[i]), "signature");
        }
    }

    function testKeysAddUp() external view {
        bytes memory five = BlsSigner.publicKey(5);
        Check.eq(keccak256(_checker.aggregate(five)), keccak256(five), "one");
        bytes memory sum = _checker.aggregate(bytes.concat(five, BlsSigner.publicKey(7), BlsSigner.publicKey(9)));
        Check.eq(keccak256(sum), keccak256(BlsSigner.publicKey(21)), "three");
    }

    function testVerifiesAggregatesOfPython() external view {
        for (uint256 count = 1; count <= _keys.length; ++count) {
            (bool valid,) = _checker.verify(_message, _keysOf(count), _aggregate(count));
            Check.yes(valid, "valid");
        }
    }

    function testChecksStayCheap() external view {
        uint256[3] memory counts = [uint256(3), 7, 15];
        uint256[3] memory limits = [uint256(121_000), 125_000, 132_000];
        for (uint256 i = 0; i < 3; ++i) {
            (, uint256 gasUsed) = _checker.verify(_message, _keysOf(counts[i]), _aggregate(counts[i]));
            Check.atMost(gasUsed, limits[i], "gas");
        }
    }

    function testRefusesAnotherMessageAndTooFewOrTooManyKeys() external view {
        _refused(keccak256("another"), _keysOf(3), _aggregate(3));
        _refused(_message, _keysOf(2), _aggregate(3));
        _refused(_message, _keysOf(4), _aggregate(3));
    }

    function testFuzz_refusesEveryOtherMessage(bytes32 message) external {
        vm.assume(message != _message);
        _refused(message, _keysOf(1), _aggregate(1));
    }

    function testRefusesAProofOfPossessionAsASignature() external view {
        bytes memory proof = BlsSigner.sign(7, abi.encodePacked(_message), Bls12381.PROOF_TAG);
        _refused(_message, BlsSigner.publicKey(7), proof);
    }

    function testRefusesTheZeroKeyWithTheZeroSignature() external {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381Infinity.selector));
        _checker.verify(_message, new bytes(256), new bytes(128));
    }

    function testRefusesAZeroKeyAmongOthers() external {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381Infinity.selector));
        _checker.verify(_message, bytes.concat(_keys[0], new bytes(256)), _aggregate(1));
    }

    function testRefusesTheZeroSignature() external {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381Infinity.selector));
        _checker.verify(_message, _keys[0], new bytes(128));
    }

    function testRefusesKeysThatAddUpToInfinity() external {
        bytes memory keys = bytes.concat(BlsSigner.publicKey(5), BlsSigner.publicKey(GROUP_ORDER - 5));
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381Infinity.selector));
        _checker.verify(_message, keys, _aggregate(1));
    }

    function testRefusesToCheckNobody() external {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381InvalidKeysLength.selector, 0));
        _checker.verify(_message, "", _aggregate(1));
    }

    function testRefusesHalfAKey() external {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381InvalidKeysLength.selector, 255));
        _checker.verify(_message, new bytes(255), _aggregate(1));
    }

    function testRefusesASignatureOfAnotherLength() external {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381InvalidSignatureLength.selector, 129));
        _checker.verify(_message, _keys[0], bytes.concat(_aggregate(1), hex"00"));
    }

    function testRefusesATagThatTheRfcWouldHash() external {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381TagTooLong.selector, 256));
        _checker.hashToG1("", new bytes(256));
        Check.eq(_checker.hashToG1("", new bytes(255)).length, 128, "the longest that it does not");
    }

    function testMessagesMayBeLong() external view {
        bytes memory message = new bytes(2000);
        bytes memory signature = BlsSigner.sign(7, message, Bls12381.MESSAGE_TAG);
        bytes memory key = BlsSigner.publicKey(7);
        Check.yes(this.verify(message, key, signature), "signed");
        message[1999] = 0x01;
        Check.yes(!this.verify(message, key, signature), "another");
        Check.eq(
            keccak256(_checker.hashToG1(message, Bls12381.MESSAGE_TAG)),
            keccak256(Bls12381.hashToG1(message, Bls12381.MESSAGE_TAG)),
            "the same point, whoever hashes"
        );
    }

    function testRefusesPointsOutsideTheSubgroup() external {
        bytes memory key = vm.parseJsonBytes(_json, ".outside_g2");
        // On the twist: what only adds takes it, which is why keys are paired alone once.
        _checker.aggregate(bytes.concat(_keys[0], key));
        _expectFailure(0x0f);
        _checker.verify(_message, key, _aggregate(1));
        bytes memory signature = vm.parseJsonBytes(_json, ".outside_g1");
        _expectFailure(0x0f);
        _checker.verify(_message, _keys[0], signature);
    }

    function testRefusesASecondEncodingOfACoordinate() external {
        // x.c0 plus the modulus: the same residue, but not below p.
        bytes memory key = _keys[0];
        uint256 low = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
        uint256 high = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
        assembly ("memory-safe") {
            let sum := add(mload(add(key, 64)), low)
            mstore(add(key, 32), add(add(mload(add(key, 32)), high), lt(sum, low)))
            mstore(add(key, 64), sum)
        }
        _expectFailure(0x0f);
        _checker.verify(_message, key, _aggregate(1));
        _expectFailure(0x0d);
        _checker.verify(_message, bytes.concat(key, _keys[1]), _aggregate(2));
    }

    function testGarbageBurnsAtMostTheStipendOfOneCall() external view {
        bytes memory garbage = new bytes(256);
        garbage[255] = 0x01;
        bytes memory signature = _aggregate(1);
        // In the sum: the hash and one addition.
        Check.atMost(_burned(bytes.concat(_keys[0], garbage), signature), 20_000, "burned in the sum");
        // In the pairing: the hash and one pairing check.
        Check.atMost(_burned(garbage, signature), 145_000, "burned in the pairing");
    }

    function testTooLittleGasRevertsInsteadOfDenying() external view {
        bytes memory keys = _keysOf(3);
        bytes memory signature = _aggregate(3);
        for (uint256 offered = 5_000; offered < 130_000; offered += 2_500) {
            try _checker.verify{gas: offered}(_message, keys, signature) returns (bool valid, uint256) {
                Check.yes(valid, "either an answer that is right or none");
            } catch {}
        }
    }

    function verify(bytes calldata message, bytes calldata keys, bytes calldata signature)
        external
        view
        returns (bool)
    {
        return Bls12381.verify(message, Bls12381.MESSAGE_TAG, keys, signature);
    }

    /// Gas, besides the transaction's own, that a refused check takes of five million.
    function _burned(bytes memory keys, bytes memory signature) private view returns (uint256) {
        uint256 before = gasleft();
        try _checker.verify{gas: 5_000_000}(_message, keys, signature) {
            revert("not refused");
        } catch {
            return before - gasleft() - 21_000;
        }
    }

    function _refused(bytes32 message, bytes memory keys, bytes memory signature) private view {
        (bool valid,) = _checker.verify(message, keys, signature);
        Check.yes(!valid, "refused");
    }

    function _expectFailure(uint256 precompile) private {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.Bls12381PrecompileFailed.selector, precompile));
    }

    function _keysOf(uint256 count) private view returns (bytes memory keys) {
        for (uint256 i = 0; i < count; ++i) {
            keys = bytes.concat(keys, _keys[i]);
        }
    }

    function _aggregate(uint256 count) private view returns (bytes memory) {
        return vm.parseJsonBytesArray(_json, ".aggregate")[count - 1];
    }
}
