// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICommittees} from "../../contracts/interfaces/ICommittees.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {EpochTree} from "../../contracts/libraries/EpochTree.sol";
import {ModelId, Role} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {Standing} from "./Measured.sol";
import {Check, vm} from "./Vm.sol";

abstract contract CommitteesWorld {
    uint256 internal constant EPOCH_BLOCKS = 100;
    uint256 internal constant STAKE = 1000 ether;
    ModelId internal constant MODEL = ModelId.wrap(keccak256("model"));
    bytes32 internal constant CPU = "cpu-bf16";
    bytes32 internal constant GPU = "cuda-bf16";
    address internal constant NODE = address(0xA0);

    Standing internal standing;
    ICommittees internal committees;
    uint256 internal epoch = 10;

    function setUp() public virtual {
        vm.roll(epoch * EPOCH_BLOCKS);
        standing = Standing(Built.create("Standing"));
        committees = _deploy(address(standing), EPOCH_BLOCKS);
    }

    /// All but `staking` is always there.
    function _deploy(address staking, uint256 blocks) internal returns (ICommittees) {
        return ICommittees(Built.create("Committees", abi.encode(staking, standing, standing, blocks)));
    }

    function _nextEpoch() internal {
        vm.roll(++epoch * EPOCH_BLOCKS);
    }

    function _verifier(uint256 i) internal pure returns (address) {
        return address(uint160(0xB00 + i));
    }

    function _join(uint256 i, bytes32 hardwareClass) internal {
        standing.set(_verifier(i), STAKE, true, 10_000);
        _nominate(i, hardwareClass);
        vm.prank(address(standing));
        committees.admit(MODEL, _verifier(i));
    }

    function _joinMany(uint256 count, bytes32 hardwareClass) internal {
        for (uint256 i = 0; i < count; ++i) {
            _join(i, hardwareClass);
        }
        _nextEpoch();
    }

    function _nominate(uint256 i, bytes32 hardwareClass) internal {
        vm.prank(address(standing));
        committees.nominate(MODEL, _verifier(i), hardwareClass);
    }

    function _draw(bytes32 seed, uint256 seats) internal view returns (address[] memory) {
        return _drawAs(seed, epoch, NODE, seats, false);
    }

    function _drawAs(bytes32 seed, uint256 inEpoch, address excluded, uint256 seats, bool calibration)
        internal
        view
        returns (address[] memory)
    {
        return committees.draw(MODEL, seed, inEpoch, block.timestamp, excluded, seats, calibration);
    }

    function _weight(uint256 position, bool calibrated, uint256 inEpoch) internal view returns (uint256) {
        ICommittees.Row[] memory rows = committees.poolOf(MODEL, calibrated, inEpoch, position, 1);
        return rows.length == 0 ? 0 : rows[0].weight;
    }

    function _distinct(address[] memory verifiers) internal pure {
        for (uint256 i = 0; i < verifiers.length; ++i) {
            Check.yes(verifiers[i] != address(0), "seat is taken");
            for (uint256 j = 0; j < i; ++j) {
                Check.yes(verifiers[i] != verifiers[j], "distinct");
            }
        }
    }
}

contract CommitteesDrawTest is CommitteesWorld {
    function testFuzz_nothingDoneAfterTheSeedMovesADraw(bytes32 seed, uint256 random) external {
        _joinMany(12, CPU);
        address[] memory before = _draw(seed, 3);
        bytes32 seven = keccak256(abi.encode(_draw(seed, 7)));
        // The seed is known. Everybody changes what it can, newcomers join, an epoch passes, and it goes on.
        for (uint256 i = 0; i < 12; ++i) {
            random = uint256(keccak256(abi.encode(random)));
            standing.set(_verifier(i), (random >> 8) % (10 * STAKE), random % 2 == 0, random % 10_000);
            committees.refresh(MODEL, _verifier(i));
        }
        _join(12, GPU);
        vm.roll(block.number + committees.drawWindowBlocks());
        for (uint256 i = 13; i < 20; ++i) {
            _join(i, GPU);
        }
        _nominate(0, GPU);
        Check.eq(keccak256(abi.encode(_draw(seed, 3))), keccak256(abi.encode(before)), "three");
        Check.eq(keccak256(abi.encode(_draw(seed, 7))), seven, "seven");
    }

    function testAColluderThatUnbondsIsStillDrawn() external {
        _joinMany(4, CPU);
        address[] memory before = _draw("seed", 3);
        standing.set(before[0], 0, false, 0);
        committees.refresh(MODEL, before[0]);
        Check.eq(_draw("seed", 3)[0], before[0], "it cannot make room for somebody else");
        _nextEpoch();
        for (uint256 i = 0; i < 20; ++i) {
            address[] memory drawn = _draw(keccak256(abi.encode(i)), 3);
            Check.yes(drawn[0] != before[0] && drawn[1] != before[0] && drawn[2] != before[0], "gone an epoch later");
        }
    }

    function testFuzz_seatsAreDistinctAndNotExcluded(bytes32 seed) external {
        for (uint256 i = 0; i < 40; ++i) {
            _join(i, i % 2 == 0 ? CPU : GPU);
        }
        _nextEpoch();
        _distinct(_draw(seed, 3));
        _distinct(_draw(seed, 7));
        _distinct(_draw(seed, 15));
        // An appeal excludes who judged before.
        address[] memory three = _draw(seed, 3);
        address[] memory excluded = new address[](4);
        (excluded[0], excluded[1], excluded[2], excluded[3]) = (three[0], three[1], three[2], NODE);
        address[] memory seven = committees.drawExcluding(MODEL, seed, epoch, block.timestamp, excluded, 7, false);
        _distinct(seven);
        for (uint256 i = 0; i < 7; ++i) {
            for (uint256 j = 0; j < 4; ++j) {
                Check.yes(seven[i] != excluded[j], "judged before");
            }
        }
        address[] memory others = _drawAs(seed, epoch, three[0], 3, false);
        Check.yes(others[0] != three[0] && others[1] != three[0] && others[2] != three[0], "one excluded");
    }

    function testClassesAreMixed() external {
        for (uint256 i = 0; i < 30; ++i) {
            _join(i, CPU);
        }
        for (uint256 i = 30; i < 40; ++i) {
            _join(i, GPU);
        }
        _nextEpoch();
        for (uint256 i = 0; i < 40; ++i) {
            bytes32 seed = keccak256(abi.encode(i));
            Check.yes(_ofCpu(_draw(seed, 3)) <= 2, "two of three");
            Check.yes(_ofCpu(_draw(seed, 7)) <= 5, "five of seven");
            Check.yes(_ofCpu(_draw(seed, 15)) <= 10, "ten of fifteen");
        }
    }

    function testAPoolOfOneClassFillsItsCommittees() external {
        _joinMany(15, CPU);
        for (uint256 i = 0; i < 10; ++i) {
            bytes32 seed = keccak256(abi.encode(i));
            _distinct(_draw(seed, 3));
            _distinct(_draw(seed, 15));
        }
    }

    /// One of three members weighs next to nothing, so that a draw may end before it finds the third.
    function testADrawTriesThirtyTwoTimesASeat() external {
        bytes32[3] memory classes = [CPU, GPU, bytes32("other")];
        for (uint256 i = 0; i < 3; ++i) {
            _joinWith(i, i == 0 ? 200 ether : 10_000 ether, classes[i]);
        }
        _nextEpoch();
        bytes32 inTheLast = bytes32(uint256(11));
        bytes32 inTheNext = bytes32(uint256(8));
        Check.eq(_firstBelow(200, 20_200, inTheLast), 95, "the 96th");
        Check.eq(_firstBelow(200, 20_200, inTheNext), 96, "the 97th");
        Check.eq(_draw(inTheLast, 3)[2], _verifier(0), "found");
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooFew.selector, 2, 3));
        _draw(inTheNext, 3);
    }

    /// With this seed the third of one class is the 25th that is hit, and the 26th is of another.
    function testClassesAreMixedForEightTriesASeat() external {
        for (uint256 i = 0; i < 4; ++i) {
            _joinWith(i, i < 3 ? 1000 ether : 300 ether, i < 3 ? CPU : GPU);
        }
        _nextEpoch();
        address[] memory drawn = _draw(bytes32(uint256(39)), 3);
        Check.eq(drawn[0], _verifier(2), "first");
        Check.eq(drawn[1], _verifier(1), "second");
        Check.eq(drawn[2], _verifier(0), "passed over 24 times at most");
    }

    function testTooFewIsSaid() external {
        _joinMany(3, CPU);
        _distinct(_draw("seed", 3));
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooFew.selector, 2, 3));
        _drawAs("seed", epoch, _verifier(1), 3, false);
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooFew.selector, 3, 7));
        _drawAs("seed", epoch, NODE, 7, false);
    }

    function testBadArgumentsAreRefused() external {
        _joinMany(4, CPU);
        for (uint256 seats = 0; seats < 20; ++seats) {
            if (seats == 3 || seats == 7 || seats == 15) continue;
            vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesBadSeats.selector, seats));
            _drawAs("seed", epoch, NODE, seats, false);
        }
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesEpochNotFrozen.selector, epoch + 1, epoch));
        _drawAs("seed", epoch + 1, NODE, 3, false);
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooManyExcluded.selector, 33, 32));
        committees.drawExcluding(MODEL, "seed", epoch, block.timestamp, new address[](33), 3, false);
        _distinct(committees.drawExcluding(MODEL, "seed", epoch, block.timestamp, new address[](32), 3, false));
    }

    function testCandidatesCheckOneAnotherWhileFewerThanFourAreCalibrated() external {
        for (uint256 i = 0; i < 4; ++i) {
            standing.set(_verifier(i), STAKE, false, 0);
            _nominate(i, CPU);
        }
        _nextEpoch();
        _distinct(_drawAs("seed", epoch, _verifier(0), 3, true));
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooFew.selector, 0, 3));
        _drawAs("seed", epoch, _verifier(0), 3, false);

        for (uint256 i = 4; i < 8; ++i) {
            _join(i, CPU);
        }
        // That four are calibrated counts from the next epoch on, for the choice of the pool, too.
        bytes32 drawn = keccak256(abi.encode(_drawAs("seed", epoch, _verifier(0), 3, true)));
        _nextEpoch();
        Check.eq(
            keccak256(abi.encode(_drawAs("seed", epoch - 1, _verifier(0), 3, true))), drawn, "as before"
        );
        for (uint256 i = 0; i < 20; ++i) {
            address[] memory verifiers = _drawAs(keccak256(abi.encode(i)), epoch, NODE, 3, true);
            for (uint256 j = 0; j < 3; ++j) {
                Check.yes(uint160(verifiers[j]) >= uint160(_verifier(4)), "calibrated only");
            }
        }
    }

    function testFuzz_aDrawOfTheLastEpochSurvivesGrowth(bytes32 seed) external {
        _joinMany(7, CPU);
        bytes32 before = keccak256(abi.encode(_draw(seed, 3)));
        for (uint256 i = 7; i < 60; ++i) {
            _join(i, GPU);
        }
        _nextEpoch();
        Check.eq(committees.eligible(MODEL, true, epoch), 60, "three levels now");
        Check.eq(
            keccak256(abi.encode(_drawAs(seed, epoch - 1, NODE, 3, false))), before, "as before growth"
        );
    }

    function testAForgottenEpochIsRefused() external {
        _joinMany(4, CPU);
        uint256 old = epoch;
        for (uint256 i = 0; i < 3; ++i) {
            standing.set(_verifier(0), STAKE + i * 1 ether + 1 ether, true, 10_000);
            committees.refresh(MODEL, _verifier(0));
            _nextEpoch();
        }
        vm.expectRevert(abi.encodeWithSelector(EpochTree.EpochTreeForgotten.selector, old));
        _drawAs("seed", old, NODE, 3, false);
    }

    function _joinWith(uint256 i, uint256 stakeWei, bytes32 hardwareClass) private {
        standing.set(_verifier(i), stakeWei, true, 10_000);
        _nominate(i, hardwareClass);
        vm.prank(address(standing));
        committees.admit(MODEL, _verifier(i));
    }

    /// At which try a draw first hits the first `weight` of `total`.
    function _firstBelow(uint256 weight, uint256 total, bytes32 seed) private pure returns (uint256 k) {
        while (uint256(keccak256(abi.encode(seed, k))) % total >= weight) ++k;
    }

    function _ofCpu(address[] memory verifiers) private pure returns (uint256 count) {
        for (uint256 i = 0; i < verifiers.length; ++i) {
            if (uint160(verifiers[i]) < uint160(_verifier(30))) ++count;
        }
    }
}

contract CommitteesWeightTest is CommitteesWorld {
    uint256 private constant MAX_WEIGHT = 1 << 24;

    function testWeightIsStakeTimesReputation() external {
        uint256[4] memory scores = [uint256(0), 5000, 10_000, 20_000];
        uint256[4] memory weights = [uint256(250), 625, 1000, 1000];
        for (uint256 i = 0; i < 4; ++i) {
            standing.set(_verifier(i), STAKE, false, scores[i]);
            _nominate(i, CPU);
            Check.eq(_weight(i, false, epoch), 0, "not yet");
            Check.eq(_weight(i, false, epoch + 1), weights[i], "pending");
        }
        _nextEpoch();
        Check.eq(_weight(1, false, epoch), 625, "counts");
    }

    function testFuzz_splittingStakeGainsNothing(uint256 stakeWei, uint256 partWei, uint256 scoreBps) external {
        stakeWei = 400 ether + stakeWei % 1e25;
        partWei = 200 ether + partWei % (stakeWei - 399 ether);
        scoreBps %= 10_001;
        standing.set(_verifier(0), stakeWei, false, scoreBps);
        standing.set(_verifier(1), partWei, false, scoreBps);
        standing.set(_verifier(2), stakeWei - partWei, false, scoreBps);
        for (uint256 i = 0; i < 3; ++i) {
            _nominate(i, CPU);
        }
        uint256 parts = _weight(1, false, epoch + 1) + _weight(2, false, epoch + 1);
        Check.yes(parts <= _weight(0, false, epoch + 1), "two halves weigh no more than the whole");
    }

    function testNoWeightBelowTheMinimumStakeOrWithoutCalibration() external {
        standing.set(_verifier(0), 200 ether - 1, true, 10_000);
        _nominate(0, CPU);
        Check.eq(committees.positionsOf(MODEL, false), 0, "no position without weight");
        standing.set(_verifier(0), 200 ether, false, 10_000);
        vm.prank(address(standing));
        committees.admit(MODEL, _verifier(0));
        Check.eq(_weight(0, false, epoch + 1), 200, "candidate");
        Check.eq(_weight(0, true, epoch + 1), 0, "not calibrated");
        standing.set(_verifier(0), 200 ether, true, 10_000);
        committees.refresh(MODEL, _verifier(0));
        Check.eq(_weight(0, true, epoch + 1), 200, "calibrated");
        standing.set(_verifier(0), 199 ether, true, 10_000);
        committees.refresh(MODEL, _verifier(0));
        Check.eq(_weight(0, true, epoch + 1) + _weight(0, false, epoch + 1), 0, "slashed below the minimum");
    }

    function testHugeStakesAreClampedAndBlockNobody() external {
        // 63 clamped weights leave less than one more.
        for (uint256 i = 0; i < 64; ++i) {
            standing.set(_verifier(i), type(uint128).max, false, 10_000);
            _nominate(i, CPU);
        }
        Check.eq(_weight(0, false, epoch + 1), MAX_WEIGHT, "clamped");
        Check.eq(_weight(63, false, epoch + 1), MAX_WEIGHT - 1, "lowered to what is left");
        standing.set(_verifier(64), STAKE, false, 10_000);
        _nominate(64, CPU);
        Check.eq(_weight(64, false, epoch + 1), 0, "no room");
        standing.set(_verifier(0), STAKE, false, 10_000);
        committees.refresh(MODEL, _verifier(0));
        committees.refresh(MODEL, _verifier(64));
        Check.eq(_weight(64, false, epoch + 1), 1000, "room again");
        _nextEpoch();
        Check.eq(_drawAs("seed", epoch, NODE, 15, true).length, 15, "drawn from a full pool");
    }

    function testWhoComesBackTakesItsOldPosition() external {
        _joinMany(3, CPU);
        standing.set(_verifier(0), 0, true, 10_000);
        committees.refresh(MODEL, _verifier(0));
        _nextEpoch();
        Check.eq(committees.eligible(MODEL, true, epoch), 2, "left");
        _join(0, CPU);
        Check.eq(committees.positionsOf(MODEL, true), 3, "positions");
        Check.eq(_weight(0, true, epoch + 1), 1000, "back");
    }

    function testAClassChangeMovesTheWeight() external {
        _joinMany(2, CPU);
        _nominate(0, GPU);
        // The calibrated pool keeps the class that was calibrated.
        Check.eq(_weight(0, true, epoch + 1), 1000, "calibrated as before");
        Check.eq(_weight(0, false, epoch + 1), 0, "old class");
        Check.eq(_weight(2, false, epoch + 1), 1000, "new class");
        vm.prank(address(standing));
        committees.admit(MODEL, _verifier(0));
        Check.eq(_weight(0, true, epoch + 1), 0, "old class, calibrated");
        Check.eq(_weight(2, true, epoch + 1), 1000, "new class, calibrated");
        Check.eq(committees.eligible(MODEL, true, epoch + 1), 2, "one weight a verifier");
        // Back again: both positions exist already.
        _join(0, CPU);
        Check.eq(committees.positionsOf(MODEL, true), 3, "positions");
        Check.eq(_weight(0, true, epoch + 1), 1000, "first position");
        ICommittees.Row[] memory rows = committees.poolOf(MODEL, true, epoch + 1, 1, 10);
        Check.eq(rows.length, 2, "page");
        Check.eq(rows[1].verifier, _verifier(0), "same address");
        Check.eq(rows[1].weight, 0, "without weight");
        Check.eq(rows[1].hardwareClass, GPU, "class");
        Check.eq(rows[0].hardwareClass, CPU, "class of another");
    }

    function testFuzz_pagesCoverThePool(uint256 offset, uint256 limit) external {
        _joinMany(9, CPU);
        ICommittees.Row[] memory rows = committees.poolOf(MODEL, true, epoch, offset, limit);
        uint256 left = offset >= 9 ? 0 : 9 - offset;
        Check.eq(rows.length, limit < left ? limit : left, "length");
        rows = committees.poolOf(MODEL, true, epoch, offset % 9, 1);
        Check.eq(rows[0].verifier, _verifier(offset % 9), "position order");
    }

    function testOnlyCalibrationNominatesAndAdmits() external {
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesUnauthorized.selector, address(this)));
        committees.nominate(MODEL, NODE, CPU);
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesUnauthorized.selector, address(this)));
        committees.admit(MODEL, NODE);
        // Who is no candidate, or none any more, stays out: a verdict on its calibration must not fail by that.
        standing.set(NODE, STAKE, true, 10_000);
        vm.prank(address(standing));
        committees.admit(MODEL, NODE);
        Check.eq(committees.positionsOf(MODEL, true), 0, "no position");
    }

    function testRefreshingAStrangerDoesNothing() external {
        standing.set(NODE, STAKE, true, 10_000);
        committees.refresh(MODEL, NODE);
        Check.eq(committees.positionsOf(MODEL, true) + committees.positionsOf(MODEL, false), 0, "no position");
    }

    function testEpochsAndTheirBounds() external {
        Check.eq(committees.epochAt(1099), 10, "rounded down");
        Check.eq(committees.currentEpoch(), 10, "now");
        Check.eq(committees.epochBlocks(), 100, "blocks");
        Check.eq(committees.drawWindowBlocks(), 100, "an epoch");
        Check.eq(_deploy(address(standing), 50_000).drawWindowBlocks(), 256, "as long as hashes are known");
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesEpochOutOfBounds.selector, 7, 8, 50_000));
        _deploy(address(standing), 7);
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesEpochOutOfBounds.selector, 50_001, 8, 50_000));
        _deploy(address(standing), 50_001);
        Check.eq(_deploy(address(standing), 8).epochBlocks(), 8, "the shortest");
    }

    function testNoCounterpartMayBeMissing() external {
        for (uint256 i = 0; i < 3; ++i) {
            address[3] memory parts = [address(standing), address(standing), address(standing)];
            parts[i] = address(0);
            vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesZeroAddress.selector));
            Built.create("Committees", abi.encode(parts, EPOCH_BLOCKS));
        }
    }

    /// To the token: a newcomer's weight is a quarter of its stake.
    function testFuzz_theWeightIsThatOfTheFormula(uint256 tokens, uint256 scoreBps) external {
        (tokens, scoreBps) = (200 + tokens % 20_000_000, scoreBps % 10_001);
        standing.set(_verifier(0), tokens * 1 ether, false, scoreBps);
        _nominate(0, CPU);
        uint256 weight = (tokens * (2500 + (7500 * scoreBps) / 10_000)) / 10_000;
        Check.eq(_weight(0, false, epoch + 1), weight < MAX_WEIGHT ? weight : MAX_WEIGHT, "weight");
    }

    function testANewcomerWeighsAQuarterOfItsStake() external {
        standing.set(_verifier(0), 10_000_000 ether, false, 0);
        _nominate(0, CPU);
        Check.eq(_weight(0, false, epoch + 1), 2_500_000, "a quarter");
    }
}

/// @notice When weights fall without anybody's errand, and who is passed over.
contract CommitteesStandingTest is CommitteesWorld {
    function testStakeThatFallsIsToldForAllModels() external {
        standing.set(_verifier(0), STAKE, true, 10_000);
        for (uint256 i = 0; i < 4; ++i) {
            _joinModel(_model(i));
        }
        standing.set(_verifier(0), STAKE / 2, true, 10_000);
        committees.stakeChanged(_verifier(0));
        for (uint256 i = 0; i < 4; ++i) {
            for (uint256 calibrated = 0; calibrated < 2; ++calibrated) {
                ICommittees.Row[] memory rows = committees.poolOf(_model(i), calibrated == 1, epoch + 1, 0, 1);
                Check.eq(rows[0].weight, 500, "from the next epoch on");
            }
        }
        committees.stakeChanged(NODE);
        Check.eq(committees.modelsOf(NODE).length, 0, "of a stranger nothing");
    }

    function testAFifthModelTakesThePlaceOfOneThatIsNotCalibratedFor() external {
        standing.set(_verifier(0), STAKE, true, 10_000);
        for (uint256 i = 0; i < 4; ++i) {
            _joinModel(_model(i));
        }
        vm.startPrank(address(standing));
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooManyModels.selector, _verifier(0), 4));
        committees.nominate(_model(4), _verifier(0), CPU);
        standing.set(_verifier(0), STAKE, false, 10_000);
        committees.nominate(_model(4), _verifier(0), CPU);
        Check.eq(committees.poolOf(_model(0), true, epoch + 1, 0, 1)[0].weight, 0, "left");
        Check.eq(committees.poolOf(_model(0), false, epoch + 1, 0, 1)[0].weight, 0, "as a candidate, too");
        Check.eq(committees.poolOf(_model(1), false, epoch + 1, 0, 1)[0].weight, 1000, "the others stand");
        // A verdict on a challenge of the model that it left must not fail.
        committees.admit(_model(0), _verifier(0));
        committees.refresh(_model(0), _verifier(0));
        Check.eq(committees.poolOf(_model(0), true, epoch + 1, 0, 1)[0].weight, 0, "stays out");
        committees.nominate(_model(0), _verifier(0), CPU);
        Check.eq(committees.positionsOf(_model(0), false), 1, "comes back to its position");
        Check.eq(committees.poolOf(_model(0), false, epoch + 1, 0, 1)[0].weight, 1000, "with its weight");
        vm.stopPrank();
        Check.eq(committees.modelsOf(_verifier(0)).length, 4, "no more than four");
    }

    function testFuzz_itDoesNotMatterWhenADrawIsCalled(bytes32 seed, uint256 random) external {
        uint256 fixedAt = 1_000_000;
        vm.warp(fixedAt - 1000);
        for (uint256 i = 0; i < 20; ++i) {
            random = uint256(keccak256(abi.encode(random)));
            standing.setUntil(_verifier(i), STAKE, fixedAt - 20 + random % 40 + (i < 10 ? 100 : 0), 10_000);
            _nominate(i, CPU);
            vm.prank(address(standing));
            committees.admit(MODEL, _verifier(i));
        }
        _nextEpoch();
        vm.warp(fixedAt);
        bytes32 drawn = keccak256(abi.encode(committees.draw(MODEL, seed, epoch, fixedAt, NODE, 3, false)));
        // Time passes, calibrations end, and those that have not ended are renewed.
        vm.warp(fixedAt + 15);
        for (uint256 i = 0; i < 10; ++i) {
            standing.setUntil(_verifier(i), STAKE, fixedAt + 30 days, 10_000);
            vm.prank(address(standing));
            committees.admit(MODEL, _verifier(i));
        }
        bytes32 later = keccak256(abi.encode(committees.draw(MODEL, seed, epoch, fixedAt, NODE, 3, false)));
        Check.eq(later, drawn, "the same committee");
    }

    function testWhoIsRenewedAfterItHasExpiredCannotComeIntoADrawOfBefore() external {
        vm.warp(1000);
        _joinMany(4, CPU);
        standing.setUntil(_verifier(9), 2 * STAKE, 2000, 10_000);
        _nominate(9, GPU);
        vm.prank(address(standing));
        committees.admit(MODEL, _verifier(9));
        _nextEpoch();
        vm.warp(3000);
        bytes32 before = keccak256(abi.encode(committees.draw(MODEL, "seed", epoch, 2500, NODE, 3, false)));
        standing.set(_verifier(9), 2 * STAKE, true, 10_000);
        vm.prank(address(standing));
        committees.admit(MODEL, _verifier(9));
        Check.eq(
            keccak256(abi.encode(committees.draw(MODEL, "seed", epoch, 2500, NODE, 3, false))), before, "not in"
        );
        Check.yes(keccak256(abi.encode(_drawAs("seed", epoch, NODE, 3, false))) != before, "from now on it is");
    }

    function testWhoIsRenewedInItsLastSecondWasValidWithoutABreak() external {
        vm.warp(1000);
        for (uint256 i = 0; i < 3; ++i) {
            standing.setUntil(_verifier(i), STAKE, 2000, 10_000);
            _nominate(i, CPU);
            vm.prank(address(standing));
            committees.admit(MODEL, _verifier(i));
        }
        _nextEpoch();
        vm.warp(2000);
        _distinct(committees.draw(MODEL, "seed", epoch, 2000, NODE, 3, false));
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooFew.selector, 0, 3));
        committees.draw(MODEL, "seed", epoch, 2001, NODE, 3, false);
        committees.refresh(MODEL, _verifier(0));
        Check.eq(_weight(0, true, epoch + 1), 1000, "its last second");
        for (uint256 i = 0; i < 3; ++i) {
            standing.setUntil(_verifier(i), STAKE, 3000, 10_000);
            committees.refresh(MODEL, _verifier(i));
        }
        _distinct(committees.draw(MODEL, "seed", epoch, 1000, NODE, 3, false));
        _distinct(committees.draw(MODEL, "seed", epoch, 1999, NODE, 3, false));
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooFew.selector, 0, 3));
        committees.draw(MODEL, "seed", epoch, 999, NODE, 3, false);
        Check.eq(committees.poolOf(MODEL, true, epoch, 0, 1)[0].validFrom, 1000, "since it came");
        // A second later than it could have been it is a break, and who was passed over cannot come in.
        vm.warp(3001);
        standing.setUntil(_verifier(0), STAKE, 4000, 10_000);
        committees.refresh(MODEL, _verifier(0));
        Check.eq(committees.poolOf(MODEL, true, epoch, 0, 1)[0].validFrom, 3001, "anew");
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooFew.selector, 2, 3));
        committees.draw(MODEL, "seed", epoch, 2999, NODE, 3, false);
    }

    function testAnEpochIsShorterThanStakeTakesToLeave() external {
        StandingOf leavesSoon = new StandingOf(2999);
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesEpochOutlastsStake.selector, 3000, 2999));
        _deploy(address(leavesSoon), 100);
        _deploy(address(new StandingOf(3000)), 100);
    }

    function testAWeightThatStaysIsNotToldAgain() external {
        _joinMany(1, CPU);
        vm.recordLogs();
        committees.refresh(MODEL, _verifier(0));
        committees.stakeChanged(_verifier(0));
        // Calibrated again for the class that it has.
        _nominate(0, CPU);
        vm.prank(address(standing));
        committees.admit(MODEL, _verifier(0));
        Check.eq(vm.getRecordedLogs().length, 0, "nothing has changed");
    }

    function testAModelIsKeptToTheLastSecondOfItsCalibration() external {
        vm.warp(1000);
        standing.setUntil(_verifier(0), STAKE, 2000, 10_000);
        for (uint256 i = 0; i < 4; ++i) {
            _joinModel(_model(i));
        }
        vm.warp(2000);
        vm.startPrank(address(standing));
        vm.expectRevert(abi.encodeWithSelector(ICommittees.CommitteesTooManyModels.selector, _verifier(0), 4));
        committees.nominate(_model(4), _verifier(0), CPU);
        vm.warp(2001);
        committees.nominate(_model(4), _verifier(0), CPU);
        vm.stopPrank();
    }

    function testAWeightOfOneIsAWeight() external {
        vm.warp(1000);
        StandingOf poor = new StandingOf(30 days);
        committees = ICommittees(Built.create("Committees", abi.encode(poor, poor, poor, EPOCH_BLOCKS)));
        for (uint256 i = 0; i < 3; ++i) {
            vm.startPrank(address(poor));
            committees.nominate(MODEL, _verifier(i), CPU);
            committees.admit(MODEL, _verifier(i));
            vm.stopPrank();
        }
        Check.eq(_weight(0, true, epoch + 1), 1, "calibrated");
        Check.eq(_weight(0, false, epoch + 1), 1, "and a candidate");
        ICommittees.Row memory row = committees.poolOf(MODEL, true, epoch + 1, 0, 1)[0];
        Check.eq(row.validUntil, 5000, "as calibrated");
        _nextEpoch();
        _distinct(committees.draw(MODEL, "seed", epoch, block.timestamp, NODE, 3, false));
    }

    function _model(uint256 i) private pure returns (ModelId) {
        return ModelId.wrap(bytes32(1000 + i));
    }

    function _joinModel(ModelId model) private {
        vm.startPrank(address(standing));
        committees.nominate(model, _verifier(0), CPU);
        committees.admit(model, _verifier(0));
        vm.stopPrank();
    }
}

/// @notice Everybody has one token, calibrated, with the best reputation.
contract StandingOf {
    uint256 public immutable unbondingDelay;

    constructor(uint256 delay) {
        unbondingDelay = delay;
    }

    function stakeOf(address) external pure returns (IStaking.Stake memory stake) {
        (stake.active, stake.own) = (1 ether, 1 ether);
    }

    function validUntil(address, Role, ModelId) external pure returns (uint256) {
        return 5000;
    }

    function minStakeOf(Role) external pure returns (uint256) {
        return 1 ether;
    }

    function scoreBps(address, Role, ModelId) external pure returns (uint256) {
        return 10_000;
    }
}

/// @notice Repeats the draws that Python wrote into tests/vectors/protocol.json.
contract CommitteesVectorsTest is CommitteesWorld {
    string private _json;

    function setUp() public override {
        super.setUp();
        _json = vm.readFile("tests/vectors/protocol.json");
    }

    function testDrawsAreThoseOfPython() external {
        _buildPool();
        bytes32[] memory seeds = vm.parseJsonBytes32Array(_json, ".committee_seed");
        bytes32[] memory seats = vm.parseJsonBytes32Array(_json, ".committee_seats");
        bytes32[] memory fixedAt = vm.parseJsonBytes32Array(_json, ".committee_fixedAt");
        bytes32[] memory counts = vm.parseJsonBytes32Array(_json, ".committee_excludedCount");
        address[] memory expected = vm.parseJsonAddressArray(_json, ".committee_drawn");
        Check.yes(seeds.length > 0, "there are cases");
        uint256 next = 0;
        for (uint256 i = 0; i < seeds.length; ++i) {
            address[] memory drawn =
                _drawn(seeds[i], uint256(fixedAt[i]), uint256(seats[i]), _excluded(uint256(counts[i])));
            for (uint256 j = 0; j < drawn.length; ++j) {
                Check.eq(drawn[j], expected[next++], "seat");
            }
        }
        Check.eq(next, expected.length, "all seats compared");
    }

    function _drawn(bytes32 seed, uint256 fixedAt, uint256 seats, address[] memory excluded)
        private
        view
        returns (address[] memory drawn)
    {
        drawn = committees.drawExcluding(MODEL, seed, epoch, fixedAt, excluded, seats, false);
        if (excluded.length != 1) return drawn;
        address[] memory same = committees.draw(MODEL, seed, epoch, fixedAt, excluded[0], seats, false);
        Check.eq(keccak256(abi.encode(drawn)), keccak256(abi.encode(same)), "both ways to exclude one");
    }

    function _excluded(uint256 count) private view returns (address[] memory excluded) {
        address[] memory all = vm.parseJsonAddressArray(_json, ".committee_excluded");
        excluded = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            excluded[i] = all[i];
        }
    }

    function _buildPool() private {
        address[] memory members = vm.parseJsonAddressArray(_json, ".committee_address");
        bytes32[] memory weights = vm.parseJsonBytes32Array(_json, ".committee_weight");
        bytes32[] memory classes = vm.parseJsonBytes32Array(_json, ".committee_class");
        bytes32[] memory until = vm.parseJsonBytes32Array(_json, ".committee_validUntil");
        vm.warp(1);
        for (uint256 i = 0; i < members.length; ++i) {
            // A position is handed out only to who has weight: a row without it joined once.
            uint256 weight = weights[i] == 0 ? 200 : uint256(weights[i]);
            standing.setUntil(members[i], weight * 1 ether, uint256(until[i]), 10_000);
            vm.startPrank(address(standing));
            committees.nominate(MODEL, members[i], classes[i]);
            committees.admit(MODEL, members[i]);
            vm.stopPrank();
        }
        standing.set(members[3], 0, true, 10_000);
        committees.refresh(MODEL, members[3]);
        _nextEpoch();
        ICommittees.Row[] memory rows = committees.poolOf(MODEL, true, epoch, 0, members.length);
        Check.eq(committees.positionsOf(MODEL, true), members.length, "positions");
        for (uint256 i = 0; i < members.length; ++i) {
            Check.eq(rows[i].verifier, members[i], "member");
            Check.eq(rows[i].weight, uint256(weights[i]), "weight");
            Check.eq(rows[i].hardwareClass, classes[i], "class");
            Check.eq(rows[i].validUntil, uint256(until[i]), "valid until");
        }
    }
}
