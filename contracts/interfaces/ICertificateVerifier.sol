// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Trine's answers on another chain
/// @notice Tells a contract on any chain with EIP-2537 whether a committee of Trine has accepted an answer, without a
/// bridge, an oracle or any access to the chain that Trine runs on.
///
/// What it trusts: a set of eligible verifiers' keys per epoch, the first one given at deployment, each later one
/// signed by keys with more than two thirds of an earlier set's weight.
///
/// What a certificate proves: 3, 7 or 15 keys of the epoch's set signed that the batch has this result.
/// What it does not prove: that these keys were the committee that was drawn for the batch. The draw is not visible
/// here, so any three eligible keys in league, drawn or not, can forge a certificate of three. Nor does it prove that
/// the result is final: an appeal may still overturn it. A consumer with more at stake than three verifiers have asks
/// for a committee of 7 or 15, or waits until the time for appeals has passed.
///
/// @dev Warning: what is signed names the source, not the chain it is shown on. One certificate holds on every chain
/// and as often as it is shown. The consumer keeps track of what it has acted on, by batch and leaf.
/// @dev Warning: without handovers the verifier goes silent when the newest set's time is up, and stays so: keys whose
/// stake may have left by then could sign anything. That is repaired by a new deployment only.
interface ICertificateVerifier {
    enum Verdict {
        Inconclusive,
        Accepted,
        Rejected
    }

    /// @notice Eligible keys of an epoch.
    /// @param root Of a Merkle tree with the leaves `CertificateLib.keyLeaf(index, keyHash, weight)`, padded with
    /// zeros to the next power of two.
    /// @param validUntil Seconds, absolute: a time before which none of the set's stake can leave the source chain.
    struct KeySet {
        bytes32 root;
        uint64 validUntil;
        uint32 count;
        uint128 totalWeight;
    }

    struct Member {
        uint32 index; // of the leaf, below the set's count
        uint64 weight;
    }

    /// @param members In strictly rising order of their indices, so that nobody counts twice.
    /// @param keys Of the members in the same order, 256 bytes each.
    /// @param proofs Of the members in the same order, each as long as the tree is deep.
    /// @param signature Sum of the members' signatures, 128 bytes.
    struct Signers {
        Member[] members;
        bytes keys;
        bytes32[] proofs;
        bytes signature;
    }

    /// @notice A result with its committee's signatures, and one of the batch's leaves.
    /// @param canary See `CertificateLib.batchId`.
    /// @param accepted Bit i: leaf i was accepted; likewise `rejected`.
    /// @param receiptHash EIP-712 struct hash of the leaf's receipt.
    /// @param proof The leaf's eight siblings, from the bottom up.
    struct Certificate {
        uint64 epoch;
        address node;
        bytes32 modelId;
        bytes32 root;
        bytes32 canary;
        uint256 accepted;
        uint256 rejected;
        uint8 leafIndex;
        bytes32 receiptHash;
        uint32 leafTokens; // that the receipt counts, prompt and answer together
        bytes32[] proof;
        Signers signers;
    }

    /// @notice With all that the signed handover named besides the two sets' epochs.
    event KeySetInstalled(
        uint64 indexed epoch, bytes32 indexed root, uint64 validUntil, uint32 count, uint128 totalWeight
    );

    error CertificateVerifierParameterOutOfBounds(string name);
    error CertificateVerifierEpochNotNewer(uint256 epoch, uint256 newestEpoch);
    error CertificateVerifierEpochTooFarAhead(uint256 epoch, uint256 maximum);
    error CertificateVerifierUnknownEpoch(uint256 epoch);
    error CertificateVerifierEpochTooOld(uint256 epoch, uint256 oldestEpoch);
    error CertificateVerifierKeySetExpired(uint256 epoch, uint256 validUntil);
    error CertificateVerifierSignersOutOfBounds(uint256 count, uint256 maximum);
    error CertificateVerifierMalformedSigners();
    error CertificateVerifierMembersNotRising(uint256 index);
    error CertificateVerifierIndexOutOfBounds(uint256 index, uint256 count);
    error CertificateVerifierNotEligible(uint256 index, bytes32 keyHash);
    error CertificateVerifierNoQuorum(uint256 weight, uint256 totalWeight);
    error CertificateVerifierNotSigned(bytes32 digest);
    error CertificateVerifierNoCommittee(uint256 count);
    error CertificateVerifierNotInBatch(uint256 leafIndex, bytes32 receiptHash);
    error CertificateVerifierContradiction(uint256 both);

    /// @notice Installs the keys of a later epoch, which keys of the newest one have signed. Anyone may call.
    /// @param signers Together of more than two thirds of the newest set's weight; the digest that they sign is
    /// `handoverDigest(epoch, next)`.
    function advance(uint64 epoch, KeySet calldata next, Signers calldata signers) external;

    /// @notice What the newest set's keys sign to hand over to `next`: the source, their own epoch and root, so that
    /// the signatures fit one history only, and all of the next set.
    function handoverDigest(uint64 epoch, KeySet calldata next) external view returns (bytes32);

    /// @notice The result of one leaf. Reverts for what is not a certificate of a known epoch that is neither expired
    /// nor too old. Read the interface's notice on what this proves.
    /// @return batchId Names the batch; with the leaf's index it names the answer.
    /// @return verdict Inconclusive if the committee neither accepted nor rejected the leaf.
    /// @return committeeSize 3, 7 or 15.
    function check(Certificate calldata certificate)
        external
        view
        returns (bytes32 batchId, Verdict verdict, uint256 committeeSize);

    function newestEpoch() external view returns (uint64);

    function keySetOf(uint64 epoch) external view returns (KeySet memory);
}
