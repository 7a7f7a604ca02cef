// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IErc8004Reputation, IErc8004Validation} from "../../../contracts/interfaces/IErc8004.sol";

// What tests ask of the registries besides what the adapter does.

interface IIdentityRegistry {
    function register() external returns (uint256 agentId);
    function setAgentWallet(uint256 agentId, address wallet) external;
    function approve(address to, uint256 agentId) external;
    function setApprovalForAll(address operator, bool approved) external;
    function transferFrom(address from, address to, uint256 agentId) external;
}

interface IReputationRegistry is IErc8004Reputation {
    struct Feedback {
        int128 value;
        uint8 decimals;
        string tag1;
        string tag2;
        bytes32 feedbackHash;
    }

    /// @param index Counted from 1.
    function readFeedback(uint256 agentId, address client, uint64 index) external view returns (Feedback memory);
}

interface IValidationRegistry is IErc8004Validation {
    struct Validation {
        address validator;
        uint256 agentId;
        uint8 response;
        bytes32 responseHash;
        string tag;
        uint256 responses; // not in the draft: how often it was answered
    }

    function getValidationStatus(bytes32 requestHash) external view returns (Validation memory);
}
