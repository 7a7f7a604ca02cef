// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

import {Timelock} from "../../contracts/Timelock.sol";
import {IBatchTerms} from "../../contracts/interfaces/IBatchTerms.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";

/// @notice Remembers what it was told, as `Batches` does: under which version something was begun.
contract Terms is IBatchTerms {
    address public caller;
    uint8 public adopted;
    uint256 public adoptions;
    bytes32 public hashOfValues;

    function adopt(uint8 version, IParameters.Values calldata values) external {
        caller = msg.sender;
        adopted = version;
        ++adoptions;
        hashOfValues = keccak256(abi.encode(values));
    }
}

abstract contract WithValues {
    uint256 internal constant UNBONDING = 2 days;

    function _values() internal pure returns (IParameters.Values memory) {
        return IParameters.Values({
            stakePerLeafWei: 5 ether,
            refundPerLeafWei: 2 ether,
            verifierFeePerLeafWei: 0.03 ether,
            verifierFeePerTokenWei: 0.0001 ether,
            maxBatchTokens: 65_536,
            checkTokensPerSecond: 100,
            maxCheckSeconds: 3600,
            seatStakeWei: 60 ether,
            dissentFineWei: 0.1 ether,
            overturnedFineWei: 8 ether,
            wrongVotePenaltyWei: 20 ether,
            noRevealPenaltyWei: 25 ether,
            noCommitPenaltyWei: 10 ether,
            appealBondPerSeatWei: 4 ether,
            appealFeePerSeatWei: 1 ether,
            canaryPenaltyWei: 30 ether,
            appealWindowSeconds: 600,
            commitSeconds: 120,
            revealSeconds: 60,
            drawDelayBlocks: 2,
            maxRounds: 3,
            minNodeStakeWei: 100 ether,
            minVerifierStakeWei: 200 ether,
            calibrationValiditySeconds: 30 days,
            calibrationAnswerSeconds: 600,
            promptsPerChallenge: 2,
            seedDelayBlocks: 2
        });
    }

    function _deploy(address owner, IBatchTerms terms, uint256 unbonding, IParameters.Values memory values)
        internal
        returns (IParameters)
    {
        return IParameters(Built.create("Parameters", abi.encode(owner, terms, unbonding, values)));
    }

    function _hash(IParameters.Values memory values) internal pure returns (bytes32) {
        return keccak256(abi.encode(values));
    }
}

contract ParametersTest is WithValues {
    Terms private _terms;
    IParameters private _parameters;

    function setUp() external {
        _terms = new Terms();
        _parameters = _deploy(address(this), _terms, UNBONDING, _values());
    }

    function testTheFirstVersionIsAdoptedAtDeployment() external view {
        Check.eq(_parameters.version(), 1, "version");
        Check.eq(_hash(_parameters.current()), _hash(_values()), "current");
        Check.eq(_hash(_parameters.valuesOf(1)), _hash(_values()), "first");
        Check.eq(_terms.adopted(), 1, "adopted");
        Check.eq(_terms.hashOfValues(), _hash(_values()), "values adopted");
        Check.eq(_terms.caller(), address(_parameters), "by the parameters' own call");
        Check.eq(_parameters.unbondingSeconds(), UNBONDING, "unbonding");
    }

    function testAChangeMakesANewVersionAndKeepsTheOld() external {
        IParameters.Values memory changed = _values();
        changed.stakePerLeafWei = 6 ether;
        Check.eq(_parameters.set(changed), 2, "returned");
        Check.eq(_parameters.version(), 2, "version");
        Check.eq(_hash(_parameters.current()), _hash(changed), "current");
        Check.eq(_hash(_parameters.valuesOf(2)), _hash(changed), "second");
        Check.eq(_hash(_parameters.valuesOf(1)), _hash(_values()), "what is open is judged as it was begun");
        Check.eq(_terms.adopted(), 2, "adopted");
        Check.eq(_terms.hashOfValues(), _hash(changed), "values adopted");
    }

    function testUnknownVersionsAreRefused() external {
        vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersUnknownVersion.selector, 0));
        _parameters.valuesOf(0);
        vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersUnknownVersion.selector, 2));
        _parameters.valuesOf(2);
    }

    function testAVersionNumberIsNeverReused() external {
        IParameters.Values memory values = _values();
        for (uint256 i = 2; i <= 255; ++i) {
            _parameters.set(values);
        }
        Check.eq(_parameters.version(), 255, "last");
        vm.expectPartialRevert(bytes4(keccak256("SafeCastOverflowedUintDowncast(uint8,uint256)")));
        _parameters.set(values);
        Check.eq(_terms.adoptions(), 255, "adoptions");
    }

    function testOnlyTheOwnerSets() external {
        vm.prank(address(1));
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(1)));
        _parameters.set(_values());
    }

    function testOwnershipMovesInTwoSteps() external {
        Ownable2Step parameters = Ownable2Step(address(_parameters));
        parameters.transferOwnership(address(2));
        Check.eq(parameters.owner(), address(this), "not before it is accepted");
        vm.prank(address(2));
        parameters.acceptOwnership();
        Check.eq(parameters.owner(), address(2), "accepted");
    }

    function testDeploymentNeedsACounterpartAndValuesWithinBounds() external {
        vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersZeroAddress.selector));
        _deploy(address(this), IBatchTerms(address(0)), UNBONDING, _values());
        IParameters.Values memory bad = _values();
        bad.stakePerLeafWei = 0;
        vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersOutOfBounds.selector, "stakePerLeafWei"));
        _deploy(address(this), _terms, UNBONDING, bad);
        uint256 life = _parameters.maxLifeSeconds(_values());
        _deploy(address(this), _terms, life, _values());
        vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersLifeTooLong.selector, life, life - 1));
        _deploy(address(this), _terms, life - 1, _values());
    }

    /// Three rounds of at most (2 + 256) * 15 s for the draw, 120 + 3600 s and 60 s; two appeals of the same after 600 s each.
    function testTheLifeOfABatchIsTheSumOfItsParts() external view {
        uint256 rounds = 3 * (258 * 15 + 120 + 3600 + 60);
        Check.eq(_parameters.maxLifeSeconds(_values()), 5 * rounds + 4 * 600 + 3600, "life");
    }

    function testFuzz_stakeOutlivesWhateverIsSet(
        uint32 window,
        uint32 commit,
        uint32 reveal,
        uint8 delay,
        uint8 rounds,
        uint32 unbonding
    ) external {
        IParameters.Values memory v = _values();
        v.appealWindowSeconds = uint32(window % 7 days) + 1;
        v.commitSeconds = uint32(commit % 7 days) + 1;
        v.revealSeconds = uint32(reveal % 7 days) + 1;
        v.drawDelayBlocks = delay % 64 + 1;
        v.maxRounds = rounds % 8 + 1;
        uint256 life = _parameters.maxLifeSeconds(v);
        Check.yes(life > uint256(v.maxRounds) * (uint256(v.commitSeconds) + v.revealSeconds), "all rounds");
        if (life > unbonding) {
            vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersLifeTooLong.selector, life, unbonding));
        }
        _deploy(address(this), _terms, unbonding, v);
    }

    function testSetRefusesALifeThatStakeDoesNotOutlive() external {
        IParameters.Values memory v = _values();
        v.commitSeconds = 7 days;
        uint256 life = _parameters.maxLifeSeconds(v);
        vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersLifeTooLong.selector, life, UNBONDING));
        _parameters.set(v);
    }

    function testBoundsOfStakeAndPenalties() external {
        IParameters.Values memory v = _values();
        v.stakePerLeafWei = 0;
        _refused(v, "stakePerLeafWei");
        v = _values();
        v.refundPerLeafWei = v.stakePerLeafWei / 2;
        _accepted(v);
        v.refundPerLeafWei += 1;
        _refused(v, "refundPerLeafWei");
        v = _values();
        v.noRevealPenaltyWei = v.wrongVotePenaltyWei;
        _accepted(v);
        v.noRevealPenaltyWei -= 1;
        _refused(v, "noRevealPenaltyWei");
        v = _values();
        v.noCommitPenaltyWei = v.wrongVotePenaltyWei;
        _accepted(v);
        v.noCommitPenaltyWei += 1;
        _refused(v, "noCommitPenaltyWei");
        v = _values();
        v.overturnedFineWei = uint96(v.wrongVotePenaltyWei);
        v.dissentFineWei = v.overturnedFineWei;
        _accepted(v);
        v.dissentFineWei += 1;
        _refused(v, "dissentFineWei");
        v = _values();
        v.overturnedFineWei = uint96(v.wrongVotePenaltyWei) + 1;
        _refused(v, "overturnedFineWei");
        v = _values();
        v.canaryPenaltyWei = v.seatStakeWei = v.noRevealPenaltyWei;
        _accepted(v);
        v.seatStakeWei -= 1;
        _refused(v, "seatStakeWei");
        v = _values();
        v.canaryPenaltyWei = v.seatStakeWei + 1;
        _refused(v, "canaryPenaltyWei");
        v.canaryPenaltyWei = v.wrongVotePenaltyWei;
        _accepted(v);
        v.canaryPenaltyWei -= 1;
        _refused(v, "canaryPenaltyWei");
    }

    function testBoundsOfAppeals() external {
        IParameters.Values memory v = _values();
        (v.appealBondPerSeatWei, v.appealFeePerSeatWei) = (1, 1);
        _accepted(v);
        v.appealFeePerSeatWei = 2;
        _refused(v, "appealFeePerSeatWei");
        (v.appealBondPerSeatWei, v.appealFeePerSeatWei) = (0, 0);
        _refused(v, "appealBondPerSeatWei");
        v.appealBondPerSeatWei = v.seatStakeWei;
        _accepted(v);
        v.appealBondPerSeatWei += 1;
        _refused(v, "appealBondPerSeatWei");
        // Half of what two wrong seats lose pays seven jurors.
        v = _values();
        v.overturnedFineWei = uint96(7 * v.appealFeePerSeatWei);
        _accepted(v);
        v.overturnedFineWei -= 1;
        _refused(v, "overturnedFineWei");
    }

    function testBoundsOfMetering() external {
        IParameters.Values memory v = _values();
        v.maxCheckSeconds = 656; // 65,536 tokens at 100 a second
        _accepted(v);
        v.maxCheckSeconds = 655;
        _refused(v, "maxCheckSeconds");
        v.maxBatchTokens = 65_500;
        _accepted(v);
        v.maxBatchTokens = 0;
        _refused(v, "maxBatchTokens");
        v = _values();
        v.checkTokensPerSecond = 0;
        _refused(v, "checkTokensPerSecond");
        v.checkTokensPerSecond = 100_000;
        _accepted(v);
        v.checkTokensPerSecond += 1;
        _refused(v, "checkTokensPerSecond");
        v = _values();
        v.maxCheckSeconds = uint32(7 days) + 1;
        _refused(v, "maxCheckSeconds");
        v.maxCheckSeconds = 0;
        _refused(v, "maxCheckSeconds");
    }

    function testBoundsOfMinimumStakes() external {
        IParameters.Values memory v = _values();
        v.minNodeStakeWei = v.stakePerLeafWei;
        v.minVerifierStakeWei = v.seatStakeWei;
        _accepted(v);
        v.minNodeStakeWei -= 1;
        _refused(v, "minNodeStakeWei");
        v = _values();
        v.minVerifierStakeWei = v.seatStakeWei - 1;
        _refused(v, "minVerifierStakeWei");
        // Without any penalty a seat may be free, a place in the pool never.
        (v.wrongVotePenaltyWei, v.noRevealPenaltyWei, v.noCommitPenaltyWei, v.canaryPenaltyWei) = (0, 0, 0, 0);
        (v.dissentFineWei, v.overturnedFineWei, v.appealFeePerSeatWei) = (0, 0, 0);
        v.appealBondPerSeatWei = 1;
        (v.seatStakeWei, v.minVerifierStakeWei) = (1, 0);
        _refused(v, "minVerifierStakeWei");
        v.minVerifierStakeWei = 1;
        _accepted(v);
        v = _values();
        (v.minNodeStakeWei, v.minVerifierStakeWei) = (100_000 ether, 100_000 ether);
        _accepted(v);
        v.minNodeStakeWei += 1;
        _refused(v, "minNodeStakeWei");
        (v.minNodeStakeWei, v.minVerifierStakeWei) = (100_000 ether, 100_000 ether + 1);
        _refused(v, "minVerifierStakeWei");
    }

    function testAttackWindowsThatNobodyCanMeet() external {
        vm.chainId(1);
        _accepted(_values());
        IParameters.Values memory v = _values();
        (v.appealWindowSeconds, v.commitSeconds, v.revealSeconds) = (600, 60, 60);
        (v.calibrationAnswerSeconds, v.calibrationValiditySeconds, v.noCommitPenaltyWei) = (60, 1 days, 1);
        _accepted(v);
        v.appealWindowSeconds = 599;
        _refused(v, "appealWindowSeconds");
        (v.appealWindowSeconds, v.commitSeconds) = (600, 59);
        _refused(v, "commitSeconds");
        (v.commitSeconds, v.revealSeconds) = (60, 59);
        _refused(v, "revealSeconds");
        (v.revealSeconds, v.calibrationAnswerSeconds) = (60, 59);
        _refused(v, "calibrationAnswerSeconds");
        (v.calibrationAnswerSeconds, v.calibrationValiditySeconds) = (60, 1 days - 1);
        _refused(v, "calibrationValiditySeconds");
        (v.calibrationValiditySeconds, v.noCommitPenaltyWei) = (1 days, 0);
        _refused(v, "noCommitPenaltyWei");
        vm.chainId(1337);
        _accepted(v);
    }

    function testAttackABondThatNobodyCanPutUp() external {
        IParameters.Values memory v = _values();
        v.appealBondPerSeatWei = 1_000_000 ether;
        _refused(v, "appealBondPerSeatWei");
        v.seatStakeWei = 1_000_000 ether;
        v.minVerifierStakeWei = 1_000_000 ether;
        _refused(v, "minVerifierStakeWei");
    }

    function testBoundsOfTimes() external {
        // Long enough for the longest windows alone.
        _parameters = _deploy(address(this), _terms, 90 days, _values());
        IParameters.Values memory v = _values();
        v.maxRounds = 1;
        (v.appealWindowSeconds, v.commitSeconds, v.revealSeconds) = (7 days, 7 days, 1 days);
        _accepted(v);
        (v.commitSeconds, v.revealSeconds) = (1 days, 7 days);
        _accepted(v);
        v.appealWindowSeconds = uint32(7 days) + 1;
        _refused(v, "appealWindowSeconds");
        v.appealWindowSeconds = 0;
        _refused(v, "appealWindowSeconds");
        (v.appealWindowSeconds, v.commitSeconds) = (1, uint32(7 days) + 1);
        _refused(v, "commitSeconds");
        v.commitSeconds = 0;
        _refused(v, "commitSeconds");
        (v.commitSeconds, v.revealSeconds) = (1, uint32(7 days) + 1);
        _refused(v, "revealSeconds");
        v.revealSeconds = 0;
        _refused(v, "revealSeconds");
        v.revealSeconds = 1;
        _accepted(v);
    }

    function testBoundsOfDelaysAndRounds() external {
        IParameters.Values memory v = _values();
        (v.drawDelayBlocks, v.seedDelayBlocks, v.maxRounds) = (1, 1, 1);
        _accepted(v);
        (v.drawDelayBlocks, v.seedDelayBlocks) = (64, 64);
        _accepted(v);
        v.drawDelayBlocks = 65;
        _refused(v, "drawDelayBlocks");
        v.drawDelayBlocks = 0;
        _refused(v, "drawDelayBlocks");
        (v.drawDelayBlocks, v.seedDelayBlocks) = (1, 65);
        _refused(v, "seedDelayBlocks");
        v.seedDelayBlocks = 0;
        _refused(v, "seedDelayBlocks");
        (v.seedDelayBlocks, v.maxRounds) = (1, 0);
        _refused(v, "maxRounds");
        v.maxRounds = 9;
        _refused(v, "maxRounds");
        _parameters = _deploy(address(this), _terms, 90 days, _values());
        v.maxRounds = 8;
        _accepted(v);
    }

    function testBoundsOfCalibration() external {
        IParameters.Values memory v = _values();
        (v.calibrationValiditySeconds, v.calibrationAnswerSeconds, v.promptsPerChallenge) = (365 days, 1 days, 256);
        _accepted(v);
        v.calibrationValiditySeconds += 1;
        _refused(v, "calibrationValiditySeconds");
        v.calibrationValiditySeconds = 0;
        _refused(v, "calibrationValiditySeconds");
        (v.calibrationValiditySeconds, v.calibrationAnswerSeconds) = (1, uint32(1 days) + 1);
        _refused(v, "calibrationAnswerSeconds");
        v.calibrationAnswerSeconds = 0;
        _refused(v, "calibrationAnswerSeconds");
        (v.calibrationAnswerSeconds, v.promptsPerChallenge) = (1, 257);
        _refused(v, "promptsPerChallenge");
        v.promptsPerChallenge = 0;
        _refused(v, "promptsPerChallenge");
        v.promptsPerChallenge = 1;
        _accepted(v);
    }

    function testFuzz_whatIsStoredIsWhatWasSet(uint96 stake, uint64 fee, uint96 bond, uint96 node) external {
        bond = 1 + bond % (type(uint96).max / 8);
        IParameters.Values memory v = _values();
        (stake, bond) = (stake % 100_000 ether + 1, bond % 60 ether + 1);
        node = stake + node % (100_000 ether + 1 - stake);
        v.stakePerLeafWei = stake;
        v.refundPerLeafWei = stake / 2;
        v.verifierFeePerLeafWei = fee;
        v.appealBondPerSeatWei = bond;
        v.appealFeePerSeatWei = bond / 2;
        v.overturnedFineWei = uint96(7 * (bond / 2));
        (v.wrongVotePenaltyWei, v.noRevealPenaltyWei) = (v.overturnedFineWei, v.overturnedFineWei);
        v.dissentFineWei = v.overturnedFineWei / 9;
        v.canaryPenaltyWei = v.wrongVotePenaltyWei;
        v.noCommitPenaltyWei = v.overturnedFineWei / 2;
        v.seatStakeWei = v.overturnedFineWei > 30 ether ? v.overturnedFineWei : 30 ether;
        v.minVerifierStakeWei = v.seatStakeWei;
        v.minNodeStakeWei = node;
        vm.assume(stake > 0 && node >= stake);
        _accepted(v);
    }

    function _accepted(IParameters.Values memory v) private {
        uint8 version = _parameters.set(v);
        Check.eq(_hash(_parameters.valuesOf(version)), _hash(v), "stored");
        Check.eq(_terms.hashOfValues(), _hash(v), "adopted");
    }

    function _refused(IParameters.Values memory v, string memory name) private {
        uint8 version = _parameters.version();
        vm.expectRevert(abi.encodeWithSelector(IParameters.ParametersOutOfBounds.selector, name));
        _parameters.set(v);
        Check.eq(_parameters.version(), version, "nothing changed");
    }
}

/// @notice IParameters as they are deployed: owned by a timelock.
contract TimelockTest is WithValues {
    address private constant GOVERNOR = address(0x60);
    address private constant STRANGER = address(0x57);
    uint256 private constant DELAY = 2 days;

    Terms private _terms;
    Timelock private _timelock;
    IParameters private _parameters;

    function setUp() external {
        vm.warp(1_000_000);
        _timelock = _timelocked(DELAY);
        _terms = new Terms();
        _parameters = _deploy(address(_timelock), _terms, UNBONDING, _values());
    }

    function testAChangeAppliesOnlyAfterTheDelay() external {
        IParameters.Values memory changed = _values();
        changed.maxRounds = 2;
        bytes memory call = abi.encodeCall(IParameters.set, (changed));
        vm.prank(GOVERNOR);
        _timelock.schedule(address(_parameters), 0, call, 0, 0, DELAY);
        Check.eq(_parameters.version(), 1, "announced, not applied");

        vm.warp(1_000_000 + DELAY - 1);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        _timelock.execute(address(_parameters), 0, call, 0, 0);

        vm.warp(1_000_000 + DELAY);
        vm.prank(STRANGER);
        _timelock.execute(address(_parameters), 0, call, 0, 0);
        Check.eq(_parameters.version(), 2, "applied, by anyone");
        Check.eq(_hash(_parameters.valuesOf(1)), _hash(_values()), "open versions stay");
        Check.eq(_parameters.current().maxRounds, 2, "changed");
    }

    function testNobodyShortensTheDelayOfAnAnnouncement() external {
        vm.prank(GOVERNOR);
        vm.expectRevert(
            abi.encodeWithSelector(TimelockController.TimelockInsufficientDelay.selector, DELAY - 1, DELAY)
        );
        _timelock.schedule(address(_parameters), 0, abi.encodeCall(IParameters.set, (_values())), 0, 0, DELAY - 1);
    }

    function testOnlyAProposerAnnouncesAndCancels() external {
        bytes memory call = abi.encodeCall(IParameters.set, (_values()));
        vm.prank(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, keccak256("PROPOSER_ROLE")
            )
        );
        _timelock.schedule(address(_parameters), 0, call, 0, 0, DELAY);

        vm.prank(GOVERNOR);
        _timelock.schedule(address(_parameters), 0, call, 0, 0, DELAY);
        bytes32 id = _timelock.hashOperation(address(_parameters), 0, call, 0, 0);
        vm.prank(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, keccak256("CANCELLER_ROLE")
            )
        );
        _timelock.cancel(id);
        vm.prank(GOVERNOR);
        _timelock.cancel(id);
        vm.warp(1_000_000 + DELAY);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        _timelock.execute(address(_parameters), 0, call, 0, 0);
    }

    function testNeitherGovernorNorDeployerSetsWithoutTheTimelock() external {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        _parameters.set(_values());
        vm.prank(GOVERNOR);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, GOVERNOR));
        _parameters.set(_values());
    }

    function testNobodyButTheTimelockAdministersIt() external view {
        bytes32 admin = _timelock.DEFAULT_ADMIN_ROLE();
        Check.yes(_timelock.hasRole(admin, address(_timelock)), "itself");
        Check.yes(!_timelock.hasRole(admin, address(this)), "not the deployer");
        Check.yes(!_timelock.hasRole(admin, GOVERNOR), "not the governor");
    }

    function testTheDelayGrowsButNeverFallsBelowItsFloor() external {
        _updateDelay(DELAY + 1);
        Check.eq(_timelock.getMinDelay(), DELAY + 1, "longer");
        _updateDelay(DELAY);
        Check.eq(_timelock.getMinDelay(), DELAY, "back to the floor");
        _refuseDelay(DELAY - 1);
        _refuseDelay(30 days + 1);
        vm.expectRevert(
            abi.encodeWithSelector(TimelockController.TimelockUnauthorizedCaller.selector, address(this))
        );
        _timelock.updateDelay(DELAY);
    }

    function testFuzz_anyDelayUpToThirtyDaysCanBeDeployed(uint32 delay) external {
        if (delay > 30 days) {
            vm.expectRevert(abi.encodeWithSelector(Timelock.TimelockDelayOutOfBounds.selector, delay, 0, 30 days));
        }
        Timelock timelock = _timelocked(delay);
        if (delay <= 30 days) Check.eq(timelock.FLOOR_SECONDS(), delay, "floor");
    }

    function testAttackGovernanceThatNobodySeesComing() external {
        vm.chainId(1);
        vm.expectRevert(
            abi.encodeWithSelector(Timelock.TimelockDelayOutOfBounds.selector, 1 days - 1, 1 days, 30 days)
        );
        _timelocked(1 days - 1);
        Check.eq(_timelocked(1 days).FLOOR_SECONDS(), 1 days, "a day");
        Check.eq(_timelocked(30 days).FLOOR_SECONDS(), 30 days, "thirty");
    }

    function _updateDelay(uint256 delay) private {
        bytes memory call = _announce(delay);
        _timelock.execute(address(_timelock), 0, call, 0, 0);
    }

    function _refuseDelay(uint256 delay) private {
        bytes memory call = _announce(delay);
        vm.expectRevert(
            abi.encodeWithSelector(Timelock.TimelockDelayOutOfBounds.selector, delay, DELAY, 30 days)
        );
        _timelock.execute(address(_timelock), 0, call, 0, 0);
    }

    function _announce(uint256 delay) private returns (bytes memory call) {
        call = abi.encodeCall(TimelockController.updateDelay, (delay));
        uint256 wait = _timelock.getMinDelay();
        vm.prank(GOVERNOR);
        _timelock.schedule(address(_timelock), 0, call, 0, 0, wait);
        vm.warp(block.timestamp + wait);
    }

    function _timelocked(uint256 delay) private returns (Timelock) {
        address[] memory proposers = new address[](1);
        proposers[0] = GOVERNOR;
        return Timelock(payable(Built.create("Timelock", abi.encode(delay, proposers, new address[](1)))));
    }
}
