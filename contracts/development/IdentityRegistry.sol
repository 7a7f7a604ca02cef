// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC721URIStorage} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721URIStorage.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";


// Trine's interface is a part of the draft, and ERC721's functions would all be overridden to say the same.
// slither-disable-start missing-inheritance
/// @title ERC-8004's identity registry, for development chains and tests
/// @notice The real registries belong to others, who publish neither a package nor a licence file with them. These
/// three are written from the draft's text (CC0): every function and event that it names, and what it says of who may
/// call what and when; no proxies, no owner, no upgrades. `tests/unit/test_erc8004_reference.py` tries the same against
/// the code that stands on a public chain, where an RPC endpoint is given.
contract IdentityRegistry is ERC721URIStorage, EIP712 {
    struct MetadataEntry {
        string metadataKey;
        bytes metadataValue;
    }

    uint256 private constant MAX_DEADLINE_SECONDS = 300;
    bytes32 private constant WALLET_TYPE =
        keccak256("AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)");
    string private constant WALLET_KEY = "agentWallet";

    uint256 private _next;
    mapping(uint256 agentId => mapping(string key => bytes)) private _metadata;

    event Registered(uint256 indexed agentId, string agentURI, address indexed owner);
    event URIUpdated(uint256 indexed agentId, string newURI, address indexed updatedBy);
    event MetadataSet(
        uint256 indexed agentId, string indexed indexedMetadataKey, string metadataKey, bytes metadataValue
    );

    error NotAuthorized(address caller, uint256 agentId);
    error ReservedKey();
    error BadWallet(address wallet);
    error BadDeadline(uint256 deadline);

    constructor() ERC721("AgentIdentity", "AGENT") EIP712("ERC8004IdentityRegistry", "1") {}

    function register() external returns (uint256 agentId) {
        return _register("");
    }

    function register(string calldata agentURI) external returns (uint256 agentId) {
        return _register(agentURI);
    }

    function register(string calldata agentURI, MetadataEntry[] calldata metadata)
        external
        returns (uint256 agentId)
    {
        agentId = _register(agentURI);
        for (uint256 i = 0; i < metadata.length; ++i) {
            _setMetadata(agentId, metadata[i].metadataKey, metadata[i].metadataValue);
        }
    }

    function setAgentURI(uint256 agentId, string calldata newURI) external {
        _requireAuthorized(agentId);
        _setTokenURI(agentId, newURI);
        emit URIUpdated(agentId, newURI, msg.sender);
    }

    function setMetadata(uint256 agentId, string calldata metadataKey, bytes calldata metadataValue) external {
        _requireAuthorized(agentId);
        _setMetadata(agentId, metadataKey, metadataValue);
    }

    /// @notice Takes the new wallet's signature, of a key or of a contract (ERC-1271).
    function setAgentWallet(uint256 agentId, address newWallet, uint256 deadline, bytes calldata signature) external {
        address owner = _requireAuthorized(agentId);
        uint256 time = block.timestamp;
        require(time <= deadline && deadline <= time + MAX_DEADLINE_SECONDS, BadDeadline(deadline));
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(WALLET_TYPE, agentId, newWallet, owner, deadline)));
        require(
            newWallet != address(0) && SignatureChecker.isValidSignatureNowCalldata(newWallet, digest, signature),
            BadWallet(newWallet)
        );
        _write(agentId, WALLET_KEY, abi.encodePacked(newWallet));
    }

    function unsetAgentWallet(uint256 agentId) external {
        _requireAuthorized(agentId);
        _write(agentId, WALLET_KEY, "");
    }

    function getMetadata(uint256 agentId, string calldata metadataKey) external view returns (bytes memory) {
        return _metadata[agentId][metadataKey];
    }

    function getAgentWallet(uint256 agentId) external view returns (address) {
        return address(bytes20(_metadata[agentId][WALLET_KEY]));
    }

    /// @notice Whether an account is the agent's owner or one of its operators. Reverts where there is no such agent.
    function isAuthorizedOrOwner(address spender, uint256 agentId) external view returns (bool) {
        return _isAuthorized(_requireOwned(agentId), spender, agentId);
    }

    /// @dev A new owner has to show its wallet anew.
    function _update(address to, uint256 agentId, address auth) internal override returns (address) {
        address from = _ownerOf(agentId);
        if (from != address(0) && to != address(0)) _write(agentId, WALLET_KEY, "");
        return super._update(to, agentId, auth);
    }

    /// @dev Agents are numbered from 0.
    function _register(string memory agentURI) private returns (uint256 agentId) {
        agentId = _next++;
        _safeMint(msg.sender, agentId);
        if (bytes(agentURI).length > 0) _setTokenURI(agentId, agentURI);
        emit Registered(agentId, agentURI, msg.sender);
        _write(agentId, WALLET_KEY, abi.encodePacked(msg.sender));
    }

    function _setMetadata(uint256 agentId, string calldata key, bytes calldata value) private {
        require(keccak256(bytes(key)) != keccak256(bytes(WALLET_KEY)), ReservedKey());
        _write(agentId, key, value);
    }

    function _write(uint256 agentId, string memory key, bytes memory value) private {
        _metadata[agentId][key] = value;
        emit MetadataSet(agentId, key, key, value);
    }

    function _requireAuthorized(uint256 agentId) private view returns (address owner) {
        owner = _requireOwned(agentId);
        require(_isAuthorized(owner, msg.sender, agentId), NotAuthorized(msg.sender, agentId));
    }
}
// slither-disable-end missing-inheritance
