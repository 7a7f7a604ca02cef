// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Appeals} from "../../contracts/Appeals.sol";
import {BatchRecords} from "../../contracts/BatchRecords.sol";
import {Batches} from "../../contracts/Batches.sol";
import {Calibration} from "../../contracts/Calibration.sol";
import {Canaries} from "../../contracts/Canaries.sol";
import {Committees} from "../../contracts/Committees.sol";
import {Finality} from "../../contracts/Finality.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Parameters} from "../../contracts/Parameters.sol";
import {Payments} from "../../contracts/Payments.sol";
import {Reputation} from "../../contracts/Reputation.sol";
import {Requests} from "../../contracts/Requests.sol";
import {Staking} from "../../contracts/Staking.sol";
import {TrineToken} from "../../contracts/TrineToken.sol";
import {VerifierKeys} from "../../contracts/VerifierKeys.sol";
import {Factory} from "../../contracts/deployment/Factory.sol";
import {IBatchTerms} from "../../contracts/interfaces/IBatchTerms.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IStakeToken} from "../../contracts/interfaces/IStakeToken.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {BatchId, ChallengeId, Header, ModelId, Role} from "../../contracts/types/Types.sol";
import {Vm, vm} from "./Vm.sol";

/// @notice All contracts as a deployment makes them, with a model, funded accounts and helpers that walk a batch
/// through its life. Blocks are counted here, because cheatcodes move the chain only within a test.
abstract contract World {
    address internal constant NODE = address(0xA0);
    address internal constant CLIENT = address(0xC1);
    address internal constant GUARDIAN = address(0x6A);
    uint256 internal constant STAKE = 1000 ether;
    uint256 internal constant CREDIT = 1000 ether;
    bytes32 internal constant SALT = keccak256("salt");
    bytes32 internal constant NO_CANARY = keccak256("no canary");
    uint256 internal constant START = 1_000_000;
    uint256 internal constant EPOCH_BLOCKS = 16;
    uint256 internal constant UNBONDING = 10 days;

    Factory internal factory;
    TrineToken internal token;
    Parameters internal parameters;
    Staking internal staking;
    ModelRegistry internal registry;
    Reputation internal reputation;
    Payments internal payments;
    Committees internal committees;
    Calibration internal calibration;
    Batches internal batches;
    Finality internal finality;
    Appeals internal appeals;
    Canaries internal canaries;
    VerifierKeys internal keys;
    Requests internal requests;
    ModelId internal model;
    uint256 internal verifiers; // how many there are

    uint256 internal blockNumber = 1600;
    mapping(BatchId batchId => Header) private _headers;
    mapping(BatchId batchId => IStaking.Seat[]) private _seats;

    function _deploy() internal {
        vm.warp(START);
        _roll(blockNumber);
        factory = new Factory();
        token = new TrineToken(address(this), 1_000_000_000 ether);
        parameters = Parameters(_at("parameters"));
        staking = Staking(_at("staking"));
        registry = ModelRegistry(_at("registry"));
        reputation = Reputation(_at("reputation"));
        payments = Payments(_at("payments"));
        committees = Committees(_at("committees"));
        calibration = Calibration(_at("calibration"));
        batches = Batches(_at("batches"));
        finality = Finality(_at("finality"));
        appeals = Appeals(_at("appeals"));
        canaries = Canaries(_at("canaries"));
        keys = VerifierKeys(_at("keys"));
        requests = Requests(_at("requests"));
        IStakeToken stakeToken = IStakeToken(address(token));

        _create("staking", abi.encodePacked(type(Staking).creationCode, abi.encode(
            Staking.Contracts(
                stakeToken, address(batches), address(finality), address(appeals), address(payments), address(requests)
            ), UNBONDING
        )));
        _create("registry", abi.encodePacked(type(ModelRegistry).creationCode, abi.encode(address(this), address(0))));
        _create("reputation", abi.encodePacked(type(Reputation).creationCode, abi.encode(
            address(batches), address(finality), address(appeals), uint64(30 days)
        )));
        _create("payments", abi.encodePacked(type(Payments).creationCode, abi.encode(
            Payments.Contracts(stakeToken, staking, batches, address(finality), address(requests)),
            1 days,
            address(this)
        )));
        _create("committees", abi.encodePacked(type(Committees).creationCode, abi.encode(
            staking, calibration, reputation, EPOCH_BLOCKS
        )));
        _create("calibration", abi.encodePacked(type(Calibration).creationCode, abi.encode(
            Calibration.Contracts(staking, registry, committees, parameters, address(batches))
        )));
        _create("keys", abi.encodePacked(type(VerifierKeys).creationCode));
        _create("batches", abi.encodePacked(type(Batches).creationCode, abi.encode(
            BatchRecords.Contracts(
                staking, calibration, committees, reputation, keys, address(parameters), finality
            ), address(this), GUARDIAN
        )));
        _create("finality", abi.encodePacked(type(Finality).creationCode, abi.encode(
            Finality.Contracts(
                batches, staking, committees, reputation, payments, address(appeals), address(canaries)
            )
        )));
        _create("appeals", abi.encodePacked(type(Appeals).creationCode, abi.encode(
            Appeals.Contracts(stakeToken, staking, batches, finality, committees, reputation, parameters)
        )));
        _create("canaries", abi.encodePacked(type(Canaries).creationCode, abi.encode(batches, finality)));
        _create("requests", abi.encodePacked(type(Requests).creationCode, abi.encode(
            token, batches, payments, address(this), GUARDIAN
        )));
        _create("parameters", abi.encodePacked(type(Parameters).creationCode, abi.encode(
            address(this), IBatchTerms(address(batches)), UNBONDING, _values()
        )));
        model = registry.register("tiny", "file:/tiny", "manifest", "policy", "prompts", 64, 1 gwei);
    }

    function _values() internal pure virtual returns (IParameters.Values memory) {
        return IParameters.Values({
            stakePerLeafWei: 1 ether,
            refundPerLeafWei: 0.4 ether,
            verifierFeePerLeafWei: 0.03 ether,
            seatStakeWei: 60 ether,
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
            BatchId id = _answer(challenges[i], keccak256(abi.encode("calibration", i)));
            _vote(id, 3, 0, 3, 0, 3, 0);
        }
        _nextEpoch();
        vm.warp(block.timestamp + 1);
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
        id = calibration.request(model, role, _classOf(operator));
    }

    function _answer(ChallengeId challenge, bytes32 root) internal returns (BatchId id) {
        _mine(3);
        if (calibration.challengeOf(challenge).seed == 0) calibration.seal(challenge);
        address operator = calibration.challengeOf(challenge).operator;
        vm.prank(operator);
        id = batches.anchorCalibration(challenge, root, NO_CANARY, 100);
        _headers[id] = Header(operator, model, root, NO_CANARY);
        _draw(id);
    }

    function _anchor(bytes32 root, uint256 leaves) internal returns (BatchId id) {
        return _anchor(root, NO_CANARY, leaves);
    }

    function _anchor(bytes32 root, bytes32 canary, uint256 leaves) internal returns (BatchId id) {
        vm.prank(NODE);
        id = batches.anchor(model, root, canary, leaves);
        _headers[id] = Header(NODE, model, root, canary);
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
        _reach(batches.batchOf(id).clock + 1);
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

    /// Goes on to a block; the hashes of all blocks on the way become known.
    function _reach(uint256 number) internal {
        if (number > blockNumber) _mine(number - blockNumber);
    }

    function _mine(uint256 blocks) internal {
        uint256 before = blockNumber;
        _roll(before + blocks);
        uint256 from = blocks > 256 ? blockNumber - 256 : before;
        for (uint256 n = from; n < blockNumber; ++n) {
            vm.setBlockhash(n, keccak256(abi.encode("block", n)));
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
        vm.warp(block.timestamp + _values().appealWindowSeconds + 1);
        if (batches.batchOf(id).contested) {
            finality.finalizeContested(_headers[id], _seats[id]);
        } else {
            Header[] memory headers = new Header[](1);
            headers[0] = _headers[id];
            finality.finalize(headers);
        }
    }

    function _headerOf(BatchId id) internal view returns (Header memory) {
        return _headers[id];
    }

    function _seatsOf(BatchId id) internal view returns (IStaking.Seat[] memory) {
        return _seats[id];
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
        return stake.active + stake.unbonding + staking.creditOf(operator);
    }

    function _at(bytes32 name) private view returns (address) {
        return factory.addressOf(address(this), name);
    }

    function _create(bytes32 name, bytes memory initCode) private {
        factory.deploy(name, initCode);
    }
}
