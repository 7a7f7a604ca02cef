// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IErc8004Adapter, IErc8004Reputation, IErc8004Validation} from "../../contracts/interfaces/IErc8004.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {LeafLib, Opening} from "../../contracts/libraries/LeafLib.sol";
import {Majority} from "../../contracts/libraries/Majority.sol";
import {BatchId, Header, Ids, ModelId} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";
import {
    Feedback,
    IIdentityRegistry,
    IReputationRegistry,
    IValidationRegistry,
    Read,
    Validation
} from "./erc8004/IRegistries.sol";

/// @notice Verdicts as a test sets them; says of a batch what `IVerdicts` demands.
contract Verdicts is IVerdicts {
    struct Result {
        address node;
        uint256 leafCount;
        uint256 accepted;
        uint256 rejected;
        bool settled;
        bool isFinal;
        bool void;
    }

    mapping(BatchId batchId => Result) private _results;

    function set(BatchId batchId, Result calldata result) external {
        _results[batchId] = result;
    }

    function verdictOf(BatchId batchId, uint256 leafIndex) external view returns (Verdict verdict, bool isFinal) {
        Result storage r = _results[batchId];
        if (r.void || leafIndex >= r.leafCount) return (Verdict.None, r.isFinal);
        if (!r.settled) return (Verdict.Pending, false);
        uint256 bit = 1 << leafIndex;
        if (r.accepted & bit != 0) return (Verdict.Accepted, r.isFinal);
        return (r.rejected & bit != 0 ? Verdict.Rejected : Verdict.Inconclusive, r.isFinal);
    }

    function resultOf(BatchId batchId)
        external
        view
        returns (
            uint256 leafCount,
            uint256 accepted,
            uint256 rejected,
            uint256 unavailable,
            bool settled,
            bool isFinal
        )
    {
        Result storage r = _results[batchId];
        return (r.leafCount, r.accepted, r.rejected, 0, r.settled, r.isFinal);
    }
}

/// @notice A registry that calls back while it is called, as an upgrade might.
contract ReenteringValidation is IErc8004Validation {
    IErc8004Adapter public adapter;
    Header private _header;

    function aim(IErc8004Adapter adapter_, Header calldata header) external {
        (adapter, _header) = (adapter_, header);
    }

    function validationRequest(address, uint256, string calldata, bytes32) external {
        adapter.publishUnder(_header, "again");
    }

    function validationResponse(bytes32, uint8, string calldata, bytes32, string calldata) external {}

    function getValidationStatus(bytes32)
        external
        pure
        returns (address, uint256, uint8, bytes32, string memory, uint256)
    {
        return (address(0), 0, 0, 0, "", 0);
    }

    function getSummary(uint256, address[] calldata, string calldata) external pure returns (uint64, uint8) {
        return (0, 0);
    }
}

/// @notice The address of its own by which the adapter speaks.
interface IFeedbackAuthor {
    error Erc8004FeedbackUnauthorized(address caller);

    function give(
        uint256 agentId,
        int128 value,
        uint8 decimals,
        string calldata tag,
        string calldata verdict,
        bytes32 feedbackHash
    ) external;
}

contract Erc8004AdapterTest {
    address private constant NODE = address(0xA0);
    address private constant OWNER = address(0xA1);
    address private constant CLIENT = address(0xC1);
    address private constant STRANGER = address(0x57);
    uint256 private constant WALLET_KEY = 0xa11e7;
    bytes32 private constant CANARY = "canary";

    Verdicts private _verdicts;
    IIdentityRegistry private _identity;
    IReputationRegistry private _reputation;
    IValidationRegistry private _validation;
    IErc8004Adapter private _adapter;
    uint256 private _agent;
    Header private _header;
    BatchId private _batch;

    function setUp() external {
        _verdicts = new Verdicts();
        _identity = IIdentityRegistry(Built.create("IdentityRegistry"));
        _reputation = IReputationRegistry(Built.create("ReputationRegistry", abi.encode(_identity)));
        _validation = IValidationRegistry(Built.create("ValidationRegistry", abi.encode(_identity)));
        _adapter = _deploy(_verdicts, address(_identity), address(_reputation), address(_validation));
        // Agent 0 belongs to somebody else: zero must not be mistaken for none.
        vm.prank(STRANGER);
        _identity.register();
        vm.prank(NODE);
        _agent = _identity.register();
        _setBatch(NODE, "root");
    }

    // Linking

    function testAnOwnerLinksItsAgent() external {
        _linkedIs(NODE, false, 0);
        vm.expectEmit(address(_adapter));
        emit IErc8004Adapter.AgentLinked(NODE, _agent);
        _link();
        _linkedIs(NODE, true, _agent);
        vm.expectEmit(address(_adapter));
        emit IErc8004Adapter.AgentUnlinked(NODE, _agent);
        vm.prank(NODE);
        _adapter.unlink();
        _linkedIs(NODE, false, 0);
        vm.prank(NODE);
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotLinked.selector, NODE));
        _adapter.unlink();
    }

    function testTheFirstAgentOfAllCanBeLinked() external {
        vm.prank(STRANGER);
        _adapter.link(0);
        _linkedIs(STRANGER, true, 0);
    }

    function testAWalletLinksItsOwnersAgent() external {
        address wallet = vm.addr(WALLET_KEY);
        vm.startPrank(OWNER);
        uint256 agent = _identity.register();
        _identity.setAgentWallet(agent, wallet, block.timestamp, _walletSignature(agent));
        vm.stopPrank();
        vm.prank(wallet);
        _adapter.link(agent);
        _linkedIs(wallet, true, agent);
        vm.prank(OWNER);
        _identity.unsetAgentWallet(agent);
        _linkedIs(wallet, false, 0);
    }

    function testNobodyLinksAnothersAgentOrNone() external {
        vm.prank(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotYourAgent.selector, _agent, STRANGER)
        );
        _adapter.link(_agent);
        vm.prank(NODE);
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotYourAgent.selector, 77, NODE));
        _adapter.link(77);
    }

    function testATransferredAgentIsLinkedNoMore() external {
        _link();
        vm.prank(NODE);
        _identity.transferFrom(NODE, OWNER, _agent);
        _linkedIs(NODE, false, 0);
        _settle(4, 0xf, 0, false);
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotLinked.selector, NODE));
        _adapter.publish(_header);
        // Not even the new owner's approval brings it back: it may link it to itself.
        vm.startPrank(OWNER);
        _identity.setApprovalForAll(address(_adapter), true);
        _adapter.link(_agent);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotLinked.selector, NODE));
        _adapter.publish(_header);
    }

    // Publishing

    function testASettledBatchIsPublishedSoftAndThenHard() external {
        _linkAndApprove();
        _statusIs(IErc8004Adapter.Status.None);
        _verdicts.set(_batch, Verdicts.Result(NODE, 4, 0, 0, false, false, false));
        _statusIs(IErc8004Adapter.Status.Pending);
        _settle(4, 0x7, 0x8, false);
        _statusIs(IErc8004Adapter.Status.SettledNotPublished);

        vm.expectEmit(address(_adapter));
        emit IErc8004Adapter.ValidationPublished(
            _batch,
            _agent,
            false,
            keccak256(abi.encode(block.chainid, address(_verdicts), _batch, false, bytes32(0))),
            75
        );
        vm.prank(STRANGER);
        bytes32 soft = _adapter.publish(_header);
        _statusIs(IErc8004Adapter.Status.PublishedSoft);
        _isPublished(soft, 75, "soft", 4, 0x7, 0x8);

        // An appeal changed the last leaf.
        _settle(4, 0xf, 0, true);
        _statusIs(IErc8004Adapter.Status.PublishedSoft);
        bytes32 hard = _adapter.publish(_header);
        _statusIs(IErc8004Adapter.Status.PublishedFinal);
        _isPublished(hard, 100, "hard", 4, 0xf, 0);
        _isPublished(soft, 75, "soft", 4, 0x7, 0x8);
    }

    function testEachFinalityIsPublishedOnce() external {
        _linkAndApprove();
        _settle(1, 1, 0, false);
        _adapter.publish(_header);
        bytes memory refusal =
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterAlreadyPublished.selector, _batch, false);
        vm.expectRevert(refusal);
        _adapter.publish(_header);
        vm.expectRevert(refusal);
        _adapter.publishUnder(_header, "another hash");
        _settle(1, 0, 1, true);
        bytes32 hard = _adapter.publish(_header);
        vm.expectRevert(
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterAlreadyPublished.selector, _batch, true)
        );
        _adapter.publishUnder(_header, "another hash");
        address[] memory validators = new address[](1);
        validators[0] = address(_adapter);
        for (uint256 i = 0; i < 2; ++i) {
            (uint64 count, uint8 mean) = _validation.getSummary(_agent, validators, i == 0 ? "soft" : "hard");
            Check.eq(count, 1, "answered once");
            Check.eq(mean, i == 0 ? 100 : 0, "what was answered");
        }
        Check.eq(_validation.getAgentValidations(_agent).length, 2, "asked twice");
        Check.eq(Read.validation(_validation, hard).response, 0, "the final verdict");
    }

    function testAFinalBatchNeedsNoSoftPublication() external {
        _linkAndApprove();
        _settle(2, 0x1, 0x2, true);
        _isPublished(_adapter.publish(_header), 50, "hard", 2, 0x1, 0x2);
    }

    function testNobodyElseAnswersOurRequest() external {
        _linkAndApprove();
        _settle(1, 1, 0, true);
        bytes32 requestHash = _adapter.publish(_header);
        vm.prank(NODE);
        vm.expectRevert(abi.encodeWithSignature("NotTheValidator(address)", NODE));
        _validation.validationResponse(requestHash, 0, "", 0, "hard");
    }

    function testASquattedHashDelaysNothing() external {
        _linkAndApprove();
        _settle(1, 1, 0, false);
        // The hash is public: whoever owns any agent can take it, naming itself or us as the validator.
        bytes32 squatted = _adapter.requestHashOf(_batch, false, 0);
        vm.prank(STRANGER);
        _validation.validationRequest(address(_adapter), 0, "", squatted);
        vm.expectRevert(abi.encodeWithSignature("RequestExists(bytes32)", squatted));
        _adapter.publish(_header);
        _statusIs(IErc8004Adapter.Status.SettledNotPublished);

        bytes32 requestHash = _adapter.publishUnder(_header, "salt");
        Check.eq(requestHash, _adapter.requestHashOf(_batch, false, "salt"), "another hash");
        _isPublished(requestHash, 100, "soft", 1, 1, 0);
        Check.eq(Read.validation(_validation, squatted).responseHash, 0, "the squatter's stays unanswered");
    }

    function testWithoutApprovalTheErrorSaysWhoMustApproveWhom() external {
        _link();
        _settle(1, 1, 0, false);
        vm.expectRevert(
            abi.encodeWithSelector(
                IErc8004Adapter.Erc8004AdapterNotApproved.selector, _agent, NODE, address(_adapter)
            )
        );
        _adapter.publish(_header);
        vm.prank(NODE);
        _identity.approve(address(_adapter), _agent);
        _adapter.publish(_header);
    }

    function testOnlySettledBatchesArePublished() external {
        _linkAndApprove();
        bytes memory refusal = abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotSettled.selector, _batch);
        vm.expectRevert(refusal);
        _adapter.publish(_header);
        _verdicts.set(_batch, Verdicts.Result(NODE, 4, 0, 0, false, false, false));
        vm.expectRevert(refusal);
        _adapter.publish(_header);
        _verdicts.set(_batch, Verdicts.Result(NODE, 4, 0, 0, false, true, true));
        _statusIs(IErc8004Adapter.Status.Void);
        vm.expectRevert(refusal);
        _adapter.publish(_header);
    }

    function testFuzz_theAnswerIsTheShareOfAcceptedLeavesRoundedDown(uint8 lastLeaf, uint256 a, uint256 b) external {
        _linkAndApprove();
        uint256 leafCount = uint256(lastLeaf) + 1;
        uint256 accepted = a & Majority.mask(leafCount);
        uint256 rejected = b & Majority.mask(leafCount) & ~accepted;
        _settle(leafCount, accepted, rejected, true);
        bytes32 requestHash = _adapter.publish(_header);
        uint256 response = Read.validation(_validation, requestHash).response;
        uint256 count = 0;
        for (uint256 i = 0; i < leafCount; ++i) {
            if (accepted & (1 << i) != 0) ++count;
        }
        Check.yes(response * leafCount <= count * 100 && count * 100 < (response + 1) * leafCount, "rounded down");
        Check.yes(response < 100 || count == leafCount, "100 is all");
        _isPublished(requestHash, response, "hard", leafCount, accepted, rejected);
    }

    function testFuzz_requestHashesBindChainBatchFinalityAndSalt(BatchId batchId, bytes32 salt, uint32 chain) external {
        vm.assume(chain > 0 && chain != block.chainid);
        bytes32 soft = _adapter.requestHashOf(batchId, false, salt);
        Check.eq(
            soft, keccak256(abi.encode(block.chainid, address(_verdicts), batchId, false, salt)), "formula"
        );
        Check.yes(soft != _adapter.requestHashOf(batchId, true, salt), "finality");
        Check.yes(soft != _adapter.requestHashOf(batchId, false, ~salt), "salt");
        vm.chainId(chain);
        Check.yes(soft != _adapter.requestHashOf(batchId, false, salt), "chain");
    }

    function testARegistryThatCallsBackPublishesNothingTwice() external {
        ReenteringValidation hostile = new ReenteringValidation();
        IErc8004Adapter adapter = _deploy(_verdicts, address(_identity), address(_reputation), address(hostile));
        hostile.aim(adapter, _header);
        vm.startPrank(NODE);
        adapter.link(_agent);
        _identity.setApprovalForAll(address(adapter), true);
        vm.stopPrank();
        _settle(1, 1, 0, false);
        vm.expectRevert(
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterAlreadyPublished.selector, _batch, false)
        );
        adapter.publish(_header);
    }

    function testTheAdapterTellsItsRegistries() external view {
        (address identity, address reputation, address validation) = _adapter.registries();
        Check.eq(identity, address(_identity), "identity");
        Check.eq(reputation, address(_reputation), "reputation");
        Check.eq(validation, address(_validation), "validation");
    }

    /// Enough, and less than `setApprovalForAll`: the account's other agents are not the adapter's to ask for.
    function testApprovalOfTheOneAgentIsEnough() external {
        _link();
        vm.prank(NODE);
        _identity.approve(address(_adapter), _agent);
        _settle(1, 1, 0, true);
        _isPublished(_adapter.publish(_header), 100, "hard", 1, 1, 0);
    }

    function testMissingRegistriesAreNamed() external {
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterZeroAddress.selector));
        _deploy(IVerdicts(address(0)), address(_identity), address(_reputation), address(_validation));

        bytes memory refusal =
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNoRegistry.selector, address(0));
        IErc8004Adapter alone = _deploy(_verdicts, address(0), address(0), address(0));
        vm.expectRevert(refusal);
        alone.link(0);

        IErc8004Adapter onlyIdentity = _deploy(_verdicts, address(_identity), address(0), address(0));
        vm.prank(NODE);
        onlyIdentity.link(_agent);
        Opening memory opening = _anchored(9);
        _settle(16, 1 << 9, 0, false);
        vm.expectRevert(refusal);
        onlyIdentity.publish(_header);
        vm.prank(CLIENT);
        vm.expectRevert(refusal);
        onlyIdentity.giveFeedback(_batch, opening, 1, 0, "quality");
    }

    // Feedback

    function testAClientsFeedbackNamesTheVerdict() external {
        _linkAndApprove();
        Opening memory good = _anchored(9);
        _settle(16, 1 << 9, 0, false);
        // The registry tells the hash and keeps it not.
        vm.expectEmit(address(_adapter));
        emit IErc8004Adapter.FeedbackForwarded(_batch, 9, _agent, CLIENT, -125);
        vm.expectEmit(address(_reputation));
        emit IErc8004Reputation.NewFeedback(
            _agent,
            _adapter.feedbackAuthor(),
            1,
            -125,
            2,
            "quality",
            "quality",
            "accepted",
            "",
            "",
            keccak256(abi.encode(block.chainid, address(_verdicts), _batch, 9))
        );
        vm.prank(CLIENT);
        _adapter.giveFeedback(_batch, good, -125, 2, "quality");
        _feedbackIs(1, -125, 2, "quality", "accepted");

        Opening memory bad = _anchored(3);
        _settle(16, 0, 1 << 3, true);
        vm.prank(CLIENT);
        _adapter.giveFeedback(_batch, bad, 5, 0, "");
        _feedbackIs(2, 5, 0, "", "rejected");
    }

    function testFeedbackIsGivenOnceAnAnswer() external {
        _linkAndApprove();
        Opening memory opening = _anchored(255);
        _settle(256, 1 << 255, 0, false);
        vm.startPrank(CLIENT);
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
        vm.expectRevert(
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterAlreadyGiven.selector, _batch, 255)
        );
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
        vm.stopPrank();
    }

    function testAStrangerGivesNoFeedback() external {
        _linkAndApprove();
        Opening memory opening = _anchored(0);
        _settle(1, 1, 0, false);
        vm.prank(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotTheClient.selector, CLIENT, STRANGER)
        );
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
        // Nor does it by writing itself into the receipt.
        opening.receipt.client = STRANGER;
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterBadOpening.selector, _batch, 0));
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
    }

    function testFuzz_aForgedOpeningGivesNoFeedback(uint8 field, bytes32 noise) external {
        _linkAndApprove();
        vm.assume(noise != 0);
        Opening memory opening = _anchored(7);
        _settle(16, 0xffff, 0, false);
        if (field % 5 == 0) opening.root ^= noise;
        else if (field % 5 == 1) opening.canary ^= noise;
        else if (field % 5 == 2) opening.index = 8;
        else if (field % 5 == 3) opening.receipt.outputHash ^= noise;
        else opening.proof[uint256(noise) % 8] ^= noise;
        vm.prank(CLIENT);
        vm.expectPartialRevert(IErc8004Adapter.Erc8004AdapterBadOpening.selector);
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
    }

    function testAnAnswerWithoutAVerdictGetsNoFeedback() external {
        _linkAndApprove();
        Opening memory opening = _anchored(0);
        bytes memory refusal =
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNoVerdict.selector, _batch, 0);
        vm.startPrank(CLIENT);
        vm.expectRevert(refusal);
        _adapter.giveFeedback(_batch, opening, 1, 0, "none");
        _verdicts.set(_batch, Verdicts.Result(NODE, 1, 0, 0, false, false, false));
        vm.expectRevert(refusal);
        _adapter.giveFeedback(_batch, opening, 1, 0, "pending");
        _verdicts.set(_batch, Verdicts.Result(NODE, 1, 0, 0, false, true, true));
        vm.expectRevert(refusal);
        _adapter.giveFeedback(_batch, opening, 1, 0, "void");
        _verdicts.set(_batch, Verdicts.Result(NODE, 1, 0, 0, true, true, false));
        vm.expectRevert(refusal);
        _adapter.giveFeedback(_batch, opening, 1, 0, "inconclusive");
        vm.stopPrank();
    }

    /// A node decides what its tree holds: a leaf beyond the last would not be counted once.
    function testALeafBeyondTheBatchGetsNoFeedback() external {
        _linkAndApprove();
        Opening memory opening = _anchored(300);
        _settle(256, type(uint256).max, 0, true);
        vm.prank(CLIENT);
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNoVerdict.selector, _batch, 300));
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
    }

    function testBoundsOfFeedback() external {
        _linkAndApprove();
        Opening memory opening = _anchored(0);
        _settle(1, 1, 0, false);
        vm.startPrank(CLIENT);
        vm.expectRevert(
            abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterDecimalsOutOfBounds.selector, 19, 18)
        );
        _adapter.giveFeedback(_batch, opening, 1, 19, "quality");
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterTagTooLong.selector, 65, 64));
        _adapter.giveFeedback(_batch, opening, 1, 18, string(new bytes(65)));
        _adapter.giveFeedback(_batch, opening, 1, 18, string(new bytes(64)));
        vm.stopPrank();
    }

    function testFeedbackNeedsALinkedAgent() external {
        Opening memory opening = _anchored(0);
        _settle(1, 1, 0, false);
        vm.prank(CLIENT);
        vm.expectRevert(abi.encodeWithSelector(IErc8004Adapter.Erc8004AdapterNotLinked.selector, NODE));
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
    }

    /// The registry's rule, and the reason for a second address: the adapter is an operator of the agent.
    function testAnOwnerCanRefuseAllFeedbackButNotByApprovingTheAdapter() external {
        _linkAndApprove();
        Opening memory opening = _anchored(0);
        _settle(1, 1, 0, false);
        address author = _adapter.feedbackAuthor();
        vm.prank(NODE);
        _identity.setApprovalForAll(author, true);
        vm.prank(CLIENT);
        vm.expectRevert(abi.encodeWithSignature("SelfFeedback(address,uint256)", author, _agent));
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
        // What failed may be tried again.
        vm.prank(NODE);
        _identity.setApprovalForAll(author, false);
        vm.prank(CLIENT);
        _adapter.giveFeedback(_batch, opening, 1, 0, "quality");
    }

    function testNobodyButTheAdapterSpeaksAsItsClients() external {
        IFeedbackAuthor author = IFeedbackAuthor(_adapter.feedbackAuthor());
        vm.prank(CLIENT);
        vm.expectRevert(abi.encodeWithSelector(IFeedbackAuthor.Erc8004FeedbackUnauthorized.selector, CLIENT));
        author.give(_agent, 1, 0, "quality", "accepted", 0);
    }

    // Helpers

    function _deploy(IVerdicts verdicts, address identity, address reputation, address validation)
        private
        returns (IErc8004Adapter)
    {
        return IErc8004Adapter(
            Built.create("Erc8004Adapter", abi.encode(verdicts, identity, reputation, validation))
        );
    }

    function _link() private {
        vm.prank(NODE);
        _adapter.link(_agent);
    }

    /// EIP-712, by the domain that the registry tells.
    function _walletSignature(uint256 agent) private returns (bytes memory) {
        (, string memory name, string memory version, uint256 chain, address at,,) = _identity.eip712Domain();
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chain,
                at
            )
        );
        bytes32 message = keccak256(
            abi.encode(
                keccak256("AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)"),
                agent,
                vm.addr(WALLET_KEY),
                OWNER,
                block.timestamp
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(WALLET_KEY, keccak256(abi.encodePacked(hex"1901", domain, message)));
        return abi.encodePacked(r, s, v);
    }

    function _linkAndApprove() private {
        _link();
        vm.prank(NODE);
        _identity.setApprovalForAll(address(_adapter), true);
    }

    function _settle(uint256 leafCount, uint256 accepted, uint256 rejected, bool isFinal) private {
        _verdicts.set(_batch, Verdicts.Result(NODE, leafCount, accepted, rejected, true, isFinal, false));
    }

    /// Makes `_batch` the batch whose only leaf is at `index`, modulo the tree's size, and opens it.
    function _anchored(uint256 index) private returns (Opening memory opening) {
        opening.index = index;
        opening.canary = CANARY;
        opening.receipt.node = NODE;
        opening.receipt.client = CLIENT;
        opening.receipt.outputHash = "output";
        opening.proof = new bytes32[](LeafLib.DEPTH);
        bytes32 node = LeafLib.leafHash(index, opening.receipt);
        bytes32 empty = 0;
        for (uint256 i = 0; i < LeafLib.DEPTH; ++i) {
            opening.proof[i] = empty;
            node = LeafLib.parent(node, empty);
            empty = LeafLib.parent(empty, empty);
        }
        opening.root = node;
        _setBatch(NODE, node);
    }

    function _setBatch(address node, bytes32 root) private {
        _header = Header(node, ModelId.wrap(0), root, CANARY);
        _batch = Ids.batch(address(_verdicts), _header);
    }

    function _linkedIs(address operator, bool expected, uint256 expectedAgent) private view {
        (bool linked, uint256 agentId) = _adapter.agentOf(operator);
        Check.yes(linked == expected, "linked");
        Check.eq(agentId, expectedAgent, "agent");
    }

    function _statusIs(IErc8004Adapter.Status expected) private view {
        Check.eq(uint256(_adapter.statusOf(_batch)), uint256(expected), "status");
    }

    function _isPublished(
        bytes32 requestHash,
        uint256 response,
        string memory tag,
        uint256 leafCount,
        uint256 accepted,
        uint256 rejected
    ) private view {
        Validation memory v = Read.validation(_validation, requestHash);
        Check.eq(v.validator, address(_adapter), "validator");
        Check.eq(v.agentId, _agent, "agent");
        Check.eq(v.response, response, "response");
        Check.eq(v.responseHash, keccak256(abi.encode(leafCount, accepted, rejected)), "response hash");
        Check.eq(keccak256(bytes(v.tag)), keccak256(bytes(tag)), "tag");
    }

    function _feedbackIs(
        uint64 index,
        int128 value,
        uint8 decimals,
        string memory tag,
        string memory verdict
    ) private view {
        Feedback memory f = Read.feedback(_reputation, _agent, _adapter.feedbackAuthor(), index);
        Check.yes(f.value == value, "value");
        Check.eq(f.decimals, decimals, "decimals");
        Check.eq(keccak256(bytes(f.tag1)), keccak256(bytes(tag)), "tag");
        Check.eq(keccak256(bytes(f.tag2)), keccak256(bytes(verdict)), "verdict");
    }
}
