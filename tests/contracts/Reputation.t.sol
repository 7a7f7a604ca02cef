// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IReputation} from "../../contracts/interfaces/IReputation.sol";
import {Decay} from "../../contracts/libraries/Decay.sol";
import {BatchId, ModelId, OUTCOME, Role} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {MeasuredSettlement} from "./Measured.sol";
import {Check, vm} from "./Vm.sol";

contract ReputationTest {
    ModelId private constant MODEL = ModelId.wrap("model");
    BatchId private constant BATCH = BatchId.wrap("batch");
    address private constant NODE = address(0xA0);
    address private constant NEWCOMER = address(0xA1);
    address private constant APPEALS = address(0xA9);
    address private constant FINALITY = address(0xF1);
    uint64 private constant HALF_LIFE = 30 days;
    uint256 private constant START = 1_000_000;
    uint256 private constant ONE = 1_000_000;

    IReputation private _reputation;

    function setUp() external {
        vm.warp(START);
        _reputation = _deploy(address(this), FINALITY, APPEALS, HALF_LIFE);
    }

    function testItStartsAtZeroAndIsEarned() external {
        Check.eq(_score(NODE), 0, "starts at zero");
        _record(NODE, 20, 0, 0);
        Check.eq(_score(NODE), 5000, "earned");
        Check.eq(_reputation.scoreBps(NODE, Role.Verifier, MODEL), 0, "per role");
        Check.eq(_reputation.scoreBps(NODE, Role.Node, ModelId.wrap("other")), 0, "per model");
        Check.eq(_score(NEWCOMER), 0, "per operator");
        _record(NODE, 0, 1, 0);
        Check.eq(_score(NODE), 4000, "one rejection weighs ten");
        _record(NODE, 0, 0, 5);
        Check.eq(_score(NODE), 3333, "one seat missed weighs two");
    }

    /// A seat earns by the leaf, so a part of an outcome counts for its part.
    function testPartsOfAnOutcomeAddUp() external {
        _reputation.record(NODE, Role.Verifier, MODEL, BATCH, 3906, 0, 0);
        Check.eq(_reputation.scoreBps(NODE, Role.Verifier, MODEL), 1, "3906 / (3906 + 20e6)");
        IReputation.Record memory r = _reputation.recordOf(NODE, Role.Verifier, MODEL);
        Check.yes(r.acceptedMicro == 3905 || r.acceptedMicro == 3906, "to a millionth");
        for (uint256 i = 0; i < 255; ++i) {
            _reputation.record(NODE, Role.Verifier, MODEL, BATCH, 3906, 0, 0);
        }
        Check.eq(_reputation.scoreBps(NODE, Role.Verifier, MODEL), 476, "nearly one");
    }

    function testHalfOfARecordGoesInAHalfLife() external {
        _record(NODE, 40, 4, 2);
        vm.warp(START + HALF_LIFE);
        IReputation.Record memory r = _reputation.recordOf(NODE, Role.Node, MODEL);
        Check.eq(r.acceptedMicro, 20 * ONE, "accepted");
        Check.eq(r.rejectedMicro, 2 * ONE, "rejected");
        Check.eq(r.missedMicro, ONE, "missed");
        Check.eq(r.updatedAt, START, "written at");
        Check.eq(_score(NODE), (20 * 10_000) / uint256(20 + 20 + 2 + 20), "score");
        Check.eq(_reputation.halfLifeSeconds(), HALF_LIFE, "half-life");
    }

    function testFuzz_scoresAreMonotonous(uint32 accepted, uint32 rejected, uint32 missed, uint32 more) external {
        _record(NODE, accepted, rejected, missed);
        uint256 score = _score(NODE);
        Check.yes(score <= 10_000, "at most all");
        _record(NODE, more, 0, 0);
        uint256 better = _score(NODE);
        Check.yes(better >= score, "accepted work never lowers it");
        _record(NODE, 0, more, 0);
        Check.yes(_score(NODE) <= better, "rejected work never raises it");
    }

    function testFuzz_waitingNeverRaisesAScore(uint256 seed, uint32 wait) external {
        _live(NODE, seed);
        uint256 before = _score(NODE);
        vm.warp(block.timestamp + wait);
        Check.yes(_score(NODE) <= before, "waiting");
    }

    function testFuzz_waitingNeverLiftsAnyonePastANewcomer(uint256 seed, uint32 wait, uint16 work) external {
        _live(NODE, seed);
        uint256 now_ = block.timestamp;
        IReputation twin = _deploy(address(this), FINALITY, APPEALS, HALF_LIFE);
        // The same life and the same work at once, to know who stood where without the wait.
        _reputation.record(NEWCOMER, Role.Node, MODEL, BATCH, work * OUTCOME, 0, 0);
        uint256 newcomer = _score(NEWCOMER);
        vm.warp(START);
        IReputation first = _reputation;
        _reputation = twin;
        _live(NODE, seed);
        vm.warp(now_);
        _record(NODE, work, 0, 0);
        uint256 atOnce = _score(NODE);
        _reputation = first;
        vm.warp(now_ + wait);
        _record(NODE, work, 0, 0);
        // Scores are whole basis points: who is really below a newcomer by less than one shows as equal.
        if (atOnce < newcomer) Check.yes(_score(NODE) <= newcomer, "never past a newcomer");
    }

    /// The same without rounding, on the sums themselves: below a newcomer is 20 accepted < work * pull, where what
    /// pulls is 10 rejected + 2 missed.
    /// Starts at the line, where one unit decides.
    function testFuzz_whatPullsARecordDownFadesNoFasterThanWhatHoldsItUp(uint16 pull, uint32 elapsed, uint32 work)
        external
        pure
    {
        uint256 accepted = (uint256(work) * pull) / 20;
        uint256 left = Decay.multiplier(elapsed, HALF_LIFE);
        Check.yes(20 * Decay.down(accepted, left) <= work * Decay.up(pull, left), "still below");
    }

    function testFuzz_splittingWorkOverAddressesGainsNothing(uint16 a, uint16 b) external {
        _record(NODE, uint64(a) + b, 0, 0);
        _record(NEWCOMER, a, 0, 0);
        Check.yes(_score(NEWCOMER) <= _score(NODE), "a part scores no more than the whole");
    }

    function testFuzz_nothingRecordedEverFails(uint64 a, uint64 r, uint64 m) external {
        for (uint256 i = 0; i < 3; ++i) {
            _reputation.record(NODE, Role.Node, MODEL, BATCH, a, r, m);
        }
        uint64 most = type(uint64).max;
        _reputation.record(NODE, Role.Node, MODEL, BATCH, most, most, most);
        IReputation.Record memory full = _reputation.recordOf(NODE, Role.Node, MODEL);
        // All 72 bits set are 2 ** 40 less one unit.
        Check.eq(full.acceptedMicro, (uint256(type(uint72).max) * ONE) >> 32, "full and no more");
        _record(NODE, 1, 0, 0);
        Check.eq(_reputation.recordOf(NODE, Role.Node, MODEL).acceptedMicro, full.acceptedMicro, "stays full");
        Check.eq(_score(NODE), 769, "1 / (1 + 10 + 2)");
    }

    function testManyAreRecordedAsOneByOne() external {
        IReputation.Work[] memory works = new IReputation.Work[](3);
        works[0] = IReputation.Work(NODE, Role.Node, 255 * OUTCOME, OUTCOME, 0);
        works[1] = IReputation.Work(NEWCOMER, Role.Verifier, OUTCOME, 0, 0);
        works[2] = IReputation.Work(NODE, Role.Verifier, 0, 0, OUTCOME);
        _reputation.recordMany(MODEL, BATCH, works);
        Check.eq(_score(NODE), (255 * 10_000) / uint256(255 + 10 + 20), "node");
        Check.eq(_reputation.scoreBps(NEWCOMER, Role.Verifier, MODEL), 476, "verifier");
        Check.eq(_reputation.recordOf(NODE, Role.Verifier, MODEL).missedMicro, ONE, "missed");
    }

    function testEveryChangeIsAnEventWithWhatWasAddedAndTheNewScore() external {
        vm.expectEmit(address(_reputation));
        emit IReputation.ReputationChanged(NODE, MODEL, BATCH, (4000 << 192) | (20e6 << 128) | (1e6 << 64));
        _record(NODE, 20, 1, 0);
        vm.expectEmit(address(_reputation));
        emit IReputation.ReputationChanged(NODE, MODEL, BATCH, (1 << 208) | (476 << 192) | (1e6 << 128));
        _reputation.record(NODE, Role.Verifier, MODEL, BATCH, OUTCOME, 0, 0);
    }

    function testAHistoryIsWhatPythonComputes() external {
        string memory json = vm.readFile("tests/vectors/reputation.json");
        bytes32[] memory times = vm.parseJsonBytes32Array(json, ".history_now");
        bytes32[] memory accepted = vm.parseJsonBytes32Array(json, ".history_accepted");
        bytes32[] memory rejected = vm.parseJsonBytes32Array(json, ".history_rejected");
        bytes32[] memory missed = vm.parseJsonBytes32Array(json, ".history_missed");
        bytes32[] memory micros = vm.parseJsonBytes32Array(json, ".history_micros");
        bytes32[] memory scores = vm.parseJsonBytes32Array(json, ".history_score");
        bytes32[] memory later = vm.parseJsonBytes32Array(json, ".history_later");
        Check.yes(times.length > 0, "there are cases");
        Check.eq(uint256(vm.parseJsonBytes32(json, ".halfLife")), HALF_LIFE, "half-life");
        for (uint256 i = 0; i < times.length; ++i) {
            vm.warp(uint256(times[i]));
            if (i > 0) Check.eq(_score(NODE), uint256(later[i - 1]), "score after the wait");
            (uint64 a, uint64 r, uint64 m) = (_count(accepted[i]), _count(rejected[i]), _count(missed[i]));
            _reputation.record(NODE, Role.Node, MODEL, BATCH, a, r, m);
            IReputation.Record memory r_ = _reputation.recordOf(NODE, Role.Node, MODEL);
            Check.eq(r_.acceptedMicro, uint256(micros[3 * i]), "accepted");
            Check.eq(r_.rejectedMicro, uint256(micros[3 * i + 1]), "rejected");
            Check.eq(r_.missedMicro, uint256(micros[3 * i + 2]), "missed");
            Check.eq(_score(NODE), uint256(scores[i]), "score");
        }
    }

    function testOnlyBatchesAndAppealsRecord() external {
        bytes memory refused = abi.encodeWithSelector(IReputation.ReputationUnauthorized.selector, NODE);
        vm.startPrank(NODE);
        vm.expectRevert(refused);
        _reputation.record(NODE, Role.Node, MODEL, BATCH, OUTCOME, 0, 0);
        vm.expectRevert(refused);
        _reputation.recordMany(MODEL, BATCH, new IReputation.Work[](0));
        vm.stopPrank();
        vm.prank(APPEALS);
        _reputation.record(NODE, Role.Node, MODEL, BATCH, 20 * OUTCOME, 0, 0);
        Check.eq(_score(NODE), 5000, "by appeals");
        vm.prank(FINALITY);
        _reputation.record(NODE, Role.Node, MODEL, BATCH, 10 * OUTCOME, 0, 0);
        Check.eq(_score(NODE), 6000, "by finality");
    }

    function testParametersAreBounded() external {
        vm.expectPartialRevert(IReputation.ReputationHalfLifeOutOfBounds.selector);
        _deploy(address(this), FINALITY, APPEALS, 1 days - 1);
        vm.expectPartialRevert(IReputation.ReputationHalfLifeOutOfBounds.selector);
        _deploy(address(this), FINALITY, APPEALS, 365 days + 1);
        vm.expectPartialRevert(IReputation.ReputationZeroAddress.selector);
        _deploy(address(0), FINALITY, APPEALS, HALF_LIFE);
        vm.expectPartialRevert(IReputation.ReputationZeroAddress.selector);
        _deploy(address(this), address(0), APPEALS, HALF_LIFE);
        vm.expectPartialRevert(IReputation.ReputationZeroAddress.selector);
        _deploy(address(this), FINALITY, address(0), HALF_LIFE);
        _deploy(address(this), FINALITY, APPEALS, 1 days);
        _deploy(address(this), FINALITY, APPEALS, 365 days);
    }

    function _deploy(address batches, address finality, address appeals, uint256 halfLife)
        private
        returns (IReputation)
    {
        return IReputation(Built.create("Reputation", abi.encode(batches, finality, appeals, halfLife)));
    }

    function _live(address operator, uint256 seed) private {
        for (uint256 i = 0; i < 4; ++i) {
            uint256 word = uint256(keccak256(abi.encode(seed, i)));
            vm.warp(block.timestamp + uint24(word));
            _reputation.record(
                operator,
                Role.Node,
                MODEL,
                BATCH,
                uint8(word >> 24) * OUTCOME + uint16(word >> 48),
                (uint8(word >> 32) % 16) * OUTCOME,
                (uint8(word >> 40) % 8) * OUTCOME
            );
        }
    }

    function _count(bytes32 word) private pure returns (uint64) {
        return uint64(uint256(word));
    }

    function _score(address operator) private view returns (uint256) {
        return _reputation.scoreBps(operator, Role.Node, MODEL);
    }

    function _record(address operator, uint64 accepted, uint64 rejected, uint64 missed) private {
        _reputation.record(operator, Role.Node, MODEL, BATCH, accepted * OUTCOME, rejected * OUTCOME, missed * OUTCOME);
    }
}

/// @notice What reputation costs `Batches`.
contract ReputationGasTest {
    uint256 private constant MAX_CODE = 5000;

    MeasuredSettlement private _settlement;
    IReputation private _reputation;

    function setUp() external {
        vm.warp(1_000_000);
        _settlement = MeasuredSettlement(Built.create("MeasuredSettlement"));
        bytes memory arguments = abi.encode(_settlement, address(1), address(2), 30 days);
        _reputation = IReputation(Built.create("Reputation", arguments));
        _settlement.settle(_reputation);
    }

    function testARecordCostsAboutTenThousandGasAndADecayLessThanAThousand() external {
        // Instrumented for coverage it is larger, and costs say nothing.
        if (address(_reputation).code.length > MAX_CODE) return;
        vm.warp(1_000_000 + 3 days);
        (uint256 spent, uint256 spentOnMany) = _settlement.settle(_reputation);
        (uint256 left, uint256 spentOnDecay) = _settlement.decay(type(uint72).max, block.timestamp, 30 days);
        Check.yes(left > 0 && spentOnDecay < 1000, "a decay");
        Check.yes(spent < 10_300, "one");
        Check.yes(spentOnMany < 40_000, "a node and three verifiers");
    }
}
