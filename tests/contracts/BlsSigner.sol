// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Bls12381} from "../../contracts/libraries/Bls12381.sol";

/// @notice Signs as operators do, with the precompiles: what Python signs is in the vectors, and equal.
library BlsSigner {
    bytes private constant G2 = abi.encodePacked(
        hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051",
        hex"c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8",
        hex"0000000000000000000000000000000013e02b6052719f607dacd3a088274f65",
        hex"596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e",
        hex"000000000000000000000000000000000ce5d527727d6e118cc9cdc6da2e351a",
        hex"adfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801",
        hex"000000000000000000000000000000000606c4a02ea734cc32acd2b02bc28b99",
        hex"cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be"
    );

    /// @notice The generator of G2 times `secret`.
    function publicKey(uint256 secret) internal view returns (bytes memory key) {
        key = _call(0x0e, abi.encodePacked(G2, secret));
    }

    function sign(uint256 secret, bytes32 message) internal view returns (bytes memory) {
        return sign(secret, abi.encodePacked(message), Bls12381.MESSAGE_TAG);
    }

    function sign(uint256 secret, bytes memory message, bytes memory tag) internal view returns (bytes memory) {
        return _call(0x0c, abi.encodePacked(Bls12381.hashToG1(message, tag), secret));
    }

    /// @notice The proof that `VerifierKeys.register` takes from `operator`.
    function prove(uint256 secret, address registry, address operator) internal view returns (bytes memory) {
        bytes memory message = abi.encode(block.chainid, registry, operator, keccak256(publicKey(secret)));
        return sign(secret, message, Bls12381.PROOF_TAG);
    }

    /// @notice The keys of `secrets`, back to back, and the sum of their signatures.
    function signAll(uint256[] memory secrets, bytes32 message)
        internal
        view
        returns (bytes memory keys, bytes memory signature)
    {
        signature = new bytes(128);
        for (uint256 i = 0; i < secrets.length; ++i) {
            keys = bytes.concat(keys, publicKey(secrets[i]));
            signature = add(signature, sign(secrets[i], message));
        }
    }

    /// @notice Sum of two signatures.
    function add(bytes memory a, bytes memory b) internal view returns (bytes memory) {
        return _call(0x0b, bytes.concat(a, b));
    }

    function _call(uint160 precompile, bytes memory input) private view returns (bytes memory) {
        (bool success, bytes memory output) = address(precompile).staticcall(input);
        require(success && output.length > 0, "precompile failed");
        return output;
    }
}
