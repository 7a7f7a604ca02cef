// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// What Trine asks of ERC-8004's registries, a draft: others deploy them, one owner may upgrade them, and the validation
// registry is expected to change. These are the functions and events of the draft of 2026 (`getVersion` 2.0.0 of the
// public reference) that Trine's contracts and processes use; nothing else of Trine knows them.

import {Opening} from "../libraries/LeafLib.sol";
import {BatchId, Header} from "../types/Types.sol";

/// @title Who an agent is: an ERC-721 token, whose URI leads to its registration file
interface IErc8004Identity {
    event Registered(uint256 indexed agentId, string agentURI, address indexed owner);
    event URIUpdated(uint256 indexed agentId, string newURI, address indexed updatedBy);

    /// @notice Mints an agent, which belongs to the caller and has it as its wallet.
    function register(string calldata agentURI) external returns (uint256 agentId);

    /// @notice Only the agent's owner or operator.
    function setAgentURI(uint256 agentId, string calldata newURI) external;

    function approve(address to, uint256 agentId) external;

    function ownerOf(uint256 agentId) external view returns (address);

    function tokenURI(uint256 agentId) external view returns (string memory);

    function getApproved(uint256 agentId) external view returns (address);

    function isApprovedForAll(address owner, address operator) external view returns (bool);

    /// @notice The address that acts for the agent; cleared when the token is transferred.
    function getAgentWallet(uint256 agentId) external view returns (address);
}

/// @title What clients say of agents
interface IErc8004Reputation {
    event NewFeedback(
        uint256 indexed agentId,
        address indexed clientAddress,
        uint64 feedbackIndex,
        int128 value,
        uint8 valueDecimals,
        string indexed indexedTag1,
        string tag1,
        string tag2,
        string endpoint,
        string feedbackURI,
        bytes32 feedbackHash
    );

    /// @notice Takes feedback from the caller, who may be neither owner nor operator of the agent.
    function giveFeedback(
        uint256 agentId,
        int128 value,
        uint8 valueDecimals,
        string calldata tag1,
        string calldata tag2,
        string calldata endpoint,
        string calldata feedbackURI,
        bytes32 feedbackHash
    ) external;

    /// @notice Mean of what these clients said. There must be some: of all, anybody could be a thousand.
    function getSummary(
        uint256 agentId,
        address[] calldata clientAddresses,
        string calldata tag1,
        string calldata tag2
    ) external view returns (uint64 count, int128 summaryValue, uint8 summaryValueDecimals);

    /// @param feedbackIndex Counted from 1, for each client.
    function readFeedback(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex
    )
        external
        view
        returns (int128 value, uint8 valueDecimals, string memory tag1, string memory tag2, bool isRevoked);

    function getLastIndex(uint256 agentId, address clientAddress) external view returns (uint64);
}

/// @title What validators found out about agents' work
interface IErc8004Validation {
    event ValidationRequest(
        address indexed validatorAddress, uint256 indexed agentId, string requestURI, bytes32 indexed requestHash
    );
    event ValidationResponse(
        address indexed validatorAddress,
        uint256 indexed agentId,
        bytes32 indexed requestHash,
        uint8 response,
        string responseURI,
        bytes32 responseHash,
        string tag
    );

    /// @notice Only the agent's owner or operator; once a hash, whoever comes first.
    function validationRequest(
        address validatorAddress,
        uint256 agentId,
        string calldata requestURI,
        bytes32 requestHash
    ) external;

    /// @notice Only the validator that the request names; may be repeated.
    /// @param response 0 to 100.
    function validationResponse(
        bytes32 requestHash,
        uint8 response,
        string calldata responseURI,
        bytes32 responseHash,
        string calldata tag
    ) external;

    /// @notice Reverts for a hash that nobody has asked about. Until there is a response it is 0, like the worst one.
    function getValidationStatus(bytes32 requestHash)
        external
        view
        returns (
            address validatorAddress,
            uint256 agentId,
            uint8 response,
            bytes32 responseHash,
            string memory tag,
            uint256 lastUpdate
        );

    /// @notice Mean of the responses of these validators with this tag; of all where there are none.
    function getSummary(
        uint256 agentId,
        address[] calldata validatorAddresses,
        string calldata tag
    ) external view returns (uint64 count, uint8 avgResponse);
}

/// @title Trine's verdicts in the registries of ERC-8004
/// @notice Nothing in Trine depends on it: users call it, and a registry that reverts, changes or is missing stops
/// only what they asked of it. An agent's owner approves the adapter once (`setApprovalForAll` on the identity
/// registry), because the validation registry takes requests only from owners and operators; the adapter does nothing
/// else with it.
interface IErc8004Adapter {
    enum Status {
        None, // no such batch
        Pending, // not settled yet
        SettledNotPublished,
        PublishedSoft, // as settled; an appeal may still change it
        PublishedFinal,
        Void // nobody judged it: there is nothing to publish
    }

    event AgentLinked(address indexed operator, uint256 indexed agentId);
    event AgentUnlinked(address indexed operator, uint256 indexed agentId);
    event ValidationPublished(
        BatchId indexed batchId, uint256 indexed agentId, bool isFinal, bytes32 requestHash, uint8 response
    );
    event FeedbackForwarded(
        BatchId indexed batchId, uint256 indexed leafIndex, uint256 indexed agentId, address client, int128 value
    );

    error Erc8004AdapterZeroAddress();
    /// @notice This chain has no such registry, or it was not known at deployment.
    error Erc8004AdapterNoRegistry(address registry);
    error Erc8004AdapterNotYourAgent(uint256 agentId, address caller);
    /// @notice The operator has linked no agent, or the agent has moved to another owner since.
    error Erc8004AdapterNotLinked(address operator);
    /// @notice The agent's owner must call `setApprovalForAll(adapter, true)` on the identity registry once.
    error Erc8004AdapterNotApproved(uint256 agentId, address owner, address adapter);
    error Erc8004AdapterNotSettled(BatchId batchId);
    error Erc8004AdapterAlreadyPublished(BatchId batchId, bool isFinal);
    error Erc8004AdapterBadOpening(BatchId batchId, uint256 leafIndex);
    error Erc8004AdapterNotTheClient(address client, address caller);
    error Erc8004AdapterNoVerdict(BatchId batchId, uint256 leafIndex);
    error Erc8004AdapterAlreadyGiven(BatchId batchId, uint256 leafIndex);
    error Erc8004AdapterDecimalsOutOfBounds(uint8 decimals, uint8 maximum);
    error Erc8004AdapterTagTooLong(uint256 length, uint256 maximum);

    /// @notice Names the caller's agent, which it must own or be the wallet of. Replaces an earlier one.
    /// Checked again at every use: when the agent has moved to another owner, it is not the operator's any more.
    function link(uint256 agentId) external;

    /// @notice Forgets the caller's agent. What was published stays.
    function unlink() external;

    /// @notice The operator's agent, as far as it is still the operator's.
    function agentOf(address operator) external view returns (bool linked, uint256 agentId);

    /// @notice Publishes a settled batch of a linked operator, tagged `soft`, and once nothing changes it any more,
    /// tagged `hard`; each once. The answer is the share of accepted leaves, 0 to 100, rounded down: 100 only if all
    /// were accepted. Anyone may call. Request and answer are one transaction; nobody else can answer, and nobody
    /// answers again.
    /// @dev `responseHash` is keccak256(abi.encode(leafCount, accepted, rejected)). The request is `requestHashOf`
    /// with salt zero.
    function publish(Header calldata header) external returns (bytes32 requestHash);

    /// @notice `publish`, for when another agent's owner has taken the hash in the registry, which then refuses ours:
    /// any salt gives a new one.
    function publishUnder(Header calldata header, bytes32 salt) external returns (bytes32 requestHash);

    /// @notice Where the batch stands, which the registry alone cannot tell: it shows 0 for pending and for rejected.
    function statusOf(BatchId batchId) external view returns (Status);

    /// @notice keccak256(abi.encode(chainid, Batches, batchId, isFinal, salt)).
    function requestHashOf(BatchId batchId, bool isFinal, bytes32 salt) external view returns (bytes32);

    /// @notice Feedback of the client on an answer that was accepted or rejected, once an answer. In the reputation
    /// registry it comes from `feedbackAuthor`, so that a summary filtered by that one address counts paid and judged
    /// work only; `tag2` is the verdict, `feedbackHash` is keccak256(abi.encode(chainid, Batches, batchId,
    /// leafIndex)).
    /// @dev Warning: the registry takes no feedback from an agent's operators, so an owner that approves
    /// `feedbackAuthor` refuses all of it. Trine's own reputation does not depend on it.
    /// @param decimals Of `value`, 0 to 18.
    /// @param tag What the value measures, at most 64 bytes.
    function giveFeedback(
        BatchId batchId,
        Opening calldata opening,
        int128 value,
        uint8 decimals,
        string calldata tag
    ) external;

    /// @notice The registries that this adapter speaks to; zero where the chain had none when it was deployed.
    function registries() external view returns (address identity, address reputation, address validation);

    /// @notice The contract that speaks to the reputation registry. It is not the adapter, because the adapter is an
    /// operator of the agents, from whom that registry takes nothing.
    function feedbackAuthor() external view returns (address);
}
