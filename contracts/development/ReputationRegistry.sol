// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IErc8004Reputation} from "../interfaces/IErc8004.sol";
import {IdentityRegistry} from "./IdentityRegistry.sol";

/// @title ERC-8004's reputation registry, for development chains and tests
/// @notice See `IdentityRegistry`.
contract ReputationRegistry is IErc8004Reputation {
    struct Feedback {
        int128 value;
        uint8 decimals;
        bool isRevoked;
        string tag1;
        string tag2;
    }

    /// @notice What is asked for; an empty tag is any.
    struct Filter {
        bytes32 tag1;
        bytes32 tag2;
        bool withRevoked;
    }

    int128 private constant MAX_VALUE = 1e38;
    uint8 private constant MAX_DECIMALS = 18;
    bytes32 private constant ANY = keccak256("");

    IdentityRegistry private immutable IDENTITY;

    mapping(uint256 agentId => address[]) private _clients;
    // Written by reference, which Slither does not follow.
    // slither-disable-next-line uninitialized-state
    mapping(uint256 agentId => mapping(address client => Feedback[])) private _feedback;
    mapping(bytes32 place => address[]) private _responders; // one entry a response

    event FeedbackRevoked(uint256 indexed agentId, address indexed clientAddress, uint64 indexed feedbackIndex);
    event ResponseAppended(
        uint256 indexed agentId,
        address indexed clientAddress,
        uint64 feedbackIndex,
        address indexed responder,
        string responseURI,
        bytes32 responseHash
    );

    error TooManyDecimals(uint8 decimals);
    error ValueOutOfBounds(int128 value);
    error SelfFeedback(address caller, uint256 agentId);
    error NoSuchFeedback(uint64 feedbackIndex);
    error AlreadyRevoked(uint64 feedbackIndex);
    error EmptyUri();
    error ClientsRequired();

    constructor(IdentityRegistry identityRegistry) {
        IDENTITY = identityRegistry;
    }

    function giveFeedback(
        uint256 agentId,
        int128 value,
        uint8 valueDecimals,
        string calldata tag1,
        string calldata tag2,
        string calldata endpoint,
        string calldata feedbackURI,
        bytes32 feedbackHash
    ) external {
        require(valueDecimals <= MAX_DECIMALS, TooManyDecimals(valueDecimals));
        require(-MAX_VALUE <= value && value <= MAX_VALUE, ValueOutOfBounds(value));
        require(!IDENTITY.isAuthorizedOrOwner(msg.sender, agentId), SelfFeedback(msg.sender, agentId));
        Feedback[] storage given = _feedback[agentId][msg.sender];
        if (given.length == 0) _clients[agentId].push(msg.sender);
        given.push(Feedback(value, valueDecimals, false, tag1, tag2));
        emit NewFeedback(
            agentId,
            msg.sender,
            uint64(given.length),
            value,
            valueDecimals,
            tag1,
            tag1,
            tag2,
            endpoint,
            feedbackURI,
            feedbackHash
        );
    }

    function revokeFeedback(uint256 agentId, uint64 feedbackIndex) external {
        Feedback storage given = _at(agentId, msg.sender, feedbackIndex);
        require(!given.isRevoked, AlreadyRevoked(feedbackIndex));
        given.isRevoked = true;
        emit FeedbackRevoked(agentId, msg.sender, feedbackIndex);
    }

    function appendResponse(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        string calldata responseURI,
        bytes32 responseHash
    ) external {
        _at(agentId, clientAddress, feedbackIndex);
        require(bytes(responseURI).length > 0, EmptyUri());
        _responders[_place(agentId, clientAddress, feedbackIndex)].push(msg.sender);
        emit ResponseAppended(agentId, clientAddress, feedbackIndex, msg.sender, responseURI, responseHash);
    }

    function getSummary(
        uint256 agentId,
        address[] calldata clientAddresses,
        string calldata tag1,
        string calldata tag2
    ) external view returns (uint64 count, int128 summaryValue, uint8 summaryValueDecimals) {
        require(clientAddresses.length > 0, ClientsRequired());
        Filter memory filter = Filter(keccak256(bytes(tag1)), keccak256(bytes(tag2)), false);
        uint64[] memory ofDecimals = new uint64[](MAX_DECIMALS + 1);
        int256 sum = 0;
        for (uint256 i = 0; i < clientAddresses.length; ++i) {
            Feedback[] storage given = _feedback[agentId][clientAddresses[i]];
            for (uint256 j = 0; j < given.length; ++j) {
                if (!_isWanted(given[j], filter)) continue;
                sum += int256(given[j].value) * _power(MAX_DECIMALS - given[j].decimals);
                ++ofDecimals[given[j].decimals];
                ++count;
            }
        }
        if (count == 0) return (0, 0, 0);
        // In as many decimals as most of it was given.
        for (uint8 d = 1; d <= MAX_DECIMALS; ++d) {
            if (ofDecimals[d] > ofDecimals[summaryValueDecimals]) summaryValueDecimals = d;
        }
        int256 mean = sum / int256(uint256(count));
        summaryValue = int128(mean / _power(MAX_DECIMALS - summaryValueDecimals));
    }

    function readFeedback(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex
    )
        external
        view
        returns (int128 value, uint8 valueDecimals, string memory tag1, string memory tag2, bool isRevoked)
    {
        Feedback storage given = _at(agentId, clientAddress, feedbackIndex);
        return (given.value, given.decimals, given.tag1, given.tag2, given.isRevoked);
    }

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
        )
    {
        Filter memory filter = Filter(keccak256(bytes(tag1)), keccak256(bytes(tag2)), includeRevoked);
        address[] memory asked = clientAddresses;
        if (asked.length == 0) asked = _clients[agentId];
        (clients, feedbackIndexes) = _wanted(agentId, asked, filter);
        values = new int128[](clients.length);
        valueDecimals = new uint8[](clients.length);
        tag1s = new string[](clients.length);
        tag2s = new string[](clients.length);
        revokedStatuses = new bool[](clients.length);
        for (uint256 i = 0; i < clients.length; ++i) {
            Feedback storage given = _at(agentId, clients[i], feedbackIndexes[i]);
            (values[i], valueDecimals[i], revokedStatuses[i]) = (given.value, given.decimals, given.isRevoked);
            (tag1s[i], tag2s[i]) = (given.tag1, given.tag2);
        }
    }

    /// @notice Zero for the client: of all clients; zero for the index: of all that the client gave; no responders: of
    /// all.
    function getResponseCount(
        uint256 agentId,
        address clientAddress,
        uint64 feedbackIndex,
        address[] calldata responders
    ) external view returns (uint64 count) {
        if (clientAddress != address(0)) return _responses(agentId, clientAddress, feedbackIndex, responders);
        address[] storage clients = _clients[agentId];
        for (uint256 i = 0; i < clients.length; ++i) {
            count += _responses(agentId, clients[i], 0, responders);
        }
    }

    function getClients(uint256 agentId) external view returns (address[] memory) {
        return _clients[agentId];
    }

    function getLastIndex(uint256 agentId, address clientAddress) external view returns (uint64) {
        return uint64(_feedback[agentId][clientAddress].length);
    }

    function getIdentityRegistry() external view returns (address) {
        return address(IDENTITY);
    }

    /// @dev In two passes, because arrays in memory do not grow.
    function _wanted(uint256 agentId, address[] memory asked, Filter memory filter)
        private
        view
        returns (address[] memory clients, uint64[] memory indexes)
    {
        uint256 found = 0;
        for (uint256 pass = 0; pass < 2; ++pass) {
            (clients, indexes) = (new address[](found), new uint64[](found));
            uint256 next = 0;
            for (uint256 i = 0; i < asked.length; ++i) {
                Feedback[] storage given = _feedback[agentId][asked[i]];
                for (uint256 j = 0; j < given.length; ++j) {
                    if (!_isWanted(given[j], filter)) continue;
                    if (pass == 1) (clients[next], indexes[next]) = (asked[i], uint64(j + 1));
                    ++next;
                }
            }
            found = next;
        }
    }

    function _responses(uint256 agentId, address client, uint64 index, address[] calldata responders)
        private
        view
        returns (uint64 count)
    {
        uint64 last = index == 0 ? uint64(_feedback[agentId][client].length) : index;
        for (uint64 i = index == 0 ? 1 : index; i <= last; ++i) {
            address[] storage given = _responders[_place(agentId, client, i)];
            for (uint256 j = 0; j < given.length; ++j) {
                if (responders.length == 0 || _isOneOf(given[j], responders)) ++count;
            }
        }
    }

    function _at(uint256 agentId, address client, uint64 index) private view returns (Feedback storage) {
        require(0 < index && index <= _feedback[agentId][client].length, NoSuchFeedback(index));
        return _feedback[agentId][client][index - 1];
    }

    function _isWanted(Feedback storage given, Filter memory filter) private view returns (bool) {
        return (filter.withRevoked || !given.isRevoked)
            && (filter.tag1 == ANY || filter.tag1 == keccak256(bytes(given.tag1)))
            && (filter.tag2 == ANY || filter.tag2 == keccak256(bytes(given.tag2)));
    }

    function _isOneOf(address account, address[] calldata accounts) private pure returns (bool) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (accounts[i] == account) return true;
        }
        return false;
    }

    function _place(uint256 agentId, address client, uint64 index) private pure returns (bytes32) {
        return keccak256(abi.encode(agentId, client, index));
    }

    function _power(uint8 exponent) private pure returns (int256) {
        return int256(10 ** uint256(exponent));
    }
}
