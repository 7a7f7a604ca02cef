// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IErc8004Identity, IErc8004Reputation, IErc8004Validation} from "../../../contracts/interfaces/IErc8004.sol";

// What tests ask of the registries besides what Trine does.

interface IIdentityRegistry is IErc8004Identity {
    struct MetadataEntry {
        string metadataKey;
        bytes metadataValue;
    }

    event MetadataSet(
        uint256 indexed agentId, string indexed indexedMetadataKey, string metadataKey, bytes metadataValue
    );

    function register() external returns (uint256 agentId);
    function register(string calldata agentURI, MetadataEntry[] calldata metadata) external returns (uint256 agentId);
    function setMetadata(uint256 agentId, string calldata metadataKey, bytes calldata metadataValue) external;
    function getMetadata(uint256 agentId, string calldata metadataKey) external view returns (bytes memory);
    function setAgentWallet(uint256 agentId, address newWallet, uint256 deadline, bytes calldata signature) external;
    function unsetAgentWallet(uint256 agentId) external;
    function isAuthorizedOrOwner(address spender, uint256 agentId) external view returns (bool);
    function setApprovalForAll(address operator, bool approved) external;
    function transferFrom(address from, address to, uint256 agentId) external;
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory);
}

interface IReputationRegistry is IErc8004Reputation {
    event FeedbackRevoked(uint256 indexed agentId, address indexed clientAddress, uint64 indexed feedbackIndex);
    event ResponseAppended(
        uint256 indexed agentId,
        address indexed clientAddress,
        uint64 feedbackIndex,
        address indexed responder,
        string responseURI,
        bytes32 responseHash
    );

    function revokeFeedback(uint256 agentId, uint64 feedbackIndex) external;
    function appendResponse(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        string calldata responseURI,
        bytes32 responseHash
    ) external;
    function readAllFeedback(
        uint256 agentId,
        address[] calldata clientAddresses,
        string calldata tag1,
        string calldata tag2,
        bool includeRevoked
    )
        external
        view
        returns (
            address[] memory clients,
            uint64[] memory feedbackIndexes,
            int128[] memory values,
            uint8[] memory valueDecimals,
            string[] memory tag1s,
            string[] memory tag2s,
            bool[] memory revokedStatuses
        );
    function getResponseCount(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        address[] calldata responders
    ) external view returns (uint64 count);
    function getClients(uint256 agentId) external view returns (address[] memory);
    function getIdentityRegistry() external view returns (address);
}

interface IValidationRegistry is IErc8004Validation {
    function getAgentValidations(uint256 agentId) external view returns (bytes32[] memory);
    function getValidatorRequests(address validatorAddress) external view returns (bytes32[] memory);
    function getIdentityRegistry() external view returns (address);
}

/// @notice What a validation registry says of a request.
struct Validation {
    address validator;
    uint256 agentId;
    uint8 response;
    bytes32 responseHash;
    string tag;
}

/// @notice What a client said.
struct Feedback {
    int128 value;
    uint8 decimals;
    string tag1;
    string tag2;
    bool isRevoked;
}

/// @notice Answers of the registries as structs.
library Read {
    function validation(IErc8004Validation registry, bytes32 requestHash) internal view returns (Validation memory v) {
        (v.validator, v.agentId, v.response, v.responseHash, v.tag,) = registry.getValidationStatus(requestHash);
    }

    function feedback(IErc8004Reputation registry, uint256 agentId, address client, uint64 index)
        internal
        view
        returns (Feedback memory f)
    {
        (f.value, f.decimals, f.tag1, f.tag2, f.isRevoked) = registry.readFeedback(agentId, client, index);
    }
}
