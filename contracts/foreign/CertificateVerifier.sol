// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ICertificateVerifier} from "../interfaces/ICertificateVerifier.sol";
import {Bls12381} from "../libraries/Bls12381.sol";
import {CertificateLib} from "../libraries/CertificateLib.sol";
import {LeafLib} from "../libraries/LeafLib.sol";

/// @title Trine's answers on another chain
/// @dev Documented in `ICertificateVerifier`. Has no owner. Adding keys without pairing each alone is safe because
/// they are leaves of a set whose signers took them from the source chain's `VerifierKeys`, which did.
contract CertificateVerifier is ICertificateVerifier {
    /// @notice Signers of a handover; with equal weights enough for sets of 383 keys.
    uint256 public constant MAX_SIGNERS = 256;
    uint256 public constant MAX_KEYS = 1 << 16;
    uint256 public constant MIN_KEYS = 3;
    uint256 public constant MAX_AGE_EPOCHS = 1024;
    /// @notice How many epochs one handover may skip: so that a mistake in what is signed cannot use up all epochs.
    uint256 public constant MAX_STEP_EPOCHS = 1024;

    uint256 public immutable SOURCE_CHAIN_ID;
    address public immutable SOURCE_BATCHES;
    /// @notice Certificates older than the newest epoch by more than this are refused.
    uint64 public immutable MAX_AGE;

    uint64 private _newestEpoch;
    mapping(uint64 epoch => KeySet) private _keySets;

    /// @param epoch The genesis epoch, with its keys: whoever trusts this contract has compared them with the source.
    constructor(uint256 sourceChainId, address sourceBatches, uint64 maxAge, uint64 epoch, KeySet memory genesis) {
        require(sourceChainId > 0, CertificateVerifierParameterOutOfBounds("sourceChainId"));
        require(sourceBatches != address(0), CertificateVerifierParameterOutOfBounds("sourceBatches"));
        require(maxAge <= MAX_AGE_EPOCHS, CertificateVerifierParameterOutOfBounds("maxAge"));
        SOURCE_CHAIN_ID = sourceChainId;
        SOURCE_BATCHES = sourceBatches;
        MAX_AGE = maxAge;
        _install(epoch, genesis);
    }

    /// @inheritdoc ICertificateVerifier
    function advance(uint64 epoch, KeySet calldata next, Signers calldata signers) external {
        uint64 signingEpoch = _newestEpoch;
        require(epoch > signingEpoch, CertificateVerifierEpochNotNewer(epoch, signingEpoch));
        uint256 furthest = uint256(signingEpoch) + MAX_STEP_EPOCHS;
        require(epoch <= furthest, CertificateVerifierEpochTooFarAhead(epoch, furthest));
        uint256 count = signers.members.length;
        require(count > 0 && count <= MAX_SIGNERS, CertificateVerifierSignersOutOfBounds(count, MAX_SIGNERS));
        uint128 totalWeight = _keySets[signingEpoch].totalWeight;
        uint256 weight = _requireSigned(signingEpoch, handoverDigest(epoch, next), signers);
        // More than two thirds, exactly; 128 bits leave room for the factors.
        require(weight * 3 > uint256(totalWeight) * 2, CertificateVerifierNoQuorum(weight, totalWeight));
        _install(epoch, next);
    }

    /// @inheritdoc ICertificateVerifier
    function check(Certificate calldata certificate)
        external
        view
        returns (bytes32 batchId, Verdict verdict, uint256 committeeSize)
    {
        committeeSize = certificate.signers.members.length;
        require(
            committeeSize == 3 || committeeSize == 7 || committeeSize == 15,
            CertificateVerifierNoCommittee(committeeSize)
        );
        uint64 newest = _newestEpoch;
        uint64 oldest = newest > MAX_AGE ? newest - MAX_AGE : 0;
        require(certificate.epoch >= oldest, CertificateVerifierEpochTooOld(certificate.epoch, oldest));
        uint256 accepted = certificate.accepted;
        uint256 rejected = certificate.rejected;
        require(accepted & rejected == 0, CertificateVerifierContradiction(accepted & rejected));

        bytes32 leaf =
            LeafLib.leafHash(certificate.leafIndex, certificate.receiptHash, certificate.leafTokens);
        require(
            LeafLib.verify(certificate.proof, certificate.root, leaf),
            CertificateVerifierNotInBatch(certificate.leafIndex, certificate.receiptHash)
        );
        batchId = CertificateLib.batchId(
            SOURCE_CHAIN_ID,
            SOURCE_BATCHES,
            certificate.node,
            certificate.modelId,
            certificate.root,
            certificate.canary
        );
        bytes32 digest = CertificateLib.resultDigest(
            SOURCE_CHAIN_ID, SOURCE_BATCHES, certificate.epoch, batchId, accepted, rejected
        );
        _requireSigned(certificate.epoch, digest, certificate.signers);
        if ((accepted >> certificate.leafIndex) & 1 == 1) verdict = Verdict.Accepted;
        else if ((rejected >> certificate.leafIndex) & 1 == 1) verdict = Verdict.Rejected;
    }

    /// @inheritdoc ICertificateVerifier
    function newestEpoch() external view returns (uint64) {
        return _newestEpoch;
    }

    /// @inheritdoc ICertificateVerifier
    function keySetOf(uint64 epoch) external view returns (KeySet memory) {
        return _keySets[epoch];
    }

    /// @inheritdoc ICertificateVerifier
    function handoverDigest(uint64 epoch, KeySet calldata next) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                CertificateLib.HANDOVER_TYPEHASH,
                SOURCE_CHAIN_ID,
                SOURCE_BATCHES,
                _newestEpoch,
                _keySets[_newestEpoch].root,
                epoch,
                next.root,
                next.count,
                next.totalWeight,
                next.validUntil
            )
        );
    }

    function _install(uint64 epoch, KeySet memory set) private {
        require(set.root != 0, CertificateVerifierParameterOutOfBounds("root"));
        require(set.count >= MIN_KEYS && set.count <= MAX_KEYS, CertificateVerifierParameterOutOfBounds("count"));
        require(set.totalWeight > 0, CertificateVerifierParameterOutOfBounds("totalWeight"));
        require(set.validUntil > block.timestamp, CertificateVerifierParameterOutOfBounds("validUntil"));
        _newestEpoch = epoch;
        _keySets[epoch] = set;
        emit KeySetInstalled(epoch, set.root, set.validUntil, set.count, set.totalWeight);
    }

    /// @dev Reverts unless all signers are distinct keys of the epoch and have signed. Returns their weight.
    function _requireSigned(uint64 epoch, bytes32 digest, Signers calldata signers)
        private
        view
        returns (uint256 weight)
    {
        KeySet memory set = _keySets[epoch];
        require(set.root != 0, CertificateVerifierUnknownEpoch(epoch));
        require(block.timestamp <= set.validUntil, CertificateVerifierKeySetExpired(epoch, set.validUntil));
        uint256 depth = Math.log2(set.count, Math.Rounding.Ceil);
        Member[] calldata members = signers.members;
        bytes calldata keys = signers.keys;
        bytes32[] calldata proofs = signers.proofs;
        uint256 size = Bls12381.KEY_BYTES;
        require(
            keys.length == members.length * size && proofs.length == members.length * depth,
            CertificateVerifierMalformedSigners()
        );
        uint256 next = 0; // lowest index that is not yet passed
        for (uint256 i = 0; i < members.length; ++i) {
            Member calldata member = members[i];
            uint256 index = member.index;
            require(index >= next, CertificateVerifierMembersNotRising(index));
            require(index < set.count, CertificateVerifierIndexOutOfBounds(index, set.count));
            next = index + 1;
            bytes32 keyHash = keccak256(keys[i * size:(i + 1) * size]);
            bytes32 leaf = CertificateLib.keyLeaf(index, keyHash, member.weight);
            require(
                MerkleProof.verifyCalldata(proofs[i * depth:(i + 1) * depth], set.root, leaf),
                CertificateVerifierNotEligible(index, keyHash)
            );
            weight += member.weight;
        }
        require(Bls12381.verify(digest, keys, signers.signature), CertificateVerifierNotSigned(digest));
    }
}
