// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;


import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {LeafLib, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {Request, RequestLib} from "../../contracts/libraries/RequestLib.sol";
import {Majority} from "../../contracts/libraries/Majority.sol";
import {BatchId, Header, Ids, ModelId} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";

/// @notice Solidity computes the hashes that Python wrote into tests/vectors/protocol.json.
contract VectorsTest {
    string private _json;
    uint256 private _cases;

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("Voucher(address payer,address payee,uint256 cumulativeWei,uint256 earnedWei,uint64 asOf)");

    function setUp() external {
        _json = vm.readFile("tests/vectors/protocol.json");
        _cases = _words(".leaf").length;
    }

    function testReceiptsAndLeaves() external view {
        Check.yes(_cases > 0, "there are cases");
        bytes32[] memory structHashes = _words(".receipt_structHash");
        bytes32[] memory digests = _words(".receipt_digest");
        bytes32[] memory leaves = _words(".leaf");
        for (uint256 i = 0; i < _cases; ++i) {
            Receipt memory receipt = _receipt(i);
            Check.eq(LeafLib.structHash(receipt), structHashes[i], "struct hash");
            Check.eq(LeafLib.leafHash(i, receipt), leaves[i], "leaf");
            Check.eq(keccak256(abi.encodePacked(hex"1901", _domain(), structHashes[i])), digests[i], "digest");
        }
    }

    function testMerkleProof() external view {
        bytes32[] memory proof = _words(".proof_3");
        Check.eq(proof.length, LeafLib.DEPTH, "depth");
        bytes32 root = vm.parseJsonBytes32(_json, ".root");
        Check.yes(this.verify(proof, root, _words(".leaf")[3]), "proof of leaf 3");
        Check.yes(!this.verify(proof, root, _words(".leaf")[2]), "not of leaf 2");
        Check.eq(LeafLib.tokensOf(root), vm.parseJsonUint(_json, ".tokens"), "tokens of all leaves");
    }

    function verify(bytes32[] calldata proof, bytes32 root, bytes32 leaf) external pure returns (bool) {
        return LeafLib.verify(proof, root, leaf);
    }

    function testCommitments() external view {
        bytes32[] memory commitments = _words(".vote_commitment");
        for (uint256 i = 0; i < _cases; ++i) {
            bytes32 actual = keccak256(
                abi.encode(
                    uint256(31337),
                    vm.parseJsonAddress(_json, ".contract"),
                    _words(".vote_batchId")[i],
                    uint8(i % 3),
                    _addresses(".vote_verifier")[i],
                    uint256(_words(".vote_accepts")[i]),
                    uint256(_words(".vote_rejects")[i]),
                    uint32(uint256(_words(".vote_distancePpm")[i])),
                    _words(".vote_salt")[i]
                )
            );
            Check.eq(actual, commitments[i], "commitment");
        }
    }

    function testCommitmentsOfAppeals() external view {
        bytes32[] memory commitments = _words(".appeal_commitment");
        for (uint256 i = 0; i < _cases; ++i) {
            bytes32 actual = keccak256(
                abi.encode(
                    uint256(31337),
                    vm.parseJsonAddress(_json, ".contract"),
                    _words(".vote_batchId")[i],
                    i,
                    uint8(1 + (i % 2)),
                    uint8(i % 3),
                    _addresses(".vote_verifier")[i],
                    IVerdicts.Verdict(2 + (i % 4)),
                    _words(".vote_salt")[i]
                )
            );
            Check.eq(actual, commitments[i], "commitment of an appeal");
        }
    }

    function testBatchIds() external {
        vm.chainId(31337);
        bytes32[] memory expected = _words(".header_batchId");
        address batches = vm.parseJsonAddress(_json, ".contract");
        for (uint256 i = 0; i < _cases; ++i) {
            Header memory header = Header({
                node: _addresses(".header_node")[i],
                modelId: ModelId.wrap(_words(".header_modelId")[i]),
                root: _words(".header_root")[i],
                canary: _words(".header_canary")[i]
            });
            Check.eq(BatchId.unwrap(Ids.batch(batches, header)), expected[i], "batch id");
        }
    }

    function testMajorityAndSeeds() external view {
        bytes32[] memory accepts = _words(".vote_accepts");
        bytes32[] memory expected = _words(".majority");
        bytes32[] memory seeds = _words(".seed");
        for (uint256 i = 0; i < _cases; ++i) {
            uint256 majority = Majority.ofThree(
                uint256(accepts[i]),
                uint256(accepts[(i + _cases - 1) % _cases]),
                uint256(accepts[(i + _cases - 2) % _cases])
            );
            Check.eq(majority, uint256(expected[i]), "majority");
            bytes32 seed = keccak256(abi.encode(_words(".seed_blockHash")[i], _words(".vote_batchId")[i], uint8(i % 3)));
            Check.eq(seed, seeds[i], "seed");
        }
    }

    function testMajoritiesOfMany() external view {
        bytes32[] memory words = _words(".majority_words");
        bytes32[] memory expected = _words(".majority_of");
        Check.eq(expected.length, 8, "one to fifteen words");
        for (uint256 i = 0; i < expected.length; ++i) {
            uint256[] memory first = new uint256[](2 * i + 1);
            for (uint256 j = 0; j < first.length; ++j) {
                first[j] = uint256(words[j]);
            }
            Check.eq(Majority.ofMany(first), uint256(expected[i]), "majority of many");
        }
    }

    function testModelIdsAndVouchers() external view {
        string[] memory names = vm.parseJsonStringArray(_json, ".model_name");
        for (uint256 i = 0; i < _cases; ++i) {
            ModelId id = this.modelId(names[i], _words(".model_contentHash")[i]);
            Check.eq(ModelId.unwrap(id), _words(".model_id")[i], "model id");
            bytes32 voucher = keccak256(
                abi.encode(
                    VOUCHER_TYPEHASH,
                    _addresses(".voucher_payer")[i],
                    _addresses(".voucher_payee")[i],
                    uint256(_words(".voucher_cumulativeWei")[i]),
                    uint256(_words(".voucher_earnedWei")[i]),
                    uint256(_words(".voucher_asOf")[i])
                )
            );
            bytes32 digest = keccak256(abi.encodePacked(hex"1901", _domain(), voucher));
            Check.eq(digest, _words(".voucher_digest")[i], "voucher digest");
        }
    }

    function testRequests() external view {
        address batches = vm.parseJsonAddress(_json, ".contract");
        for (uint256 i = 0; i < _cases; ++i) {
            Request memory request = Request({
                client: _addresses(".request_client")[i],
                modelId: _words(".request_modelId")[i],
                inputHash: _words(".request_inputHash")[i],
                maxTokens: uint32(uint256(_words(".request_maxTokens")[i])),
                maxFeeWei: uint256(_words(".request_maxFeeWei")[i]),
                nonce: uint256(_words(".request_nonce")[i]),
                deadline: uint64(uint256(_words(".request_deadline")[i]))
            });
            Check.eq(RequestLib.digest(request, batches), _words(".request_digest")[i], "request digest");
            Check.eq(RequestLib.digest(_receipt(i), batches), _words(".receipt_digest")[i], "receipt digest");
        }
    }

    function modelId(string calldata name, bytes32 contentHash) external pure returns (ModelId) {
        return Ids.model(name, contentHash);
    }

    function _receipt(uint256 i) private view returns (Receipt memory r) {
        r.requestHash = _words(".receipt_requestHash")[i];
        r.client = _addresses(".receipt_client")[i];
        r.node = _addresses(".receipt_node")[i];
        r.modelId = _words(".receipt_modelId")[i];
        r.inputHash = _words(".receipt_inputHash")[i];
        r.promptHash = _words(".receipt_promptHash")[i];
        r.outputHash = _words(".receipt_outputHash")[i];
        r.textHash = _words(".receipt_textHash")[i];
        r.fingerprintHash = _words(".receipt_fingerprintHash")[i];
        r.promptTokens = uint32(uint256(_words(".receipt_promptTokens")[i]));
        r.outputTokens = uint32(uint256(_words(".receipt_outputTokens")[i]));
        r.maxTokens = uint32(uint256(_words(".receipt_maxTokens")[i]));
        r.finishReason = uint8(uint256(_words(".receipt_finishReason")[i]));
        r.engineClass = _words(".receipt_engineClass")[i];
        r.feeWei = uint256(_words(".receipt_feeWei")[i]);
        r.issuedAt = uint64(uint256(_words(".receipt_issuedAt")[i]));
        r.anchorBy = uint64(uint256(_words(".receipt_anchorBy")[i]));
    }

    function _domain() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH,
                keccak256("Trine"),
                keccak256("1"),
                uint256(31337),
                vm.parseJsonAddress(_json, ".contract")
            )
        );
    }

    function _words(string memory key) private view returns (bytes32[] memory) {
        return vm.parseJsonBytes32Array(_json, key);
    }

    function _addresses(string memory key) private view returns (address[] memory) {
        return vm.parseJsonAddressArray(_json, key);
    }
}
