// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IErc8004Validation} from "../interfaces/IErc8004.sol";
import {IdentityRegistry} from "./IdentityRegistry.sol";

/// @title ERC-8004's validation registry, for development chains and tests
/// @notice See `IdentityRegistry`.
contract ValidationRegistry is IErc8004Validation {
    struct Validation {
        address validator;
        uint256 agentId;
        uint8 response;
        bool isAnswered;
        bytes32 responseHash;
        string tag;
        uint256 lastUpdate;
    }

    uint8 private constant MAX_RESPONSE = 100;

    IdentityRegistry private immutable IDENTITY;

    mapping(bytes32 requestHash => Validation) private _validations;
    mapping(uint256 agentId => bytes32[]) private _ofAgent;
    mapping(address validator => bytes32[]) private _ofValidator;

    error BadValidator();
    error RequestExists(bytes32 requestHash);
    error UnknownRequest(bytes32 requestHash);
    error NotAuthorized(address caller, uint256 agentId);
    error NotTheValidator(address caller);
    error ResponseOutOfBounds(uint8 response);

    constructor(IdentityRegistry identityRegistry) {
        IDENTITY = identityRegistry;
    }

    function validationRequest(
        address validatorAddress,
        uint256 agentId,
        string calldata requestURI,
        bytes32 requestHash
    ) external {
        require(validatorAddress != address(0), BadValidator());
        require(_validations[requestHash].validator == address(0), RequestExists(requestHash));
        require(IDENTITY.isAuthorizedOrOwner(msg.sender, agentId), NotAuthorized(msg.sender, agentId));
        _validations[requestHash] = Validation(validatorAddress, agentId, 0, false, 0, "", block.timestamp);
        _ofAgent[agentId].push(requestHash);
        _ofValidator[validatorAddress].push(requestHash);
        emit ValidationRequest(validatorAddress, agentId, requestURI, requestHash);
    }

    function validationResponse(
        bytes32 requestHash,
        uint8 response,
        string calldata responseURI,
        bytes32 responseHash,
        string calldata tag
    ) external {
        Validation storage validation = _known(requestHash);
        require(msg.sender == validation.validator, NotTheValidator(msg.sender));
        require(response <= MAX_RESPONSE, ResponseOutOfBounds(response));
        (validation.response, validation.isAnswered) = (response, true);
        (validation.responseHash, validation.tag) = (responseHash, tag);
        validation.lastUpdate = block.timestamp;
        emit ValidationResponse(
            msg.sender, validation.agentId, requestHash, response, responseURI, responseHash, tag
        );
    }

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
        )
    {
        Validation storage v = _known(requestHash);
        return (v.validator, v.agentId, v.response, v.responseHash, v.tag, v.lastUpdate);
    }

    function getSummary(
        uint256 agentId,
        address[] calldata validatorAddresses,
        string calldata tag
    ) external view returns (uint64 count, uint8 avgResponse) {
        bytes32[] storage requests = _ofAgent[agentId];
        uint256 sum = 0;
        for (uint256 i = 0; i < requests.length; ++i) {
            Validation storage v = _validations[requests[i]];
            if (!v.isAnswered || !_isWanted(v.validator, validatorAddresses)) continue;
            if (bytes(tag).length > 0 && keccak256(bytes(tag)) != keccak256(bytes(v.tag))) continue;
            sum += v.response;
            ++count;
        }
        if (count > 0) avgResponse = uint8(sum / count);
    }

    function getAgentValidations(uint256 agentId) external view returns (bytes32[] memory) {
        return _ofAgent[agentId];
    }

    function getValidatorRequests(address validatorAddress) external view returns (bytes32[] memory) {
        return _ofValidator[validatorAddress];
    }

    function getIdentityRegistry() external view returns (address) {
        return address(IDENTITY);
    }

    function _known(bytes32 requestHash) private view returns (Validation storage validation) {
        validation = _validations[requestHash];
        require(validation.validator != address(0), UnknownRequest(requestHash));
    }

    function _isWanted(address validator, address[] calldata validators) private pure returns (bool) {
        for (uint256 i = 0; i < validators.length; ++i) {
            if (validators[i] == validator) return true;
        }
        return validators.length == 0;
    }
}
