// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

import {IErc8004Identity} from "../../../contracts/interfaces/IErc8004.sol";
import {IReputationRegistry, IValidationRegistry} from "./IRegistries.sol";

// The registries of ERC-8004 belong to others. These are written from the draft's text and do what it and the public
// reference say of who may call what and when, no more: no URIs, no summaries, no upgrades.

/// @notice Agents are numbered from 0; an agent's wallet is its first owner, and nobody after a transfer.
contract IdentityRegistry is ERC721("AgentIdentity", "AGENT") {
    uint256 private _next;
    mapping(uint256 agentId => address) private _wallets;

    function register() external returns (uint256 agentId) {
        agentId = _next++;
        _wallets[agentId] = msg.sender;
        _mint(msg.sender, agentId);
    }

    /// @dev The real one asks for the new wallet's signature.
    function setAgentWallet(uint256 agentId, address wallet) external {
        require(msg.sender == ownerOf(agentId), "Not authorized");
        _wallets[agentId] = wallet;
    }

    function getAgentWallet(uint256 agentId) external view returns (address) {
        _requireOwned(agentId);
        return _wallets[agentId];
    }

    function _update(address to, uint256 agentId, address auth) internal override returns (address from) {
        from = super._update(to, agentId, auth);
        if (from != address(0)) delete _wallets[agentId];
    }
}

abstract contract KnowsAgents {
    IErc8004Identity internal immutable IDENTITY;

    constructor(IErc8004Identity identity) {
        IDENTITY = identity;
    }

    function _isOwnerOrOperator(address account, uint256 agentId) internal view returns (bool) {
        address owner = IDENTITY.ownerOf(agentId);
        return account == owner || IDENTITY.isApprovedForAll(owner, account)
            || IDENTITY.getApproved(agentId) == account;
    }
}

contract ReputationRegistry is IReputationRegistry, KnowsAgents {
    mapping(uint256 agentId => mapping(address client => Feedback[])) private _feedback;

    constructor(IErc8004Identity identity) KnowsAgents(identity) {}

    function giveFeedback(
        uint256 agentId,
        int128 value,
        uint8 valueDecimals,
        string calldata tag1,
        string calldata tag2,
        string calldata,
        string calldata,
        bytes32 feedbackHash
    ) external {
        require(valueDecimals <= 18, "too many decimals");
        require(value >= -1e38 && value <= 1e38, "value too large");
        require(!_isOwnerOrOperator(msg.sender, agentId), "Self-feedback not allowed");
        _feedback[agentId][msg.sender].push(Feedback(value, valueDecimals, tag1, tag2, feedbackHash));
    }

    function getLastIndex(uint256 agentId, address client) external view returns (uint64) {
        return uint64(_feedback[agentId][client].length);
    }

    /// @param index Counted from 1.
    function readFeedback(uint256 agentId, address client, uint64 index) external view returns (Feedback memory) {
        return _feedback[agentId][client][index - 1];
    }
}

contract ValidationRegistry is IValidationRegistry, KnowsAgents {
    mapping(bytes32 requestHash => Validation) private _validations;

    constructor(IErc8004Identity identity) KnowsAgents(identity) {}

    function validationRequest(address validator, uint256 agentId, string calldata, bytes32 requestHash) external {
        require(validator != address(0), "bad validator");
        require(_validations[requestHash].validator == address(0), "exists");
        require(_isOwnerOrOperator(msg.sender, agentId), "Not authorized");
        _validations[requestHash].validator = validator;
        _validations[requestHash].agentId = agentId;
    }

    function validationResponse(
        bytes32 requestHash,
        uint8 response,
        string calldata,
        bytes32 responseHash,
        string calldata tag
    ) external {
        Validation storage validation = _validations[requestHash];
        require(response <= 100, "resp>100");
        require(validation.validator != address(0), "unknown");
        require(validation.validator == msg.sender, "not validator");
        validation.response = response;
        validation.responseHash = responseHash;
        validation.tag = tag;
        ++validation.responses;
    }

    function getValidationStatus(bytes32 requestHash) external view returns (Validation memory) {
        require(_validations[requestHash].validator != address(0), "unknown");
        return _validations[requestHash];
    }
}
