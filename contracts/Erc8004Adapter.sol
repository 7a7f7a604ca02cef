// SPDX-License-Identifier: MIT
// The first contract is a part of the second that needs an address of its own.
// solhint-disable one-contract-per-file
pragma solidity 0.8.37;

import {
    IErc8004Adapter,
    IErc8004Identity,
    IErc8004Reputation,
    IErc8004Validation
} from "./interfaces/IErc8004.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {LeafLib, Opening} from "./libraries/LeafLib.sol";
import {Majority} from "./libraries/Majority.sol";
import {BatchId, Header, Ids} from "./types/Types.sol";

/// @title Voice of Trine's clients in the reputation registry
/// @notice A separate address, because the registry takes no feedback from operators, and the adapter is one.
contract Erc8004Feedback {
    address private immutable ADAPTER;
    IErc8004Reputation private immutable REPUTATION;

    error Erc8004FeedbackUnauthorized(address caller);

    constructor(IErc8004Reputation reputationRegistry) {
        ADAPTER = msg.sender;
        REPUTATION = reputationRegistry;
    }

    /// @notice Forwards what the adapter has checked. Only the adapter.
    function give(
        uint256 agentId,
        int128 value,
        uint8 decimals,
        string calldata tag,
        string calldata verdict,
        bytes32 feedbackHash
    ) external {
        require(msg.sender == ADAPTER, Erc8004FeedbackUnauthorized(msg.sender));
        REPUTATION.giveFeedback(agentId, value, decimals, tag, verdict, "", "", feedbackHash);
    }
}

/// @title Trine's verdicts in the registries of ERC-8004
/// @dev Documented in `IErc8004Adapter`. The registries are strangers: all effects come before any call to them.
contract Erc8004Adapter is IErc8004Adapter {
    uint8 public constant MAX_DECIMALS = 18;
    uint256 public constant MAX_TAG_BYTES = 64;

    uint8 private constant SOFT = 1;
    uint8 private constant HARD = 2;

    IVerdicts private immutable BATCHES;
    IErc8004Identity private immutable IDENTITY;
    IErc8004Reputation private immutable REPUTATION;
    IErc8004Validation private immutable VALIDATION;
    Erc8004Feedback private immutable FEEDBACK;

    /// @dev Agents are numbered from 0; zero here means none.
    mapping(address operator => uint256 agentIdPlusOne) private _agents;
    mapping(BatchId batchId => uint8 softOrHard) private _published;
    mapping(BatchId batchId => uint256 leaves) private _fedBack;

    /// @param batches `Batches`, whose verdicts these are.
    /// @param identityRegistry Each registry: zero where the chain has none.
    // Zero is a choice for the registries.
    // slither-disable-next-line missing-zero-check
    constructor(
        IVerdicts batches,
        IErc8004Identity identityRegistry,
        IErc8004Reputation reputationRegistry,
        IErc8004Validation validationRegistry
    ) {
        require(address(batches) != address(0), Erc8004AdapterZeroAddress());
        BATCHES = batches;
        IDENTITY = identityRegistry;
        REPUTATION = reputationRegistry;
        VALIDATION = validationRegistry;
        FEEDBACK = new Erc8004Feedback(reputationRegistry);
    }

    /// @inheritdoc IErc8004Adapter
    function link(uint256 agentId) external {
        _requireRegistry(address(IDENTITY));
        require(_controls(msg.sender, agentId), Erc8004AdapterNotYourAgent(agentId, msg.sender));
        _agents[msg.sender] = agentId + 1;
        emit AgentLinked(msg.sender, agentId);
    }

    /// @inheritdoc IErc8004Adapter
    function unlink() external {
        uint256 agentIdPlusOne = _agents[msg.sender];
        require(agentIdPlusOne != 0, Erc8004AdapterNotLinked(msg.sender));
        delete _agents[msg.sender];
        emit AgentUnlinked(msg.sender, agentIdPlusOne - 1);
    }

    /// @inheritdoc IErc8004Adapter
    function publish(Header calldata header) external returns (bytes32 requestHash) {
        return _publish(header, 0);
    }

    /// @inheritdoc IErc8004Adapter
    function publishUnder(Header calldata header, bytes32 salt) external returns (bytes32 requestHash) {
        return _publish(header, salt);
    }

    /// @inheritdoc IErc8004Adapter
    function giveFeedback(
        BatchId batchId,
        Opening calldata opening,
        int128 value,
        uint8 decimals,
        string calldata tag
    ) external {
        uint256 index = opening.index;
        require(decimals <= MAX_DECIMALS, Erc8004AdapterDecimalsOutOfBounds(decimals, MAX_DECIMALS));
        require(bytes(tag).length <= MAX_TAG_BYTES, Erc8004AdapterTagTooLong(bytes(tag).length, MAX_TAG_BYTES));
        require(
            opening.receipt.client == msg.sender, Erc8004AdapterNotTheClient(opening.receipt.client, msg.sender)
        );
        require(LeafLib.opens(opening, address(BATCHES), batchId), Erc8004AdapterBadOpening(batchId, index));
        bool accepted = _accepted(batchId, index);
        // A leaf with a verdict has an index below 256.
        uint256 bit = 1 << index;
        require(_fedBack[batchId] & bit == 0, Erc8004AdapterAlreadyGiven(batchId, index));
        _requireRegistry(address(REPUTATION));
        uint256 agentId = _requireAgent(opening.receipt.node);

        _fedBack[batchId] |= bit;
        emit FeedbackForwarded(batchId, index, agentId, msg.sender, value);
        bytes32 feedbackHash = keccak256(abi.encode(block.chainid, address(BATCHES), batchId, index));
        FEEDBACK.give(agentId, value, decimals, tag, accepted ? "accepted" : "rejected", feedbackHash);
    }

    /// @inheritdoc IErc8004Adapter
    function statusOf(BatchId batchId) external view returns (Status) {
        uint8 published = _published[batchId];
        if (published & HARD != 0) return Status.PublishedFinal;
        if (published & SOFT != 0) return Status.PublishedSoft;
        // slither-disable-next-line unused-return
        (uint256 leafCount,,,, bool settled,) = BATCHES.resultOf(batchId);
        if (leafCount == 0) return Status.None;
        if (settled) return Status.SettledNotPublished;
        // Leaf 0 is in every batch; a void batch has no verdict, not even a pending one.
        // slither-disable-next-line unused-return
        (IVerdicts.Verdict verdict,) = BATCHES.verdictOf(batchId, 0);
        return verdict == IVerdicts.Verdict.None ? Status.Void : Status.Pending;
    }

    /// @inheritdoc IErc8004Adapter
    function agentOf(address operator) external view returns (bool linked, uint256 agentId) {
        return _agentOf(operator);
    }

    /// @inheritdoc IErc8004Adapter
    function feedbackAuthor() external view returns (address) {
        return address(FEEDBACK);
    }

    /// @inheritdoc IErc8004Adapter
    function registries() external view returns (address identity, address reputation, address validation) {
        return (address(IDENTITY), address(REPUTATION), address(VALIDATION));
    }

    /// @inheritdoc IErc8004Adapter
    function requestHashOf(BatchId batchId, bool isFinal, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(BATCHES), batchId, isFinal, salt));
    }

    function _publish(Header calldata header, bytes32 salt) private returns (bytes32 requestHash) {
        BatchId batchId = Ids.batch(address(BATCHES), header);
        // slither-disable-next-line unused-return
        (uint256 leafCount, uint256 accepted, uint256 rejected,, bool settled, bool isFinal) =
            BATCHES.resultOf(batchId);
        require(settled, Erc8004AdapterNotSettled(batchId));
        uint8 published = _published[batchId];
        uint8 finality = isFinal ? HARD : SOFT;
        require(published & finality == 0, Erc8004AdapterAlreadyPublished(batchId, isFinal));
        _requireRegistry(address(VALIDATION));
        uint256 agentId = _requireAgent(header.node);
        _requireApproval(agentId);

        _published[batchId] = published | finality;
        requestHash = requestHashOf(batchId, isFinal, salt);
        // At most 100: accepted has no bit beyond leafCount.
        uint8 response = uint8((Majority.popcount(accepted) * 100) / leafCount);
        bytes32 responseHash = keccak256(abi.encode(leafCount, accepted, rejected));
        emit ValidationPublished(batchId, agentId, isFinal, requestHash, response);
        VALIDATION.validationRequest(address(this), agentId, "", requestHash);
        VALIDATION.validationResponse(requestHash, response, "", responseHash, isFinal ? "hard" : "soft");
    }

    function _accepted(BatchId batchId, uint256 index) private view returns (bool) {
        // Soft or final, feedback may be given.
        // slither-disable-next-line unused-return
        (IVerdicts.Verdict verdict,) = BATCHES.verdictOf(batchId, index);
        require(
            verdict == IVerdicts.Verdict.Accepted || verdict == IVerdicts.Verdict.Rejected,
            Erc8004AdapterNoVerdict(batchId, index)
        );
        return verdict == IVerdicts.Verdict.Accepted;
    }

    function _requireAgent(address operator) private view returns (uint256) {
        (bool linked, uint256 agentId) = _agentOf(operator);
        require(linked, Erc8004AdapterNotLinked(operator));
        return agentId;
    }

    function _agentOf(address operator) private view returns (bool linked, uint256 agentId) {
        uint256 agentIdPlusOne = _agents[operator];
        if (agentIdPlusOne == 0) return (false, 0);
        agentId = agentIdPlusOne - 1;
        return _controls(operator, agentId) ? (true, agentId) : (false, 0);
    }

    /// @dev Whether the operator owns the agent or is its wallet. A registry that has no such agent reverts: no.
    function _controls(address operator, uint256 agentId) private view returns (bool) {
        try IDENTITY.ownerOf(agentId) returns (address owner) {
            return owner == operator || IDENTITY.getAgentWallet(agentId) == operator;
        } catch {
            return false;
        }
    }

    function _requireApproval(uint256 agentId) private view {
        address owner = IDENTITY.ownerOf(agentId);
        require(
            IDENTITY.isApprovedForAll(owner, address(this)) || IDENTITY.getApproved(agentId) == address(this),
            Erc8004AdapterNotApproved(agentId, owner, address(this))
        );
    }

    /// @dev Says so instead of reverting without a reason.
    function _requireRegistry(address registry) private view {
        require(registry.code.length > 0, Erc8004AdapterNoRegistry(registry));
    }
}
