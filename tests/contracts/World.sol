// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {ICalibration} from "../../contracts/interfaces/ICalibration.sol";
import {ICanaries} from "../../contracts/interfaces/ICanaries.sol";
import {ICommittees} from "../../contracts/interfaces/ICommittees.sol";
import {IExaminers} from "../../contracts/interfaces/IExaminers.sol";
import {IFactory} from "../../contracts/interfaces/IFactory.sol";
import {IFinality} from "../../contracts/interfaces/IFinality.sol";
import {IInclusion} from "../../contracts/interfaces/IInclusion.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IReputation} from "../../contracts/interfaces/IReputation.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {ISeeds} from "../../contracts/interfaces/ISeeds.sol";
import {IStakeToken} from "../../contracts/interfaces/IStakeToken.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerifierKeys} from "../../contracts/interfaces/IVerifierKeys.sol";
import {BatchId, ChallengeId, Header, ModelId, Role} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {SeedBlock} from "./SeedBlock.sol";
import {Vm, vm} from "./Vm.sol";

/// @notice All contracts as a deployment makes them, with a model, funded accounts and helpers that walk a batch
/// through its life. Knows interfaces only and takes code from the build.
abstract contract World {
    address internal constant NODE = address(0xA0);
    address internal constant CLIENT = address(0xC1);
    address internal constant GUARDIAN = address(0x6A);
    uint256 internal constant STAKE = 1000 ether;
    uint256 internal constant CREDIT = 1000 ether;
    uint256 internal constant INCLUSION_BOND = 1 ether;
    bytes32 internal constant SALT = keccak256("salt");
    bytes32 internal constant NO_CANARY = keccak256("no canary");
    uint256 internal constant START = 1_000_000;
    uint256 internal constant EPOCH_BLOCKS = 16;
    uint256 internal constant UNBONDING = 10 days;

    IFactory internal factory;
    IStakeToken internal token;
    IParameters internal parameters;
    IStaking internal staking;
    IModelRegistry internal registry;
    IReputation internal reputation;
    IPayments internal payments;
    ICommittees internal committees;
    ICalibration internal calibration;
    IBatches internal batches;
    IFinality internal finality;
    IAppeals internal appeals;
    ICanaries internal canaries;
    IInclusion internal inclusion;
    IExaminers internal examiners;
    IVerifierKeys internal keys;
    IRequests internal requests;
    ISeeds internal seeds;
    ModelId internal model;
    uint256 internal verifiers; // how many there are

    uint256 internal blockNumber = 1600;
    uint256 internal timestamp = START;
    mapping(BatchId batchId => Header) private _headers;
    mapping(BatchId batchId => IStaking.Seat[]) private _seats;

    function _deploy() internal {
        vm.warp(timestamp);
        _roll(blockNumber);
        factory = IFactory(Built.create("Factory"));
        token = IStakeToken(_at("token"));
        factory.deploy("token", bytes.concat(_tokenCode(), abi.encode(address(this), 1_000_000_000 ether)));
        parameters = IParameters(_at("parameters"));
        staking = IStaking(_at("staking"));
        registry = IModelRegistry(_at("registry"));
        reputation = IReputation(_at("reputation"));
        payments = IPayments(_at("payments"));
        committees = ICommittees(_at("committees"));
        calibration = ICalibration(_at("calibration"));
        batches = IBatches(_at("batches"));
        finality = IFinality(_at("finality"));
        appeals = IAppeals(_at("appeals"));
        canaries = ICanaries(_at("canaries"));
        inclusion = IInclusion(_at("inclusion"));
        examiners = IExaminers(_at("examiners"));
        keys = IVerifierKeys(_at("keys"));
        requests = IRequests(_at("requests"));
        seeds = ISeeds(_at("seeds"));

        // Structs of addresses are encoded as their members one by one.
        _create(
            "staking",
            "Staking",
            abi.encode(token, batches, finality, appeals, payments, requests, committees, inclusion, UNBONDING)
        );
        _create("registry", "ModelRegistry", abi.encode(address(this), address(0)));
        _create("reputation", "Reputation", abi.encode(batches, finality, appeals, uint64(30 days)));
        _create(
            "payments", "Payments", abi.encode(token, staking, batches, finality, requests, 1 days, address(this))
        );
        _create("committees", "Committees", abi.encode(staking, calibration, reputation, EPOCH_BLOCKS));
        _create("calibration", "Calibration", abi.encode(staking, registry, committees, parameters, batches, seeds));
        _create("keys", "VerifierKeys", "");
        _createSeeds();
        _create(
            "batches",
            "Batches",
            abi.encode(
                staking,
                calibration,
                committees,
                reputation,
                keys,
                parameters,
                finality,
                seeds,
                address(this),
                GUARDIAN
            )
        );
        _create(
            "finality",
            "Finality",
            abi.encode(batches, staking, reputation, payments, appeals, canaries)
        );
        _create(
            "appeals",
            "Appeals",
            abi.encode(token, staking, batches, finality, committees, reputation, parameters, seeds)
        );
        _create("canaries", "Canaries", abi.encode(batches, finality));
        _create("inclusion", "Inclusion", abi.encode(token, staking, batches, parameters, INCLUSION_BOND, 6 hours));
        _create("examiners", "Examiners", abi.encode(token, batches, finality, address(this), _examining()));
        _create("requests", "Requests", abi.encode(token, batches, payments, address(this), GUARDIAN));
        _create("parameters", "Parameters", abi.encode(address(this), batches, UNBONDING, _values()));
        model = registry.register("tiny", "file:/tiny", "manifest", "policy", _classes(), "prompts", 64, 1 gwei);
    }

    /// Of the source that the world's chain has.
    function _createSeeds() internal virtual {
        vm.prevrandao(SeedBlock.randao(blockNumber));
        _create("seeds", "RandaoSeeds", "");
    }

    function _classes() internal pure returns (bytes32[] memory classes) {
        classes = new bytes32[](4);
        (classes[0], classes[1], classes[2], classes[3]) = ("cpu-bf16", "cpu-fp32", "cpu-int8", "gpu-bf16");
    }

    /// Of a token whose constructor takes who holds all of it, and how much that is.
    function _tokenCode() internal view virtual returns (bytes memory) {
        return vm.getCode("TrineToken");
    }

    function _examining() internal pure returns (IExaminers.Values memory) {
        return IExaminers.Values({bountyWei: 0.05 ether, budgetWei: 1 ether, ordinaryPerCanary: 3});
    }

    function _values() internal pure virtual returns (IParameters.Values memory) {
        return IParameters.Values({
            stakePerLeafWei: 1 ether,
            refundPerLeafWei: 0.4 ether,
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
            maxRounds: 2,
            minNodeStakeWei: 100 ether,
            minVerifierStakeWei: 200 ether,
            calibrationValiditySeconds: 30 days,
            calibrationAnswerSeconds: 3600,
            promptsPerChallenge: 2,
            seedDelayBlocks: 2
        });
    }

    /// Deploys, stakes a node and verifiers and calibrates them all through the contracts.
    function _calibratedWorld() internal {
        _calibratedWorld(5);
    }

    function _calibratedWorld(uint256 count) internal {
        _deploy();
        verifiers = count;
        _fund(NODE);
        for (uint256 i = 0; i < count; ++i) {
            _fund(_verifier(i));
        }
        ChallengeId[] memory challenges = new ChallengeId[](count + 1);
        for (uint256 i = 0; i < count; ++i) {
            challenges[i] = _request(_verifier(i), Role.Verifier);
        }
        challenges[count] = _request(NODE, Role.Node);
        // What counts from the next epoch on can be drawn in it.
        _nextEpoch();
        for (uint256 i = 0; i <= count; ++i) {
            BatchId id = _answer(challenges[i], _root(keccak256(abi.encode("calibration", i)), 0));
            _vote(id, 3, 0, 3, 0, 3, 0);
            _finalizeNow(id);
        }
        _nextEpoch();
        _wait(1);
    }

    function _verifier(uint256 i) internal pure returns (address) {
        return address(uint160(0xB000 + i));
    }

    function _classOf(address operator) internal pure returns (bytes32) {
        return uint160(operator) % 2 == 0 ? bytes32("cpu-fp32") : bytes32("cpu-bf16");
    }

    function _fund(address account) internal {
        require(token.transfer(account, 3 * STAKE + CREDIT));
        vm.startPrank(account);
        token.approve(address(staking), type(uint256).max);
        token.approve(address(payments), type(uint256).max);
        token.approve(address(appeals), type(uint256).max);
        token.approve(address(requests), type(uint256).max);
        staking.stake(STAKE);
        staking.addCredit(CREDIT);
        vm.stopPrank();
    }

    function _request(address operator, Role role) internal returns (ChallengeId id) {
        vm.prank(operator);
        id = calibration.request(model, role, _classOf(operator), _commitmentOf(operator));
    }

    function _secretOf(address operator) internal pure returns (bytes32) {
        return keccak256(abi.encode("secret", operator));
    }

    function _commitmentOf(address operator) internal pure returns (bytes32) {
        return keccak256(abi.encode(_secretOf(operator)));
    }

    function _seal(ChallengeId challenge) internal returns (bytes32) {
        ICalibration.Challenge memory asked = calibration.challengeOf(challenge);
        _showSeed(asked.seedBlock, asked.fixedAt);
        return calibration.seal(challenge, _secretOf(asked.operator));
    }

    function _answer(ChallengeId challenge, bytes32 root) internal returns (BatchId id) {
        _mine(3);
        if (calibration.challengeOf(challenge).seed == 0) _seal(challenge);
        address operator = calibration.challengeOf(challenge).operator;
        vm.prank(operator);
        id = batches.anchorCalibration(challenge, root, NO_CANARY, 100);
        _headers[id] = Header(operator, model, root, NO_CANARY);
        _draw(id);
    }

    /// Records the seed, if it is not.
    function _showSeed(uint256 seedBlock, uint256) internal virtual {
        (ISeeds.State state,) = seeds.stateOf(seedBlock, 0);
        if (state != ISeeds.State.Recordable) return;
        // Runs of an invariant forget such hashes from call to call.
        vm.setBlockhash(seedBlock, SeedBlock.hash(seedBlock));
        seeds.record(SeedBlock.header(seedBlock));
    }

    /// What a draw costs more when it brings its seed along.
    function _addedToDraw(BatchId id, bytes memory evidence) internal returns (uint256) {
        bytes memory draw = abi.encodeCall(IBatches.draw, (_headers[id]));
        uint256 before = vm.snapshotState();
        seeds.recordAndCall(evidence, address(batches), draw);
        uint256 both = vm.lastCallGas().gasTotalUsed;
        require(vm.revertToState(before));
        vm.setBlockhash(batches.batchOf(id).clock, SeedBlock.hash(batches.batchOf(id).clock));
        seeds.record(evidence);
        batches.draw(_headers[id]);
        return both - vm.lastCallGas().gasTotalUsed;
    }

    /// Goes on to the first block in which the batch can be drawn, its seed recorded.
    function _reachDraw(BatchId id) internal {
        IBatches.Batch memory batch = batches.batchOf(id);
        _reach(batch.clock + 1);
        _showSeed(batch.clock, batches.fixedAt(id));
    }

    /// A root that claims so many tokens.
    function _root(bytes32 word, uint256 tokens) internal pure returns (bytes32) {
        return bytes32((uint256(word) & ~uint256(type(uint32).max)) | tokens);
    }

    function _anchor(bytes32 root, uint256 leaves) internal returns (BatchId id) {
        return _anchor(root, NO_CANARY, leaves);
    }

    function _anchor(bytes32 root, bytes32 canary, uint256 leaves) internal returns (BatchId id) {
        return _anchor(NODE, root, canary, leaves);
    }

    function _anchor(address node, bytes32 root, bytes32 canary, uint256 leaves) internal returns (BatchId id) {
        vm.prank(node);
        id = batches.anchor(model, root, canary, leaves);
        _headers[id] = Header(node, model, root, canary);
    }

    function _drawn(bytes32 root, uint256 leaves) internal returns (BatchId id) {
        id = _anchor(root, leaves);
        _draw(id);
    }

    /// A batch that all three accepted.
    function _settled(bytes32 root, uint256 leaves) internal returns (BatchId id) {
        id = _drawn(root, leaves);
        uint256 all = leaves == 256 ? type(uint256).max : (1 << leaves) - 1;
        _vote(id, all, 0, all, 0, all, 0);
    }

    function _draw(BatchId id) internal {
        _reachDraw(id);
        vm.recordLogs();
        batches.draw(_headers[id]);
        _rememberSeats(id, keccak256("CommitteeDrawn(bytes32,uint256,(address,uint96)[],bytes32,uint256)"));
    }

    /// Takes the seats from the newest event of the kind whose data begin with round, seats.
    function _rememberSeats(BatchId id, bytes32 topic) internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != topic) continue;
            (, IStaking.Seat[] memory seats,,) =
                abi.decode(logs[i].data, (uint256, IStaking.Seat[], bytes32, uint256));
            delete _seats[id];
            for (uint256 k = 0; k < seats.length; ++k) {
                _seats[id].push(seats[k]);
            }
        }
    }

    /// Time that is kept here, because the compiler reads the block's once and keeps it over `warp`.
    function _wait(uint256 time) internal {
        if (block.timestamp > timestamp) timestamp = block.timestamp;
        timestamp += time;
        vm.warp(timestamp);
    }

    /// Goes on to a block; the hashes of all blocks on the way become known.
    function _reach(uint256 number) internal {
        if (number > blockNumber) _mine(number - blockNumber);
    }

    function _mine(uint256 blocks) internal {
        uint256 before = blockNumber;
        _roll(before + blocks);
        uint256 from = blocks > 256 ? blockNumber - 256 : before;
        for (uint256 n = from; n < blockNumber; ++n) {
            vm.setBlockhash(n, SeedBlock.hash(n));
        }
    }

    function _nextEpoch() internal {
        _reach((blockNumber / EPOCH_BLOCKS + 1) * EPOCH_BLOCKS);
    }

    function _roll(uint256 number) private {
        blockNumber = number;
        vm.roll(number);
    }

    function _vote(BatchId id, uint256 a0, uint256 r0, uint256 a1, uint256 r1, uint256 a2, uint256 r2) internal {
        _commit(id, 0, a0, r0);
        _commit(id, 1, a1, r1);
        _commit(id, 2, a2, r2);
        _reveal(id, 0, a0, r0);
        _reveal(id, 1, a1, r1);
        _reveal(id, 2, a2, r2);
    }

    function _commit(BatchId id, uint256 seat, uint256 accepts, uint256 rejects) internal {
        address verifier = _seats[id][seat].verifier;
        bytes32 commitment = _commitment(id, verifier, accepts, rejects);
        vm.prank(verifier);
        batches.commit(id, _seats[id], seat, commitment);
    }

    function _reveal(BatchId id, uint256 seat, uint256 accepts, uint256 rejects) internal {
        vm.prank(_seats[id][seat].verifier);
        batches.reveal(_headers[id], _seats[id], seat, accepts, rejects, 7, SALT);
    }

    function _settle(BatchId id) internal {
        batches.settle(_headers[id], _seats[id]);
    }

    function _expire(BatchId id) internal {
        batches.expire(_headers[id]);
    }

    /// Waits until the time to appeal is over and finalizes.
    function _finalize(BatchId id) internal {
        _wait(_values().appealWindowSeconds + 1);
        _finalizeNow(id);
    }

    function _finalizeNow(BatchId id) internal {
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory committees_ = new IStaking.Seat[][](1);
        (headers[0], committees_[0]) = (_headers[id], _seats[id]);
        finality.finalize(headers, committees_);
    }

    function _headerOf(BatchId id) internal view returns (Header memory) {
        return _headers[id];
    }

    function _seatsOf(BatchId id) internal view returns (IStaking.Seat[] memory) {
        return _seats[id];
    }

    /// The committee that a draw would name.
    function _named(BatchId id) internal returns (address[] memory) {
        IBatches.Batch memory batch = batches.batchOf(id);
        uint256 fixedAt = batches.fixedAt(id);
        _reachDraw(id);
        bytes32 seed = keccak256(abi.encode(seeds.seedOf(batch.clock, fixedAt), id, batch.round));
        uint256 epoch = committees.epochAt(batch.clock);
        return committees.draw(model, seed, epoch, fixedAt, _headers[id].node, 3, batch.calibration);
    }

    function _seatOf(BatchId id, uint256 seat) internal view returns (address) {
        return _seats[id][seat].verifier;
    }

    function _commitment(BatchId id, address verifier, uint256 accepts, uint256 rejects)
        internal
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                block.chainid,
                address(batches),
                id,
                batches.batchOf(id).round,
                verifier,
                accepts,
                rejects,
                uint32(7),
                SALT
            )
        );
    }

    function _state(BatchId id) internal view returns (uint256) {
        return uint256(batches.batchOf(id).state);
    }

    /// What Staking owes: stake of all, credits, and the fees of batches that are not settled, which the caller adds.
    function _owedByStaking() internal view returns (uint256 owed) {
        owed = _owedTo(NODE);
        for (uint256 i = 0; i < verifiers; ++i) {
            owed += _owedTo(_verifier(i));
        }
    }

    function _owedTo(address operator) internal view returns (uint256) {
        IStaking.Stake memory stake = staking.stakeOf(operator);
        return stake.active + stake.unbonding + stake.releasing + staking.creditOf(operator);
    }

    function _at(bytes32 name) private view returns (address) {
        return factory.addressOf(address(this), name);
    }

    function _create(bytes32 salt, string memory name, bytes memory arguments) internal {
        factory.deploy(salt, bytes.concat(vm.getCode(name), arguments));
    }
}
