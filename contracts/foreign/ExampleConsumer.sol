// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ICertificateVerifier} from "../interfaces/ICertificateVerifier.sol";
import {LeafLib, Receipt} from "../libraries/LeafLib.sol";

/// @title Pays for an answer of a model
/// @notice Somebody puts a question with a reward; the first node whose answer anybody shows with a committee's
/// certificate gets it. The same question may be put again, and then takes another answer. An example of a consumer:
/// copy what it checks, not what it pays for.
contract ExampleConsumer {
    using SafeCast for uint256;

    struct Question {
        address asker; // zero if nobody asks
        uint96 rewardWei;
        uint64 deadline; // seconds; after it the asker may take the reward back
    }

    uint256 public constant MAX_ANSWER_BYTES = 4096;

    ICertificateVerifier public immutable VERIFIER;
    bytes32 public immutable MODEL_ID;
    /// @notice How many verifiers at least must have signed: 3, 7 or 15, by what there is to win here.
    uint256 public immutable MIN_COMMITTEE;

    /// @dev By the hash of the canonical JSON of what is asked.
    mapping(bytes32 inputHash => Question) private _questions;
    /// @dev By batch and leaf: a certificate may be shown again and again, an answer counts once.
    mapping(bytes32 answerId => bool) private _used;

    event Asked(bytes32 indexed inputHash, address indexed asker, uint256 rewardWei, uint256 deadline);
    event TakenBack(bytes32 indexed inputHash, address indexed asker, uint256 rewardWei);
    event Answered(bytes32 indexed inputHash, bytes32 indexed batchId, uint256 leafIndex, address payee, string text);

    error ExampleConsumerParameterOutOfBounds(string name);
    error ExampleConsumerAlreadyAsked(bytes32 inputHash);
    error ExampleConsumerNothingAsked(bytes32 inputHash);
    error ExampleConsumerNotYours(address asker, address caller);
    error ExampleConsumerTooEarly(uint256 deadline);
    error ExampleConsumerAlreadyUsed(bytes32 batchId, uint256 leafIndex);
    error ExampleConsumerCommitteeTooSmall(uint256 size, uint256 minimum);
    error ExampleConsumerNotAccepted(ICertificateVerifier.Verdict verdict);
    error ExampleConsumerOtherReceipt(bytes32 receiptHash, bytes32 certifiedHash);
    error ExampleConsumerOtherModel(bytes32 modelId);
    error ExampleConsumerOtherText(bytes32 textHash, bytes32 certifiedHash);
    error ExampleConsumerTextTooLong(uint256 length, uint256 maximum);
    error ExampleConsumerPaymentFailed(address payee);

    constructor(ICertificateVerifier verifier, bytes32 modelId, uint256 minCommittee) {
        require(address(verifier) != address(0), ExampleConsumerParameterOutOfBounds("verifier"));
        require(modelId != 0, ExampleConsumerParameterOutOfBounds("modelId"));
        require(minCommittee >= 3 && minCommittee <= 15, ExampleConsumerParameterOutOfBounds("minCommittee"));
        VERIFIER = verifier;
        MODEL_ID = modelId;
        MIN_COMMITTEE = minCommittee;
    }

    /// @notice Puts a question and its reward, until `deadline` at least.
    function ask(bytes32 inputHash, uint64 deadline) external payable {
        require(msg.value > 0, ExampleConsumerParameterOutOfBounds("reward"));
        require(_questions[inputHash].asker == address(0), ExampleConsumerAlreadyAsked(inputHash));
        _questions[inputHash] = Question(msg.sender, msg.value.toUint96(), deadline);
        emit Asked(inputHash, msg.sender, msg.value, deadline);
    }

    /// @notice Returns the reward of the caller's question that has no answer by its deadline.
    function takeBack(bytes32 inputHash) external {
        Question memory question = _questions[inputHash];
        require(question.rewardWei > 0, ExampleConsumerNothingAsked(inputHash));
        require(question.asker == msg.sender, ExampleConsumerNotYours(question.asker, msg.sender));
        require(block.timestamp > question.deadline, ExampleConsumerTooEarly(question.deadline));
        delete _questions[inputHash];
        emit TakenBack(inputHash, msg.sender, question.rewardWei);
        _pay(msg.sender, question.rewardWei);
    }

    /// @notice Answers an open question. The reward goes to the node that gave the answer, whoever shows it, so that
    /// nobody gains by being faster with another's certificate.
    function answer(
        ICertificateVerifier.Certificate calldata certificate,
        Receipt calldata receipt,
        string calldata text
    ) external {
        (bytes32 batchId, ICertificateVerifier.Verdict verdict, uint256 size) = VERIFIER.check(certificate);
        require(size >= MIN_COMMITTEE, ExampleConsumerCommitteeTooSmall(size, MIN_COMMITTEE));
        require(verdict == ICertificateVerifier.Verdict.Accepted, ExampleConsumerNotAccepted(verdict));
        // The certificate is about a hash; what it stands for comes with it.
        bytes32 receiptHash = LeafLib.structHash(receipt);
        require(
            receiptHash == certificate.receiptHash, ExampleConsumerOtherReceipt(receiptHash, certificate.receiptHash)
        );
        require(receipt.modelId == MODEL_ID, ExampleConsumerOtherModel(receipt.modelId));
        require(
            bytes(text).length <= MAX_ANSWER_BYTES, ExampleConsumerTextTooLong(bytes(text).length, MAX_ANSWER_BYTES)
        );
        bytes32 textHash = keccak256(bytes(text));
        require(textHash == receipt.textHash, ExampleConsumerOtherText(textHash, receipt.textHash));
        bytes32 answerId = keccak256(abi.encode(batchId, certificate.leafIndex));
        require(!_used[answerId], ExampleConsumerAlreadyUsed(batchId, certificate.leafIndex));
        uint256 rewardWei = _questions[receipt.inputHash].rewardWei;
        require(rewardWei > 0, ExampleConsumerNothingAsked(receipt.inputHash));

        _used[answerId] = true;
        delete _questions[receipt.inputHash];
        address payee = certificate.node;
        emit Answered(receipt.inputHash, batchId, certificate.leafIndex, payee, text);
        _pay(payee, rewardWei);
    }

    function questionOf(bytes32 inputHash) external view returns (Question memory) {
        return _questions[inputHash];
    }

    // A payee may be a contract, and gets all gas; when it refuses, nothing has happened.
    // slither-disable-next-line low-level-calls
    function _pay(address payee, uint256 amount) private {
        (bool paid,) = payee.call{value: amount}("");
        require(paid, ExampleConsumerPaymentFailed(payee));
    }
}
