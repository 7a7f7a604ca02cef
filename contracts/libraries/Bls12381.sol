// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// Assembly where its comment says why.
// slither-disable-start assembly,too-many-digits
/// @title BLS signatures on BLS12-381: keys in G2, signatures in G1
/// @notice Aggregate signatures over one message by the ciphersuite
/// BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_ of draft-irtf-cfrg-bls-signature, with hash_to_curve of RFC 9380, on
/// the precompiles of EIP-2537. `trine.protocol.bls` is the twin.
///
/// Signatures are in G1 (min-sig) because a check with three keys then costs 38-42k gas less than with keys in G1:
/// hashing to G2 takes four field elements and two maps of 23,800 gas, hashing to G1 two and two maps of 5,500.
///
/// Encoding is EIP-2537's: a field element is 64 bytes big-endian below p, a key 256 bytes (x.c0, x.c1, y.c0, y.c1), a
/// signature 128 bytes (x, y), infinity all zeros. The precompiles refuse everything else, so every point has one
/// encoding and a key may be known by its keccak256.
/// @dev Warning: keys are added before they are paired, and G2ADD checks no subgroup. Pass only keys that were each
/// paired alone once, as a proof of possession does. Without that proof an aggregate also proves nothing, because one
/// of the keys may have been chosen as a difference to the others.
/// @dev Warning: the keys are not compared with each other. Whoever counts signers must know that they are distinct.
/// @dev Bad input makes a precompile burn all the gas it was given, so each call is given its price and some slack for
/// a later repricing. A precompile that fails, for bad input or for want of gas, always reverts: `false` is never the
/// answer to a caller who forwarded too little gas.
// Precompiles take and give raw memory.
// solhint-disable no-inline-assembly
library Bls12381 {
    uint256 internal constant KEY_BYTES = 256;
    uint256 internal constant SIGNATURE_BYTES = 128;

    /// @dev Domain separation tags: of messages, and of proofs of possession.
    bytes internal constant MESSAGE_TAG = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    bytes internal constant PROOF_TAG = "BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

    uint256 private constant SHA256 = 0x02;
    uint256 private constant MODEXP = 0x05;
    uint256 private constant G1ADD = 0x0b;
    uint256 private constant G2ADD = 0x0d;
    uint256 private constant PAIRING_CHECK = 0x0f;
    uint256 private constant MAP_FP_TO_G1 = 0x10;

    // Priced at 200 (500 since Osaka), 375, 600, 37,700 + 2 * 32,600 and 5,500 gas.
    uint256 private constant MODEXP_GAS = 1_500;
    uint256 private constant G1ADD_GAS = 1_000;
    uint256 private constant G2ADD_GAS = 1_500;
    uint256 private constant PAIRING_GAS = 125_000;
    uint256 private constant MAP_GAS = 8_000;
    /// @dev 60 gas and 12 a word. Every input is valid, so nothing but the message's length bounds the price.
    uint256 private constant SHA256_WORD_GAS = 24;
    uint256 private constant SHA256_GAS = 1_000;

    /// @dev What hashing takes besides the message's length: 512 bytes, block 0 without the message, a whole word.
    uint256 private constant SCRATCH_BYTES = 512 + 64 + 3 + 256 + 29;

    /// @dev The field's modulus p: 16 bytes, then 32.
    uint256 private constant P_HIGH = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 private constant P_LOW = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;

    /// @dev The negated generator of G2.
    uint256 private constant NEG_G2_X0_HIGH = 0x024aa2b2f08f0a91260805272dc51051;
    uint256 private constant NEG_G2_X0_LOW = 0xc6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8;
    uint256 private constant NEG_G2_X1_HIGH = 0x13e02b6052719f607dacd3a088274f65;
    uint256 private constant NEG_G2_X1_LOW = 0x596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e;
    uint256 private constant NEG_G2_Y0_HIGH = 0x0d1b3cc2c7027888be51d9ef691d77bc;
    uint256 private constant NEG_G2_Y0_LOW = 0xb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa;
    uint256 private constant NEG_G2_Y1_HIGH = 0x13fa4d4a0ad8b1ce186ed5061789213d;
    uint256 private constant NEG_G2_Y1_LOW = 0x993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed;

    error Bls12381PrecompileFailed(uint256 precompile);
    /// @dev One of the precompiles behind hash_to_curve failed.
    error Bls12381HashFailed();
    error Bls12381InvalidKeysLength(uint256 length);
    error Bls12381InvalidSignatureLength(uint256 length);
    error Bls12381TagTooLong(uint256 length);
    /// @dev A key, the sum of the keys or the signature is the point at infinity, which "signs" everything.
    error Bls12381Infinity();

    /// @notice Whether `signature` is the sum of all keys' signatures over `message`, 32 bytes.
    /// @param keys One or more keys, 256 bytes each, back to back.
    function verify(bytes32 message, bytes calldata keys, bytes calldata signature) internal view returns (bool) {
        uint256 start = _allocate(64);
        bytes memory packed;
        assembly ("memory-safe") {
            packed := start
            mstore(packed, 32)
            mstore(add(packed, 32), message)
        }
        return verify(packed, MESSAGE_TAG, keys, signature);
    }

    /// @notice The same for any message and tag.
    function verify(bytes memory message, bytes memory tag, bytes calldata keys, bytes calldata signature)
        internal
        view
        returns (bool valid)
    {
        require(signature.length == SIGNATURE_BYTES, Bls12381InvalidSignatureLength(signature.length));
        // e(signature, -G2) * e(hash, sum of keys) == 1, one final exponentiation for both pairings: 768 bytes, and
        // behind them what hashing and adding take.
        uint256 input = _allocate(768 + SCRATCH_BYTES + message.length);
        uint256 hash;
        uint256 sum;
        bool done;
        assembly ("memory-safe") {
            hash := add(input, 384)
            sum := add(input, 512)
            calldatacopy(input, signature.offset, SIGNATURE_BYTES)
            done := or(or(mload(input), mload(add(input, 32))), or(mload(add(input, 64)), mload(add(input, 96))))
            done := iszero(iszero(done))
        }
        require(done, Bls12381Infinity());
        _hashToG1(message, tag, hash, sum);
        _aggregate(keys, sum);
        assembly ("memory-safe") {
            mstore(add(input, 128), NEG_G2_X0_HIGH)
            mstore(add(input, 160), NEG_G2_X0_LOW)
            mstore(add(input, 192), NEG_G2_X1_HIGH)
            mstore(add(input, 224), NEG_G2_X1_LOW)
            mstore(add(input, 256), NEG_G2_Y0_HIGH)
            mstore(add(input, 288), NEG_G2_Y0_LOW)
            mstore(add(input, 320), NEG_G2_Y1_HIGH)
            mstore(add(input, 352), NEG_G2_Y1_LOW)
            done := staticcall(PAIRING_GAS, PAIRING_CHECK, input, 768, 0x00, 32)
            done := and(done, eq(returndatasize(), 32))
            valid := mload(0x00)
        }
        require(done, Bls12381PrecompileFailed(PAIRING_CHECK));
    }

    /// @notice hash_to_curve of RFC 9380, suite BLS12381G1_XMD:SHA-256_SSWU_RO_, as a point of 128 bytes.
    function hashToG1(bytes memory message, bytes memory tag) internal view returns (bytes memory point) {
        uint256 start = _allocate(32 + SIGNATURE_BYTES);
        uint256 scratch = _allocate(SCRATCH_BYTES + message.length);
        assembly ("memory-safe") {
            point := start
            mstore(point, SIGNATURE_BYTES)
            start := add(start, 32)
        }
        _hashToG1(message, tag, start, scratch);
    }

    /// @notice Sum of one or more keys.
    function aggregate(bytes calldata keys) internal view returns (bytes memory key) {
        uint256 start = _allocate(32 + 2 * KEY_BYTES);
        assembly ("memory-safe") {
            key := start
            mstore(key, KEY_BYTES)
            start := add(start, 32)
        }
        _aggregate(keys, start);
    }

    /// @dev Writes the sum, 256 bytes, to `sum` and uses as many behind it.
    function _aggregate(bytes calldata keys, uint256 sum) private view {
        require(keys.length > 0 && keys.length % KEY_BYTES == 0, Bls12381InvalidKeysLength(keys.length));
        bool infinite;
        bool added = true;
        assembly ("memory-safe") {
            function isInfinite(key) -> yes {
                for { let end := add(key, KEY_BYTES) } lt(key, end) { key := add(key, 32) } {
                    yes := or(yes, mload(key))
                }
                yes := iszero(yes)
            }

            calldatacopy(sum, keys.offset, KEY_BYTES)
            // What is infinite has a zero for the lower half of x.c0; what is not, next to never.
            if iszero(mload(add(sum, 32))) { infinite := isInfinite(sum) }
            let next := add(sum, KEY_BYTES)
            let end := add(keys.offset, keys.length)
            for { let key := add(keys.offset, KEY_BYTES) } lt(key, end) { key := add(key, KEY_BYTES) } {
                calldatacopy(next, key, KEY_BYTES)
                if iszero(mload(add(next, 32))) { infinite := or(infinite, isInfinite(next)) }
                added := staticcall(G2ADD_GAS, G2ADD, sum, 512, sum, KEY_BYTES)
                added := and(added, eq(returndatasize(), KEY_BYTES))
                if iszero(added) { break }
            }
            if iszero(mload(add(sum, 32))) { infinite := or(infinite, isInfinite(sum)) }
        }
        require(added, Bls12381PrecompileFailed(G2ADD));
        require(!infinite, Bls12381Infinity());
    }

    /// @dev Writes 128 bytes to `point`; uses SCRATCH_BYTES and the message's length from `scratch` on. In assembly
    /// because that is two thousand gas cheaper.
    ///
    /// expand_message_xmd (RFC 9380, section 5.3.1) makes 128 bytes in blocks of 32: block 0 hashes 64 zeros, message,
    /// uint16(128), a zero and the tag with its length behind it; block i hashes (block 0 xor block i - 1, but block 0
    /// alone for i = 1), i and the tag. Each half of the four blocks is reduced mod p, by a modular exponentiation
    /// with exponent 1, and mapped to the curve; the sum of the two points is the hash. The map precompile has cleared
    /// the cofactor already, which may as well be done before adding.
    // One recipe, told in its order.
    // solhint-disable-next-line function-max-lines
    function _hashToG1(bytes memory message, bytes memory tag, uint256 point, uint256 scratch) private view {
        require(tag.length <= type(uint8).max, Bls12381TagTooLong(tag.length));
        bool done;
        assembly ("memory-safe") {
            // Blocks i and i + 1, their residue mod p, its point at `to`.
            function mapHalf(i, to, modexp, input, size, first) -> yes {
                let base := add(modexp, 96)
                mstore(input, xor(first, mload(add(modexp, 128))))
                mstore8(add(input, 32), i)
                yes := staticcall(SHA256_GAS, SHA256, input, size, base, 32)
                yes := and(yes, eq(returndatasize(), 32))
                mstore(input, xor(first, mload(base)))
                mstore8(add(input, 32), add(i, 1))
                yes := and(yes, staticcall(SHA256_GAS, SHA256, input, size, add(base, 32), 32))
                yes := and(yes, eq(returndatasize(), 32))
                yes := and(yes, staticcall(MODEXP_GAS, MODEXP, modexp, 225, to, 64))
                yes := and(yes, eq(returndatasize(), 64))
                yes := and(yes, staticcall(MAP_GAS, MAP_FP_TO_G1, to, 64, to, 128))
                yes := and(yes, eq(returndatasize(), 128))
            }

            // Two points, the input of the exponentiation, the input of the hashes.
            let modexp := add(scratch, 256)
            let input := add(scratch, 512)
            let length := mload(message)
            let tagLength := mload(tag)

            // Block 0
            calldatacopy(input, calldatasize(), 64)
            mcopy(add(input, 64), add(message, 32), length)
            let end := add(add(input, 64), length)
            mstore(end, shl(232, 0x008000))
            mcopy(add(end, 3), add(tag, 32), tagLength)
            mstore8(add(add(end, 3), tagLength), tagLength)
            let sha256Gas := add(SHA256_GAS, mul(SHA256_WORD_GAS, shr(5, length)))
            done := staticcall(sha256Gas, SHA256, input, add(length, add(tagLength, 68)), 0x00, 32)
            done := and(done, eq(returndatasize(), 32))

            // What the other blocks have in common
            mcopy(add(input, 33), add(tag, 32), tagLength)
            mstore8(add(add(input, 33), tagLength), tagLength)

            // Lengths of base, exponent and modulus; base (two blocks, at first the zero that block 1 is chained to);
            // exponent; modulus
            mstore(modexp, 64)
            mstore(add(modexp, 32), 1)
            mstore(add(modexp, 64), 64)
            mstore(add(modexp, 128), 0)
            mstore8(add(modexp, 160), 1)
            mstore(add(modexp, 161), P_HIGH)
            mstore(add(modexp, 193), P_LOW)

            let first := mload(0x00)
            done := and(done, mapHalf(1, scratch, modexp, input, add(tagLength, 34), first))
            done := and(done, mapHalf(3, add(scratch, 128), modexp, input, add(tagLength, 34), first))
            done := and(done, staticcall(G1ADD_GAS, G1ADD, scratch, 256, point, 128))
            done := and(done, eq(returndatasize(), 128))
        }
        // For want of gas, or on a chain without the precompiles: no message and no tag is bad input.
        require(done, Bls12381HashFailed());
    }

    /// @dev Memory that nothing else uses, not cleared.
    function _allocate(uint256 size) private pure returns (uint256 start) {
        assembly ("memory-safe") {
            start := mload(0x40)
            mstore(0x40, add(start, and(add(size, 31), not(31))))
        }
    }
}
// slither-disable-end assembly,too-many-digits
