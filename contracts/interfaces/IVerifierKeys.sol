// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title BLS keys of operators
/// @notice Each operator has at most one key, in G2; signatures are in G1 (see `Bls12381`). Only a key's hash is
/// stored: whoever checks a signature passes the keys as calldata, one cold read a key instead of eight.
interface IVerifierKeys {
    /// @param key The whole key, so that key sets can be rebuilt from events.
    /// @param previousHash keccak256 of the key that this one replaces; zero for the first.
    event KeyRegistered(address indexed operator, bytes32 indexed keyHash, bytes32 previousHash, bytes key);

    error VerifierKeysInvalidKeyLength(uint256 length);
    error VerifierKeysKeyTaken(bytes32 keyHash, address operator);
    error VerifierKeysInvalidProof(address operator, bytes32 keyHash);
    error VerifierKeysSignersOutOfBounds(uint256 count, uint256 maximum);
    error VerifierKeysKeysLength(uint256 length, uint256 required);
    error VerifierKeysWrongKey(address signer, bytes32 keyHash, bytes32 registeredHash);
    error VerifierKeysNotSigned(bytes32 message);

    /// @notice Makes `key` the caller's, in place of an earlier one if there is one. No key is ever registered twice,
    /// by anybody, also not after it was replaced.
    /// @param key 256 bytes in EIP-2537's encoding.
    /// @param proof Signature by the key, with the tag for proofs of possession, of
    /// abi.encode(chain id, this contract, caller, keccak256(key)): copied from somewhere else, it is worthless.
    /// @dev The proof also shows that the key is in the subgroup, on which all later sums of keys rely.
    function register(bytes calldata key, bytes calldata proof) external;

    /// @notice Reverts unless the current keys of all `signers` have signed `message`, as one aggregate.
    /// @param keys The signers' keys in the same order, 256 bytes each, back to back.
    /// @param signature Sum of their signatures, 128 bytes.
    /// @dev Warning: does not compare signers with each other. The caller passes distinct ones, as a committee is.
    /// @dev Warning: only current keys count. Whoever replaces a key while a certificate is being made breaks it.
    function requireSigned(
        bytes32 message,
        address[] calldata signers,
        bytes calldata keys,
        bytes calldata signature
    ) external view;

    /// @notice keccak256 of the operator's current key; zero if it has none.
    function keyHashOf(address operator) external view returns (bytes32);

    /// @notice Who registered the key, also if it was replaced since; zero if nobody did.
    function operatorOf(bytes32 keyHash) external view returns (address);
}
