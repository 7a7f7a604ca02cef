// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IErc8004Identity, IErc8004Validation} from "../../contracts/interfaces/IErc8004.sol";
import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";
import {IIdentityRegistry, IReputationRegistry, IValidationRegistry} from "./erc8004/IRegistries.sol";

/// @notice What ERC-8004's draft says of its registries, held by the ones that stand in for them on development chains.
contract RegistriesTest {
    address private constant OWNER = address(0xA1);
    address private constant FRIEND = address(0xF1);
    address private constant ALICE = address(0xC1);
    address private constant BOB = address(0xC2);
    uint256 private constant WALLET_KEY = 0xa11e7;

    IIdentityRegistry private _identity;
    IReputationRegistry private _reputation;
    IValidationRegistry private _validation;
    uint256 private _agent;

    function setUp() external {
        _identity = IIdentityRegistry(Built.create("IdentityRegistry"));
        _reputation = IReputationRegistry(Built.create("ReputationRegistry", abi.encode(_identity)));
        _validation = IValidationRegistry(Built.create("ValidationRegistry", abi.encode(_identity)));
        vm.startPrank(OWNER);
        _identity.register();
        _agent = _identity.register("ipfs://agent");
        vm.stopPrank();
        vm.warp(1_000_000);
    }

    // Identity

    function testAgentsAreNumberedFromZeroAndBelongToWhoRegisters() external {
        Check.eq(_agent, 1, "the second");
        Check.eq(_identity.ownerOf(0), OWNER, "owner");
        Check.eq(_identity.getAgentWallet(0), OWNER, "wallet");
        _same(_identity.tokenURI(1), "ipfs://agent");
        _same(_identity.tokenURI(0), "");
        IIdentityRegistry.MetadataEntry[] memory entries = new IIdentityRegistry.MetadataEntry[](2);
        entries[0] = IIdentityRegistry.MetadataEntry("a", "1");
        entries[1] = IIdentityRegistry.MetadataEntry("b", "2");
        vm.prank(ALICE);
        uint256 third = _identity.register("ipfs://third", entries);
        Check.eq(third, 2, "the third");
        _same(string(_identity.getMetadata(third, "a")), "1");
        _same(string(_identity.getMetadata(third, "b")), "2");
    }

    function testOnlyOwnersAndOperatorsWriteAndNobodyTheWallet() external {
        bytes memory refusal = abi.encodeWithSignature("NotAuthorized(address,uint256)", ALICE, _agent);
        vm.startPrank(ALICE);
        vm.expectRevert(refusal);
        _identity.setAgentURI(_agent, "x");
        vm.expectRevert(refusal);
        _identity.setMetadata(_agent, "a", "1");
        vm.expectRevert(refusal);
        _identity.setAgentWallet(_agent, ALICE, block.timestamp, "");
        vm.expectRevert(refusal);
        _identity.unsetAgentWallet(_agent);
        vm.stopPrank();
        vm.prank(OWNER);
        _identity.approve(FRIEND, _agent);
        vm.startPrank(FRIEND);
        vm.expectEmit(address(_identity));
        emit IErc8004Identity.URIUpdated(_agent, "ipfs://new", FRIEND);
        _identity.setAgentURI(_agent, "ipfs://new");
        _identity.setMetadata(_agent, "a", "1");
        vm.expectRevert(abi.encodeWithSignature("ReservedKey()"));
        _identity.setMetadata(_agent, "agentWallet", "1");
        _identity.unsetAgentWallet(_agent);
        vm.stopPrank();
        _same(_identity.tokenURI(_agent), "ipfs://new");
        _same(string(_identity.getMetadata(_agent, "a")), "1");
        Check.eq(_identity.getAgentWallet(_agent), address(0), "unset");
    }

    function testAWalletSignsThatItIsOneAndForMinutesOnly() external {
        address wallet = vm.addr(WALLET_KEY);
        vm.startPrank(OWNER);
        for (uint256 i = 0; i < 2; ++i) {
            uint256 deadline = i == 0 ? block.timestamp - 1 : block.timestamp + 301;
            bytes memory late = _signed(wallet, deadline);
            vm.expectRevert(abi.encodeWithSignature("BadDeadline(uint256)", deadline));
            _identity.setAgentWallet(_agent, wallet, deadline, late);
        }
        bytes memory signature = _signed(wallet, block.timestamp);
        vm.expectRevert(abi.encodeWithSignature("BadWallet(address)", ALICE));
        _identity.setAgentWallet(_agent, ALICE, block.timestamp, signature);
        vm.expectRevert(abi.encodeWithSignature("BadWallet(address)", address(0)));
        _identity.setAgentWallet(_agent, address(0), block.timestamp, signature);
        _identity.setAgentWallet(_agent, wallet, block.timestamp, signature);
        Check.eq(_identity.getAgentWallet(_agent), wallet, "signed");
        uint256 last = block.timestamp + 300;
        _identity.setAgentWallet(_agent, wallet, last, _signed(wallet, last));
        _identity.transferFrom(OWNER, BOB, _agent);
        vm.stopPrank();
        Check.eq(_identity.getAgentWallet(_agent), address(0), "a new owner shows its own");
        Check.yes(_identity.isAuthorizedOrOwner(BOB, _agent), "the new owner");
        Check.yes(!_identity.isAuthorizedOrOwner(OWNER, _agent), "no more");
    }

    function testAnAgentAndItsMetadataAreTold() external {
        vm.startPrank(OWNER);
        vm.expectEmit(address(_identity));
        emit IErc8004Identity.Registered(2, "ipfs://third", OWNER);
        vm.expectEmit(address(_identity));
        emit IIdentityRegistry.MetadataSet(2, "agentWallet", "agentWallet", abi.encodePacked(OWNER));
        _identity.register("ipfs://third");
        vm.expectEmit(address(_identity));
        emit IIdentityRegistry.MetadataSet(_agent, "a", "a", "1");
        _identity.setMetadata(_agent, "a", "1");
        vm.expectEmit(address(_identity));
        emit IIdentityRegistry.MetadataSet(_agent, "agentWallet", "agentWallet", "");
        _identity.unsetAgentWallet(_agent);
        vm.stopPrank();
    }

    // Reputation

    function testFeedbackIsBoundedAndNotOnesOwn() external {
        vm.expectRevert(abi.encodeWithSignature("TooManyDecimals(uint8)", 19));
        _say(ALICE, 1, 19, "", "");
        vm.expectRevert(abi.encodeWithSignature("ValueOutOfBounds(int128)", int128(1e38 + 1)));
        _say(ALICE, 1e38 + 1, 0, "", "");
        vm.expectRevert(abi.encodeWithSignature("ValueOutOfBounds(int128)", -int128(1e38 + 1)));
        _say(ALICE, -1e38 - 1, 0, "", "");
        vm.expectRevert(abi.encodeWithSignature("SelfFeedback(address,uint256)", OWNER, _agent));
        _say(OWNER, 1, 0, "", "");
        _say(ALICE, 1e38, 18, "", "");
        _say(ALICE, -1e38, 0, "", "");
        Check.eq(_reputation.getLastIndex(_agent, ALICE), 2, "two");
        Check.eq(_reputation.getLastIndex(_agent, BOB), 0, "none");
    }

    function testASummaryIsTheMeanOfTheseClientsInTheMostUsedDecimals() external {
        _say(ALICE, 5e17, 18, "starred", "chat");
        (uint64 count, int128 value, uint8 decimals) = _reputation.getSummary(_agent, _one(ALICE), "", "");
        Check.eq(count, 1, "one");
        Check.yes(value == 5e17 && decimals == 18, "as it was given");
        _say(ALICE, 87, 0, "starred", "code");
        _say(ALICE, 855, 1, "starred", "code");
        _say(ALICE, 845, 1, "quick", "code");
        _say(BOB, 1, 0, "starred", "chat");
        (count, value, decimals) = _reputation.getSummary(_agent, _one(ALICE), "", "");
        Check.eq(count, 4, "hers");
        // (0.5 + 87 + 85.5 + 84.5) / 4 = 64.375
        Check.yes(value == 643 && decimals == 1, "mean, cut off");
        (count, value, decimals) = _reputation.getSummary(_agent, _two(), "starred", "chat");
        Check.eq(count, 2, "both tags");
        Check.yes(value == 0 && decimals == 0, "as few decimals as as many were given in");
        (count, value,) = _reputation.getSummary(_agent, _one(ALICE), "quick", "");
        Check.yes(count == 1 && value == 845, "one tag");
        (count, value, decimals) = _reputation.getSummary(_agent, _one(ALICE), "quick", "chat");
        Check.yes(count == 0 && value == 0 && decimals == 0, "no such");
        vm.prank(ALICE);
        _reputation.revokeFeedback(_agent, 4);
        (count,,) = _reputation.getSummary(_agent, _one(ALICE), "quick", "");
        Check.eq(count, 0, "taken back");
        vm.expectRevert(abi.encodeWithSignature("ClientsRequired()"));
        _reputation.getSummary(_agent, new address[](0), "", "");
    }

    function testFeedbackIsTakenBackOnceAndByItsAuthor() external {
        _say(ALICE, 3, 0, "t", "u");
        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSignature("NoSuchFeedback(uint64)", 1));
        _reputation.revokeFeedback(_agent, 1);
        vm.startPrank(ALICE);
        vm.expectRevert(abi.encodeWithSignature("NoSuchFeedback(uint64)", 0));
        _reputation.revokeFeedback(_agent, 0);
        vm.expectRevert(abi.encodeWithSignature("NoSuchFeedback(uint64)", 2));
        _reputation.revokeFeedback(_agent, 2);
        _reputation.revokeFeedback(_agent, 1);
        vm.expectRevert(abi.encodeWithSignature("AlreadyRevoked(uint64)", 1));
        _reputation.revokeFeedback(_agent, 1);
        vm.stopPrank();
        (int128 value, uint8 decimals, string memory tag1, string memory tag2, bool isRevoked) =
            _reputation.readFeedback(_agent, ALICE, 1);
        Check.yes(value == 3 && decimals == 0 && isRevoked, "still there");
        _same(tag1, "t");
        _same(tag2, "u");
    }

    function testAllFeedbackIsListedWithOrWithoutWhatWasTakenBack() external {
        _say(ALICE, 1, 0, "t", "u");
        _say(ALICE, 2, 1, "t", "v");
        _say(BOB, 3, 2, "w", "u");
        vm.prank(ALICE);
        _reputation.revokeFeedback(_agent, 1);
        (address[] memory clients, uint64[] memory indexes, int128[] memory values,,,,) =
            _reputation.readAllFeedback(_agent, new address[](0), "", "", false);
        Check.eq(clients.length, 2, "of all clients");
        Check.yes(clients[0] == ALICE && indexes[0] == 2 && values[0] == 2, "hers");
        Check.yes(clients[1] == BOB && indexes[1] == 1 && values[1] == 3, "his");
        bool[] memory revoked;
        string[] memory tags;
        uint8[] memory decimals;
        string[] memory others;
        (clients, indexes,, decimals, tags, others, revoked) =
            _reputation.readAllFeedback(_agent, _one(ALICE), "t", "", true);
        Check.eq(clients.length, 2, "hers, revoked too");
        Check.yes(revoked[0] && !revoked[1] && decimals[1] == 1, "which");
        _same(tags[1], "t");
        _same(others[1], "v");
        (clients,,,,,,) = _reputation.readAllFeedback(_agent, new address[](0), "", "u", false);
        Check.yes(clients.length == 1 && clients[0] == BOB, "by the second tag");
        address[] memory all = _reputation.getClients(_agent);
        Check.yes(all.length == 2 && all[0] == ALICE && all[1] == BOB, "each once");
        Check.eq(_reputation.getIdentityRegistry(), address(_identity), "identity");
    }

    function testResponsesAreCountedByClientFeedbackAndResponder() external {
        _say(ALICE, 1, 0, "", "");
        _say(ALICE, 2, 0, "", "");
        _say(BOB, 3, 0, "", "");
        vm.expectRevert(abi.encodeWithSignature("NoSuchFeedback(uint64)", 2));
        _reputation.appendResponse(_agent, BOB, 2, "ipfs://r", "");
        vm.expectRevert(abi.encodeWithSignature("EmptyUri()"));
        _reputation.appendResponse(_agent, ALICE, 1, "", "");
        vm.prank(BOB);
        _reputation.appendResponse(_agent, BOB, 1, "r", "");
        Check.eq(_reputation.getResponseCount(_agent, BOB, 1, new address[](0)), 1, "however short");
        _respond(OWNER, ALICE, 1);
        _respond(OWNER, ALICE, 1);
        _respond(FRIEND, ALICE, 2);
        _respond(FRIEND, BOB, 1);
        Check.eq(_reputation.getResponseCount(_agent, address(0), 0, new address[](0)), 5, "all");
        Check.eq(_reputation.getResponseCount(_agent, ALICE, 0, new address[](0)), 3, "to her");
        Check.eq(_reputation.getResponseCount(_agent, ALICE, 1, new address[](0)), 2, "to her first");
        Check.eq(_reputation.getResponseCount(_agent, ALICE, 2, new address[](0)), 1, "to her second");
        Check.eq(_reputation.getResponseCount(_agent, ALICE, 0, _one(FRIEND)), 1, "to her by one");
        Check.eq(_reputation.getResponseCount(_agent, address(0), 0, _one(FRIEND)), 2, "by one");
    }

    function testWhatIsTakenBackOrRespondedIsTold() external {
        _say(ALICE, 1, 0, "", "");
        vm.expectEmit(address(_reputation));
        emit IReputationRegistry.ResponseAppended(_agent, ALICE, 1, FRIEND, "ipfs://r", "hash");
        vm.prank(FRIEND);
        _reputation.appendResponse(_agent, ALICE, 1, "ipfs://r", "hash");
        vm.expectEmit(address(_reputation));
        emit IReputationRegistry.FeedbackRevoked(_agent, ALICE, 1);
        vm.prank(ALICE);
        _reputation.revokeFeedback(_agent, 1);
    }

    // Validation

    function testRequestAndResponseAreTold() external {
        vm.expectEmit(address(_validation));
        emit IErc8004Validation.ValidationRequest(BOB, _agent, "ipfs://q", "q");
        vm.prank(OWNER);
        _validation.validationRequest(BOB, _agent, "ipfs://q", "q");
        vm.expectEmit(address(_validation));
        emit IErc8004Validation.ValidationResponse(BOB, _agent, "q", 50, "ipfs://r", "r", "soft");
        vm.prank(BOB);
        _validation.validationResponse("q", 50, "ipfs://r", "r", "soft");
    }

    function testARequestIsTheOwnersAndStandsOnce() external {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSignature("NotAuthorized(address,uint256)", ALICE, _agent));
        _validation.validationRequest(BOB, _agent, "ipfs://q", "q");
        vm.startPrank(OWNER);
        vm.expectRevert(abi.encodeWithSignature("BadValidator()"));
        _validation.validationRequest(address(0), _agent, "ipfs://q", "q");
        _validation.validationRequest(BOB, _agent, "ipfs://q", "q");
        vm.expectRevert(abi.encodeWithSignature("RequestExists(bytes32)", bytes32("q")));
        _validation.validationRequest(BOB, _agent, "ipfs://q", "q");
        vm.stopPrank();
        (address validator, uint256 agentId, uint8 response,,, uint256 updated) = _validation.getValidationStatus("q");
        Check.yes(validator == BOB && agentId == _agent && response == 0 && updated == 1_000_000, "as asked");
        vm.expectRevert(abi.encodeWithSignature("UnknownRequest(bytes32)", bytes32("other")));
        _validation.getValidationStatus("other");
    }

    function testAResponseIsTheValidatorsMayChangeAndHasBounds() external {
        vm.prank(OWNER);
        _validation.validationRequest(BOB, _agent, "ipfs://q", "q");
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSignature("NotTheValidator(address)", ALICE));
        _validation.validationResponse("q", 1, "", "", "");
        vm.warp(1_000_007);
        vm.startPrank(BOB);
        vm.expectRevert(abi.encodeWithSignature("ResponseOutOfBounds(uint8)", 101));
        _validation.validationResponse("q", 101, "", "", "");
        vm.expectRevert(abi.encodeWithSignature("UnknownRequest(bytes32)", bytes32("other")));
        _validation.validationResponse("other", 1, "", "", "");
        _validation.validationResponse("q", 50, "ipfs://r", "r", "soft");
        _validation.validationResponse("q", 100, "ipfs://s", "s", "hard");
        vm.stopPrank();
        (,, uint8 response, bytes32 hash, string memory tag, uint256 updated) = _validation.getValidationStatus("q");
        Check.yes(response == 100 && hash == "s" && updated == 1_000_007, "the last");
        _same(tag, "hard");
    }

    function testASummaryOfValidationsCountsWhatWasAnswered() external {
        _validated(ALICE, "a", 80, "soft");
        _validated(BOB, "b", 91, "hard");
        vm.prank(OWNER);
        _validation.validationRequest(BOB, _agent, "ipfs://q", "open");
        (uint64 count, uint8 mean) = _validation.getSummary(_agent, new address[](0), "");
        Check.yes(count == 2 && mean == 85, "of all who answered, cut off");
        (count, mean) = _validation.getSummary(_agent, _one(BOB), "");
        Check.yes(count == 1 && mean == 91, "of one");
        (count, mean) = _validation.getSummary(_agent, new address[](0), "soft");
        Check.yes(count == 1 && mean == 80, "of a tag");
        (count, mean) = _validation.getSummary(_agent, _one(OWNER), "");
        Check.yes(count == 0 && mean == 0, "of nobody");
        Check.eq(_validation.getAgentValidations(_agent).length, 3, "of the agent");
        Check.eq(_validation.getValidatorRequests(BOB).length, 2, "of the validator");
        Check.eq(_validation.getIdentityRegistry(), address(_identity), "identity");
    }

    function _validated(address validator, bytes32 hash, uint8 response, string memory tag) private {
        vm.prank(OWNER);
        _validation.validationRequest(validator, _agent, "ipfs://q", hash);
        vm.prank(validator);
        _validation.validationResponse(hash, response, "ipfs://r", "", tag);
    }

    function _respond(address responder, address client, uint64 index) private {
        vm.prank(responder);
        _reputation.appendResponse(_agent, client, index, "ipfs://r", "");
    }

    function _say(address client, int128 value, uint8 decimals, string memory tag1, string memory tag2) private {
        vm.prank(client);
        _reputation.giveFeedback(_agent, value, decimals, tag1, tag2, "", "", "");
    }

    function _signed(address wallet, uint256 deadline) private returns (bytes memory) {
        bytes32 kind = keccak256("AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)");
        (, string memory name, string memory version, uint256 chain, address registry,,) = _identity.eip712Domain();
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chain,
                registry
            )
        );
        bytes32 content = keccak256(abi.encode(kind, _agent, wallet, OWNER, deadline));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_KEY, keccak256(abi.encodePacked("\x19\x01", domain, content)));
        return abi.encodePacked(r, s, v);
    }

    function _one(address client) private pure returns (address[] memory clients) {
        clients = new address[](1);
        clients[0] = client;
    }

    function _two() private pure returns (address[] memory clients) {
        clients = new address[](2);
        (clients[0], clients[1]) = (ALICE, BOB);
    }

    function _same(string memory actual, string memory expected) private pure {
        Check.eq(keccak256(bytes(actual)), keccak256(bytes(expected)), expected);
    }
}
