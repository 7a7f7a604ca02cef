// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Calibration} from "../../contracts/Calibration.sol";
import {Wired} from "../../contracts/Wired.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {ICalibration} from "../../contracts/interfaces/ICalibration.sol";
import {ICommittees} from "../../contracts/interfaces/ICommittees.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {BatchId, ChallengeId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

contract CalibrationTest is World {
    function setUp() external {
        _calibratedWorld();
    }

    function testEverybodyWasCalibratedByTheOthers() external view {
        Check.yes(calibration.isCalibrated(NODE, Role.Node, model), "node");
        Check.yes(!calibration.isCalibrated(NODE, Role.Verifier, model), "only in its role");
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            ICalibration.Result memory result = calibration.resultOf(_verifier(i), Role.Verifier, model);
            Check.eq(result.leavesPassed, 2, "passed");
            Check.yes(result.validUntil > block.timestamp, "valid");
            IBatches.Seat[3] memory seats = batches.seatsOf(result.batchId);
            for (uint256 k = 0; k < 3; ++k) {
                Check.yes(seats[k].verifier != _verifier(i), "nobody checks itself");
            }
        }
        (address[] memory members, uint64[] memory weights) = committees.poolOf(model, true);
        Check.eq(members.length, VERIFIERS, "all admitted");
        Check.eq(weights[0], STAKE / 1e15, "weighted by stake");
    }

    function testOneWrongAnswerFailsAndKeepsAnEarlierResult() external {
        ICalibration.Result memory earlier = calibration.resultOf(NODE, Role.Node, model);
        BatchId id = _answer(_request(NODE, Role.Node), "renewal");
        _vote(id, 1, 2, 1, 2, 1, 2);
        batches.settle(id);
        ICalibration.Result memory now_ = calibration.resultOf(NODE, Role.Node, model);
        Check.eq(now_.validUntil, earlier.validUntil, "kept");
        Check.eq(BatchId.unwrap(now_.batchId), BatchId.unwrap(earlier.batchId), "and its batch");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "a calibration is no offence");
        Check.eq(reputation.recordOf(NODE, Role.Node, model).rejected, 0, "and no reputation");
    }

    function testItExpires() external {
        vm.warp(START + 31 days);
        Check.yes(!calibration.isCalibrated(NODE, Role.Node, model), "expired");
        vm.prank(NODE);
        vm.expectPartialRevert(IBatches.BatchesNotCalibrated.selector);
        batches.anchor(model, "late", 1);
    }

    function testItNeedsTheMinimumStakeToStay() external {
        vm.prank(NODE);
        staking.unbond(901 ether);
        Check.yes(!calibration.isCalibrated(NODE, Role.Node, model), "below the minimum");
        vm.prank(NODE);
        staking.stake(1 ether);
        Check.yes(calibration.isCalibrated(NODE, Role.Node, model), "back");
    }

    function testPromptsComeFromTheSeed() external {
        ChallengeId id = _request(NODE, Role.Node);
        vm.expectPartialRevert(ICalibration.CalibrationNotSealed.selector);
        calibration.promptIndices(id);
        vm.expectPartialRevert(ICalibration.CalibrationTooEarly.selector);
        calibration.seal(id);
        _mine(3);
        bytes32 seed = calibration.seal(id);
        uint256[] memory indices = calibration.promptIndices(id);
        Check.eq(indices.length, 2, "as many as the parameter says");
        for (uint256 i = 0; i < 2; ++i) {
            Check.eq(indices[i], uint256(keccak256(abi.encode(seed, id, i))) % 64, "index");
        }
        vm.expectPartialRevert(ICalibration.CalibrationAlreadySealed.selector);
        calibration.seal(id);
    }

    function testRefusals() external {
        vm.expectPartialRevert(ICalibration.CalibrationInsufficientStake.selector);
        calibration.request(model, Role.Node);
        vm.prank(NODE);
        vm.expectPartialRevert(IModelRegistry.ModelRegistryUnknownModel.selector);
        calibration.request(ModelId.wrap("other"), Role.Node);
        vm.expectPartialRevert(ICalibration.CalibrationUnknownChallenge.selector);
        calibration.seal(ChallengeId.wrap("none"));

        ChallengeId id = _request(NODE, Role.Node);
        vm.prank(NODE);
        vm.expectPartialRevert(ICalibration.CalibrationNotSealed.selector);
        batches.anchorCalibration(id, "r");
        _mine(3);
        calibration.seal(id);
        vm.prank(CLIENT);
        vm.expectPartialRevert(ICalibration.CalibrationNotYours.selector);
        batches.anchorCalibration(id, "r");
        vm.prank(NODE);
        batches.anchorCalibration(id, "r");
        vm.prank(NODE);
        vm.expectPartialRevert(ICalibration.CalibrationAlreadyAnswered.selector);
        batches.anchorCalibration(id, "r2");

        ChallengeId late = _request(NODE, Role.Node);
        _mine(3);
        calibration.seal(late);
        vm.warp(START + 601);
        vm.prank(NODE);
        vm.expectPartialRevert(ICalibration.CalibrationDeadlinePassed.selector);
        batches.anchorCalibration(late, "r3");

        ChallengeId forgotten = _request(NODE, Role.Node);
        vm.roll(block.number + 2000);
        vm.expectPartialRevert(ICalibration.CalibrationSeedExpired.selector);
        calibration.seal(forgotten);
    }

    function testOnlyBatchesAnswersAndConcludes() external {
        ChallengeId id = _request(NODE, Role.Node);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        calibration.answer(id, NODE, BatchId.wrap("b"));
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        calibration.conclude(id, 3);
    }

    function testParametersAreBounded() external {
        for (uint256 i = 0; i < 6; ++i) {
            Calibration.Parameters memory p = Calibration.Parameters(1, 1, 1, 1, 1, 1);
            if (i == 0) p.validitySeconds = 366 days;
            if (i == 1) p.answerSeconds = 0;
            if (i == 2) p.promptsPerChallenge = 257;
            if (i == 3) p.seedDelayBlocks = 65;
            if (i == 4) p.minNodeStakeWei = 0;
            if (i == 5) p.minVerifierStakeWei = 0;
            vm.expectPartialRevert(Calibration.CalibrationParameterOutOfBounds.selector);
            new Calibration(staking, registry, p, address(this));
        }
    }
}

contract CommitteesTest is World {
    function setUp() external {
        _calibratedWorld();
    }

    function testFuzz_drawsThreeDistinctAndNeverTheExcluded(bytes32 seed, uint8 who) external {
        address excluded = _verifier(who % VERIFIERS);
        vm.prank(address(batches));
        address[3] memory drawn = committees.draw(model, seed, excluded, false);
        for (uint256 i = 0; i < 3; ++i) {
            Check.yes(drawn[i] != excluded && drawn[i] != address(0), "not excluded");
            Check.yes(drawn[i] != drawn[(i + 1) % 3], "distinct");
        }
    }

    function testFuzz_aDrawCanBeReproducedFromThePool(bytes32 seed, uint96[4] calldata stakes, uint8 who) external {
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            address verifier = _verifier(i);
            vm.prank(verifier);
            staking.unbond(1 + stakes[i] % 700 ether);
            committees.refresh(model, verifier);
        }
        address excluded = _verifier(who % VERIFIERS);
        address[3] memory expected = _naiveDraw(seed, excluded);
        vm.prank(address(batches));
        address[3] memory drawn = committees.draw(model, seed, excluded, false);
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(drawn[i], expected[i], "seat");
        }
    }

    function testALapsedVerifierIsNotDrawn() external {
        address gone = _verifier(0);
        vm.prank(gone);
        staking.unbond(900 ether); // below the verifiers' minimum
        for (uint256 i = 0; i < 8; ++i) {
            vm.prank(address(batches));
            address[3] memory drawn = committees.draw(model, keccak256(abi.encode(i)), NODE, false);
            for (uint256 k = 0; k < 3; ++k) {
                Check.yes(drawn[k] != gone, "lapsed");
            }
        }
        (, uint64[] memory weights) = committees.poolOf(model, true);
        committees.refresh(model, gone);
        (, weights) = committees.poolOf(model, true);
        uint256 zeros = 0;
        for (uint256 i = 0; i < weights.length; ++i) {
            if (weights[i] == 0) ++zeros;
        }
        Check.eq(zeros, 1, "evicted");
        vm.prank(gone);
        staking.stake(900 ether);
        committees.refresh(model, gone);
        (, weights) = committees.poolOf(model, true);
        for (uint256 i = 0; i < weights.length; ++i) {
            Check.yes(weights[i] > 0, "back");
        }
    }

    function testTooFewVerifiersRevert() external {
        vm.prank(_verifier(0));
        staking.unbond(900 ether);
        vm.prank(address(batches));
        vm.expectPartialRevert(ICommittees.CommitteesTooFew.selector);
        committees.draw(model, "seed", _verifier(1), false);
        vm.prank(address(batches));
        vm.expectPartialRevert(ICommittees.CommitteesTooFew.selector);
        committees.draw(ModelId.wrap("other"), "seed", NODE, false);
    }

    /// Positions in order; the first whose cumulative weight exceeds the target is picked.
    function _naiveDraw(bytes32 seed, address excluded) private view returns (address[3] memory drawn) {
        (address[] memory members, uint64[] memory weights) = committees.poolOf(model, true);
        uint256 total = 0;
        for (uint256 i = 0; i < weights.length; ++i) {
            total += weights[i];
        }
        uint256 seats = 0;
        for (uint256 k = 0; seats < 3; ++k) {
            uint256 target = uint256(keccak256(abi.encode(seed, k))) % total;
            uint256 position = 0;
            for (; target >= weights[position]; ++position) {
                target -= weights[position];
            }
            address picked = members[position];
            if (picked != excluded && picked != drawn[0] && picked != drawn[1]) drawn[seats++] = picked;
        }
    }

    function testOnlyThoseWiredMayChangePoolsOrDraw() external {
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        committees.nominate(model, CLIENT);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        committees.admit(model, CLIENT);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        committees.draw(model, "seed", NODE, false);
        committees.refresh(model, CLIENT); // anyone may, and nothing comes of it
        (address[] memory members,) = committees.poolOf(model, true);
        Check.eq(members.length, VERIFIERS, "no new member");
    }
}
