// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {ICalibration} from "../../contracts/interfaces/ICalibration.sol";
import {ICommittees} from "../../contracts/interfaces/ICommittees.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {ISeeds} from "../../contracts/interfaces/ISeeds.sol";
import {BatchId, ChallengeId, Header, Ids, ModelId, Role} from "../../contracts/types/Types.sol";
import {Check, Vm, vm} from "./Vm.sol";
import {World} from "./World.sol";

contract CalibrationTest is World {
    address private constant STRANGER = address(0xbad);
    address private constant NEWCOMER = address(0xE0);
    address private constant DELEGATOR = address(0xDE);

    function setUp() external {
        _calibratedWorld();
    }

    function testEverybodyWasCalibratedByTheOthers() external view {
        Check.yes(calibration.isCalibrated(NODE, Role.Node, model), "node");
        Check.yes(!calibration.isCalibrated(NODE, Role.Verifier, model), "only in its role");
        Check.yes(!calibration.isCalibrated(NODE, Role.Node, ModelId.wrap("other")), "only for its model");
        Check.eq(calibration.validUntil(NODE, Role.Verifier, model), 0, "never passed");
        for (uint256 i = 0; i < verifiers; ++i) {
            ICalibration.Result memory result = calibration.resultOf(_verifier(i), Role.Verifier, model);
            Check.eq(result.leavesPassed, 2, "passed");
            Check.eq(result.leaves, 2, "all");
            Check.eq(result.distancePpm, 7, "distance");
            Check.eq(result.validUntil, calibration.validUntil(_verifier(i), Role.Verifier, model), "until");
            Check.yes(result.validUntil > block.timestamp, "valid");
            for (uint256 k = 0; k < 3; ++k) {
                Check.yes(_seatOf(result.batchId, k) != _verifier(i), "nobody checks itself");
            }
        }
        Check.eq(committees.positionsOf(model, true), verifiers, "all admitted, and no node");
    }

    function testARequestFixesAllThatTheAnswerIsJudgedBy() external {
        ChallengeId expected = Ids.challenge(address(calibration), NODE, model, Role.Node, verifiers + 2);
        vm.expectEmit(address(calibration));
        emit ICalibration.ChallengeRequested(
            expected, NODE, model, Role.Node, "gpu-bf16", blockNumber + 2, timestamp + 3600
        );
        ChallengeId id = _ask(NODE, Role.Node, "gpu-bf16");
        Check.eq(ChallengeId.unwrap(id), ChallengeId.unwrap(expected), "id");
        ICalibration.Challenge memory challenge = calibration.challengeOf(id);
        Check.eq(challenge.operator, NODE, "operator");
        Check.yes(challenge.role == Role.Node, "role");
        Check.eq(ModelId.unwrap(challenge.modelId), ModelId.unwrap(model), "model");
        Check.eq(challenge.seedBlock, blockNumber + 2, "seed block");
        Check.eq(challenge.fixedAt, timestamp, "when the seed was fixed");
        Check.eq(challenge.deadline, timestamp + 3600, "deadline");
        Check.eq(challenge.leaves, 2, "prompts");
        Check.eq(challenge.hardwareClass, "gpu-bf16", "hardware class");
        Check.eq(challenge.commitment, _commitmentOf(NODE), "commitment");
        Check.eq(challenge.seed, 0, "not sealed");
        Check.eq(BatchId.unwrap(challenge.batchId), 0, "not answered");
        (ModelId modelId, uint256 leaves) = calibration.modelOf(id);
        Check.yes(ModelId.unwrap(modelId) == ModelId.unwrap(model) && leaves == 2, "what it is about");
        // No two challenges are the same.
        Check.yes(ChallengeId.unwrap(_ask(NODE, Role.Node, "gpu-bf16")) != ChallengeId.unwrap(id), "another one");
    }

    function testRequestsThatAreRefused() external {
        bytes4 stake = ICalibration.CalibrationInsufficientStake.selector;
        _refusedRequest(abi.encodeWithSelector(stake, 0, 100 ether), STRANGER, model, Role.Node, "cpu-bf16");
        _stakeOnly(NEWCOMER, 200 ether - 1);
        _refusedRequest(
            abi.encodeWithSelector(stake, 200 ether - 1, 200 ether), NEWCOMER, model, Role.Verifier, "cpu-bf16"
        );
        _ask(NEWCOMER, Role.Node, "cpu-bf16");
        _stakeOnly(address(0xE8AC7), 200 ether);
        _ask(address(0xE8AC7), Role.Verifier, "cpu-bf16");
        _refusedRequest(
            abi.encodeWithSelector(ICalibration.CalibrationHardwareClassMissing.selector), NODE, model, Role.Node, 0
        );
        ModelId other = ModelId.wrap("other");
        _refusedRequest(
            abi.encodeWithSelector(IModelRegistry.ModelRegistryUnknownModel.selector, other),
            NODE,
            other,
            Role.Node,
            "cpu-bf16"
        );
    }

    function testOnlyOwnStakeCounts() external {
        _stakeOnly(NEWCOMER, 150 ether);
        require(token.transfer(DELEGATOR, 1000 ether));
        vm.prank(NEWCOMER);
        staking.openDelegation(1000 ether, 0);
        vm.prank(NODE);
        staking.openDelegation(1000 ether, 0);
        vm.startPrank(DELEGATOR);
        token.approve(address(staking), type(uint256).max);
        staking.delegate(NEWCOMER, 1000 ether, 0);
        vm.stopPrank();
        _refusedRequest(
            abi.encodeWithSelector(ICalibration.CalibrationInsufficientStake.selector, 150 ether, 200 ether),
            NEWCOMER,
            model,
            Role.Verifier,
            "cpu-bf16"
        );
        // What is unbonding does not count either, whoever delegates.
        require(token.transfer(DELEGATOR, 1000 ether));
        vm.prank(DELEGATOR);
        staking.delegate(NODE, 1000 ether, 0);
        vm.prank(NODE);
        staking.unbond(NODE, STAKE - 100 ether);
        Check.yes(calibration.isCalibrated(NODE, Role.Node, model), "just enough");
        vm.prank(NODE);
        staking.unbond(NODE, 1e9);
        Check.yes(!calibration.isCalibrated(NODE, Role.Node, model), "below the minimum");
        vm.prank(NODE);
        staking.stake(1e9);
        Check.yes(calibration.isCalibrated(NODE, Role.Node, model), "back");
    }

    function testMinimumsAreTheParameters() external {
        Check.eq(calibration.minStakeOf(Role.Node), 100 ether, "node");
        Check.eq(calibration.minStakeOf(Role.Verifier), 200 ether, "verifier");
        IParameters.Values memory values = _values();
        (values.minNodeStakeWei, values.minVerifierStakeWei) = (uint96(STAKE + 1), 300 ether);
        parameters.set(values);
        Check.eq(calibration.minStakeOf(Role.Verifier), 300 ether, "the new one");
        Check.yes(!calibration.isCalibrated(NODE, Role.Node, model), "a new minimum holds for all");
    }

    function testVerifiersBecomeCandidatesByAsking() external {
        uint256 before = committees.positionsOf(model, false);
        _stakeOnly(NEWCOMER, 500 ether);
        _ask(NEWCOMER, Role.Node, "cpu-bf16");
        Check.eq(committees.positionsOf(model, false), before, "nodes do not");
        _ask(NEWCOMER, Role.Verifier, "cpu-int8");
        Check.eq(committees.positionsOf(model, false), before + 1, "verifiers do");
        ICommittees.Row[] memory rows = committees.poolOf(model, false, committees.currentEpoch() + 1, before, 1);
        Check.eq(rows[0].verifier, NEWCOMER, "the newcomer");
        Check.eq(rows[0].hardwareClass, "cpu-int8", "in the class that it told");
        Check.eq(committees.positionsOf(model, true), verifiers, "not calibrated yet");
    }

    function testPromptsComeFromALaterBlockAndTheOperatorsSecret() external {
        ChallengeId id = _request(NODE, Role.Node);
        vm.expectRevert(abi.encodeWithSelector(ICalibration.CalibrationNotSealed.selector, id));
        calibration.promptIndices(id);
        uint256 seedBlock = blockNumber + 2;
        _reach(seedBlock);
        bytes32 secret = _secretOf(NODE);
        _refusedSeal(
            abi.encodeWithSelector(ICalibration.CalibrationTooEarly.selector, seedBlock, seedBlock), NODE, id, secret
        );
        _reach(seedBlock + 1);
        _refusedSeal(abi.encodeWithSelector(ISeeds.SeedsNotRecorded.selector, seedBlock), NODE, id, secret);
        _showSeed(seedBlock, 0);
        bytes32 seed = keccak256(abi.encode(seeds.seedOf(seedBlock, 0), secret, id));
        vm.expectEmit(address(calibration));
        emit ICalibration.ChallengeSealed(id, seed, secret);
        Check.eq(_seal(id), seed, "told");
        Check.eq(calibration.challengeOf(id).seed, seed, "kept");
        uint256[] memory indices = calibration.promptIndices(id);
        Check.eq(indices.length, 2, "as many as the parameter says");
        for (uint256 i = 0; i < 2; ++i) {
            Check.eq(indices[i], uint256(keccak256(abi.encode(seed, id, i))) % 64, "index");
        }
        _refusedSeal(
            abi.encodeWithSelector(ICalibration.CalibrationAlreadySealed.selector, id), NODE, id, secret
        );
    }

    function testASeedThatNobodyStoredIsLost() external {
        ChallengeId id = _request(NODE, Role.Node);
        uint256 seedBlock = blockNumber + 2;
        _reach(seedBlock + 257);
        _refusedSeal(abi.encodeWithSelector(ISeeds.SeedsGone.selector, seedBlock), NODE, id, _secretOf(NODE));
    }

    function testAttackSealingWithAnotherSecretOnceTheBlockIsKnown() external {
        ChallengeId id = _request(NODE, Role.Node);
        _mine(3);
        bytes memory error_ = abi.encodeWithSelector(ICalibration.CalibrationWrongSecret.selector, id);
        // Whoever could choose it now would choose its prompts.
        _refusedSeal(error_, NODE, id, 0);
        _refusedSeal(error_, NODE, id, keccak256("a secret that gives better prompts"));
        _refusedSeal(error_, NODE, id, _commitmentOf(NODE));
        _seal(id);
    }

    function testAttackAskingWithoutASecret() external {
        vm.prank(NODE);
        vm.expectRevert(abi.encodeWithSelector(ICalibration.CalibrationCommitmentMissing.selector));
        calibration.request(model, Role.Node, "cpu-bf16", 0);
    }

    function testAttackSealingAnothersChallenge() external {
        ChallengeId id = _request(NODE, Role.Node);
        _mine(3);
        _refusedSeal(
            abi.encodeWithSelector(ICalibration.CalibrationWrongSecret.selector, id), STRANGER, id, _secretOf(STRANGER)
        );
    }

    /// Whoever asks in the same block with the same commitment, and hears the secret when it is revealed.
    function testAttackCopyingACommitmentForTheSamePrompts() external {
        ChallengeId id = _request(NODE, Role.Node);
        address copier = _verifier(0);
        vm.prank(copier);
        ChallengeId copied = calibration.request(model, Role.Node, "cpu-bf16", _commitmentOf(NODE));
        _mine(3);
        bytes32 seed = _seal(id);
        // Copied from the transaction that reveals it; who calls does not matter.
        bytes32 other = calibration.seal(copied, _secretOf(NODE));
        Check.yes(seed != other, "the seed is the challenge's own");
    }

    /// An operator that passed once shows the same batch for its next challenge: other prompts, so the committee
    /// rejects it. Here, that the next challenge has another seed even by the same secret and block.
    function testAttackAnsweringWithWhatPassedBefore() external {
        ChallengeId first = _request(NODE, Role.Node);
        ChallengeId second = _request(NODE, Role.Node);
        _mine(3);
        Check.yes(_seal(first) != _seal(second), "what was asked once is never asked again");
        Check.eq(
            calibration.challengeOf(first).seedBlock, calibration.challengeOf(second).seedBlock, "of the same block"
        );
    }

    /// It knows its prompts when the seed block comes, answers at leisure, and only then reveals the secret.
    function testAttackSealingLateToLookFast() external {
        ChallengeId id = _request(NODE, Role.Node);
        _mine(3);
        _wait(500);
        BatchId batchId = _answer(id, "slow");
        _vote(batchId, 3, 0, 3, 0, 3, 0);
        Check.eq(
            calibration.resultOf(NODE, Role.Node, model).secondsToAnswer, 500, "the clock began with the request"
        );
    }

    function testUnknownChallengesAreRefused() external {
        ChallengeId none = ChallengeId.wrap("none");
        bytes memory unknown = abi.encodeWithSelector(ICalibration.CalibrationUnknownChallenge.selector, none);
        vm.expectRevert(unknown);
        calibration.seal(none, 0);
        vm.expectRevert(unknown);
        calibration.promptIndices(none);
        vm.expectRevert(unknown);
        calibration.modelOf(none);
        vm.prank(address(batches));
        vm.expectRevert(unknown);
        calibration.answer(none, NODE, BatchId.wrap("b"), 1);
        Check.eq(calibration.challengeOf(none).operator, address(0), "nobody's");
    }

    function testAnswersThatAreRefused() external {
        ChallengeId id = _request(NODE, Role.Node);
        _refusedAnswer(abi.encodeWithSelector(ICalibration.CalibrationNotSealed.selector, id), NODE, id, 100);
        _mine(3);
        _seal(id);
        address other = _verifier(0);
        _refusedAnswer(
            abi.encodeWithSelector(ICalibration.CalibrationNotYours.selector, NODE, other), other, id, 100
        );
        _refusedAnswer(
            abi.encodeWithSelector(ICalibration.CalibrationTokensOutOfBounds.selector, 1e9 + 1, 1e9), NODE, id, 1e9 + 1
        );
        uint256 deadline = calibration.challengeOf(id).deadline;
        _goTo(deadline + 1);
        _refusedAnswer(
            abi.encodeWithSelector(ICalibration.CalibrationDeadlinePassed.selector, deadline), NODE, id, 100
        );
        _goTo(deadline);
        BatchId batchId = batches.batchIdOf(_header("in time"));
        vm.expectEmit(address(calibration));
        emit ICalibration.ChallengeAnswered(id, batchId, 1e9);
        vm.prank(NODE);
        batches.anchorCalibration(id, "in time", NO_CANARY, 1e9);
        Check.eq(BatchId.unwrap(calibration.challengeOf(id).batchId), BatchId.unwrap(batchId), "bound");
        _refusedAnswer(abi.encodeWithSelector(ICalibration.CalibrationAlreadyAnswered.selector, id), NODE, id, 100);
    }

    function testOnlyBatchesAnswersAndConcludes() external {
        ChallengeId id = _request(NODE, Role.Node);
        address[3] memory others = [STRANGER, NODE, address(finality)];
        for (uint256 i = 0; i < 3; ++i) {
            bytes memory error_ = abi.encodeWithSelector(ICalibration.CalibrationUnauthorized.selector, others[i]);
            vm.startPrank(others[i]);
            vm.expectRevert(error_);
            calibration.answer(id, NODE, BatchId.wrap("b"), 1);
            vm.expectRevert(error_);
            calibration.conclude(id, 3, 1);
            vm.stopPrank();
        }
    }

    function testPassingRenewsTheCalibration() external {
        _wait(10 days);
        ChallengeId id = _request(NODE, Role.Node);
        _mine(3);
        _seal(id);
        _wait(40);
        BatchId batchId = _answer(id, "renewal");
        ICalibration.Result memory expected =
            ICalibration.Result(uint64(timestamp + 30 days), 2, 2, 40, 100, 7, batchId);
        _commit(batchId, 0, 3, 0);
        _commit(batchId, 1, 3, 0);
        _commit(batchId, 2, 3, 0);
        _reveal(batchId, 0, 3, 0);
        _reveal(batchId, 1, 3, 0);
        vm.recordLogs();
        _reveal(batchId, 2, 3, 0);
        _isEmitted(ICalibration.Calibrated.selector, expected);
        Check.eq(
            keccak256(abi.encode(calibration.resultOf(NODE, Role.Node, model))),
            keccak256(abi.encode(expected)),
            "the new result"
        );
        Check.eq(calibration.milliTokensPerSecond(NODE, Role.Node, model), 2500, "a hundred tokens in 40 seconds");
    }

    function testWhoEverPassedIsListedOnceByModelAndRole() external {
        Check.eq(calibration.operatorCount(model, Role.Verifier), verifiers, "verifiers");
        for (uint256 i = 0; i < verifiers; ++i) {
            Check.eq(calibration.operatorAt(model, Role.Verifier, i), _verifier(i), "in the order of passing");
        }
        // Whoever passes again, or asks and fails, changes nothing.
        _vote(_answer(_request(NODE, Role.Node), "again"), 3, 0, 3, 0, 3, 0);
        _stakeOnly(NEWCOMER, 500 ether);
        vm.prank(NEWCOMER);
        staking.addCredit(1 ether);
        _vote(_answer(_ask(NEWCOMER, Role.Node, "cpu-bf16"), "failed"), 1, 2, 1, 2, 1, 2);
        Check.eq(calibration.operatorCount(model, Role.Node), 1, "one node");
        Check.eq(calibration.operatorAt(model, Role.Node, 0), NODE, "the node");
        Check.eq(calibration.operatorCount(ModelId.wrap("other"), Role.Node), 0, "of another model");
        _vote(_answer(_ask(NEWCOMER, Role.Node, "cpu-bf16"), "passed"), 3, 0, 3, 0, 3, 0);
        Check.eq(calibration.operatorCount(model, Role.Node), 2, "two nodes");
        Check.eq(calibration.operatorAt(model, Role.Node, 1), NEWCOMER, "the newcomer behind the other");
    }

    function testOneWrongAnswerFailsAndKeepsTheEarlierResult() external {
        ICalibration.Result memory earlier = calibration.resultOf(NODE, Role.Node, model);
        BatchId id = _answer(_request(NODE, Role.Node), "renewal");
        _commit(id, 0, 1, 2);
        _commit(id, 1, 1, 2);
        _commit(id, 2, 1, 2);
        _reveal(id, 0, 1, 2);
        _reveal(id, 1, 1, 2);
        vm.recordLogs();
        _reveal(id, 2, 1, 2);
        _isEmitted(
            ICalibration.CalibrationFailed.selector, ICalibration.Result(0, 1, 2, 0, 100, 7, id)
        );
        Check.eq(
            keccak256(abi.encode(calibration.resultOf(NODE, Role.Node, model))),
            keccak256(abi.encode(earlier)),
            "one failed renewal is no expulsion"
        );
        Check.yes(calibration.isCalibrated(NODE, Role.Node, model), "still calibrated");
        _finalizeNow(id);
        Check.eq(staking.stakeOf(NODE).active, STAKE, "a calibration is no offence");
        Check.eq(reputation.recordOf(NODE, Role.Node, model).rejectedMicro, 0, "and no reputation");
    }

    function testAnInconclusiveAnswerFails() external {
        _stakeOnly(NEWCOMER, 500 ether);
        vm.prank(NEWCOMER);
        staking.addCredit(1 ether);
        BatchId id = _answer(_ask(NEWCOMER, Role.Verifier, "cpu-bf16"), "first");
        _vote(id, 1, 0, 1, 0, 3, 0);
        Check.eq(calibration.validUntil(NEWCOMER, Role.Verifier, model), 0, "never passed");
        Check.eq(committees.positionsOf(model, true), verifiers, "not admitted");
    }

    function testANewVerifierIsAdmittedByPassing() external {
        _stakeOnly(NEWCOMER, 500 ether);
        vm.prank(NEWCOMER);
        staking.addCredit(1 ether);
        BatchId id = _answer(_ask(NEWCOMER, Role.Verifier, "cpu-bf16"), "first");
        _vote(id, 3, 0, 3, 0, 3, 0);
        Check.yes(calibration.isCalibrated(NEWCOMER, Role.Verifier, model), "passed");
        Check.eq(committees.positionsOf(model, true), verifiers + 1, "admitted");
    }

    function testItExpires() external {
        uint256 until = calibration.validUntil(NODE, Role.Node, model);
        _goTo(until);
        Check.yes(calibration.isCalibrated(NODE, Role.Node, model), "to the last second");
        _goTo(until + 1);
        Check.yes(!calibration.isCalibrated(NODE, Role.Node, model), "expired");
        Check.eq(calibration.validUntil(NODE, Role.Node, model), until, "what was, stays known");
        vm.prank(NODE);
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesNotCalibrated.selector, NODE, model));
        batches.anchor(model, "late", NO_CANARY, 1);
    }

    function testFuzz_speedIsTokensByTheSecondsFromRequestToAnchor(uint256 tokens, uint256 time) external {
        tokens = tokens % (1e9 + 1);
        time = time % 3601;
        ChallengeId id = _request(NODE, Role.Node);
        uint256 asked = timestamp;
        _mine(3);
        _seal(id);
        _goTo(asked + time);
        vm.prank(NODE);
        BatchId batchId = batches.anchorCalibration(id, "speed", NO_CANARY, tokens);
        // As `Batches` does when the committee has accepted all.
        vm.prank(address(batches));
        calibration.conclude(id, 3, type(uint256).max);
        ICalibration.Result memory result = calibration.resultOf(NODE, Role.Node, model);
        Check.eq(result.secondsToAnswer, time, "seconds");
        Check.eq(result.outputTokens, tokens, "tokens");
        Check.eq(result.distancePpm, type(uint32).max, "cut to what fits");
        Check.eq(BatchId.unwrap(result.batchId), BatchId.unwrap(batchId), "batch");
        Check.eq(
            calibration.milliTokensPerSecond(NODE, Role.Node, model),
            (tokens * 1000) / (time == 0 ? 1 : time),
            "rounded down; less than a second counts as one"
        );
        Check.eq(calibration.milliTokensPerSecond(STRANGER, Role.Node, model), 0, "of who never passed");
    }

    function testNoCounterpartMayBeMissing() external {
        for (uint256 i = 0; i < 6; ++i) {
            address[6] memory parts;
            for (uint256 k = 0; k < 6; ++k) {
                parts[k] = k == i ? address(0) : address(1);
            }
            bytes memory code = bytes.concat(vm.getCode("Calibration"), abi.encode(parts));
            vm.expectRevert(abi.encodeWithSelector(ICalibration.CalibrationZeroAddress.selector));
            factory.deploy("missing", code);
        }
    }

    function _header(bytes32 root) private view returns (Header memory) {
        return Header(NODE, model, root, NO_CANARY);
    }

    function _ask(address operator, Role role, bytes32 hardwareClass) private returns (ChallengeId) {
        vm.prank(operator);
        return calibration.request(model, role, hardwareClass, _commitmentOf(operator));
    }

    function _refusedRequest(bytes memory error_, address who, ModelId modelId, Role role, bytes32 hardwareClass)
        private
    {
        vm.expectRevert(error_);
        vm.prank(who);
        calibration.request(modelId, role, hardwareClass, _commitmentOf(who));
    }

    function _refusedSeal(bytes memory error_, address who, ChallengeId id, bytes32 secret) private {
        vm.expectRevert(error_);
        vm.prank(who);
        calibration.seal(id, secret);
    }

    function _refusedAnswer(bytes memory error_, address who, ChallengeId id, uint256 tokens) private {
        vm.expectRevert(error_);
        vm.prank(who);
        batches.anchorCalibration(id, "refused", NO_CANARY, tokens);
    }

    function _stakeOnly(address account, uint256 amount) private {
        require(token.transfer(account, amount + 10 ether));
        vm.startPrank(account);
        token.approve(address(staking), type(uint256).max);
        staking.stake(amount);
        vm.stopPrank();
    }

    function _isEmitted(bytes32 topic, ICalibration.Result memory expected) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 found = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != topic) continue;
            ++found;
            Check.eq(logs[i].topics[1], bytes32(uint256(uint160(NODE))), "operator");
            Check.eq(logs[i].topics[2], ModelId.unwrap(model), "model");
            Check.eq(logs[i].topics[3], BatchId.unwrap(expected.batchId), "batch");
            Check.eq(keccak256(logs[i].data), keccak256(abi.encode(Role.Node, expected)), "result");
        }
        Check.eq(found, 1, "told once");
    }

    function _goTo(uint256 time) private {
        timestamp = time;
        vm.warp(time);
    }
}
