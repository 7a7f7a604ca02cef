// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IVerifierKeys} from "./interfaces/IVerifierKeys.sol";
import {Bls12381} from "./libraries/Bls12381.sol";

/// @title BLS keys of operators
/// @dev Documented in `IVerifierKeys`. Has no owner and calls nothing but precompiles.
contract VerifierKeys is IVerifierKeys {
    uint256 public constant MAX_SIGNERS = 64;

    mapping(address operator => bytes32) private _keyHashes;
    mapping(bytes32 keyHash => address) private _operators;

    /// @inheritdoc IVerifierKeys
    function register(bytes calldata key, bytes calldata proof) external {
        require(key.length == Bls12381.KEY_BYTES, VerifierKeysInvalidKeyLength(key.length));
        // A point has one encoding, so its hash names it.
        bytes32 keyHash = keccak256(key);
        address owner = _operators[keyHash];
        require(owner == address(0), VerifierKeysKeyTaken(keyHash, owner));
        bytes memory message = abi.encode(block.chainid, address(this), msg.sender, keyHash);
        require(
            Bls12381.verify(message, Bls12381.PROOF_TAG, key, proof), VerifierKeysInvalidProof(msg.sender, keyHash)
        );
        bytes32 previousHash = _keyHashes[msg.sender];
        _keyHashes[msg.sender] = keyHash;
        _operators[keyHash] = msg.sender;
        emit KeyRegistered(msg.sender, keyHash, previousHash, key);
    }

    /// @inheritdoc IVerifierKeys
    function requireSigned(
        bytes32 message,
        address[] calldata signers,
        bytes calldata keys,
        bytes calldata signature
    ) external view {
        uint256 count = signers.length;
        require(count > 0 && count <= MAX_SIGNERS, VerifierKeysSignersOutOfBounds(count, MAX_SIGNERS));
        uint256 size = Bls12381.KEY_BYTES;
        require(keys.length == count * size, VerifierKeysKeysLength(keys.length, count * size));
        for (uint256 i = 0; i < count; ++i) {
            bytes32 keyHash = keccak256(keys[i * size:(i + 1) * size]);
            bytes32 registeredHash = _keyHashes[signers[i]];
            // No key hashes to zero, so this also refuses whoever has none.
            require(keyHash == registeredHash, VerifierKeysWrongKey(signers[i], keyHash, registeredHash));
        }
        require(Bls12381.verify(message, keys, signature), VerifierKeysNotSigned(message));
    }

    /// @inheritdoc IVerifierKeys
    function keyHashOf(address operator) external view returns (bytes32) {
        return _keyHashes[operator];
    }

    /// @inheritdoc IVerifierKeys
    function operatorOf(bytes32 keyHash) external view returns (address) {
        return _operators[keyHash];
    }
}
