// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {CertificateLib} from "../../contracts/libraries/CertificateLib.sol";
import {BatchId, Header} from "../../contracts/types/Types.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice What a batch costs, transaction by transaction, for operators that have worked before.
/// `make gas` writes the numbers to snapshots/ and docs/gas.md.
contract GasTest is World {
    uint256 private constant GROUP = 16; // batches that one `finalize` takes

    function setUp() external {
        _calibratedWorld(10);
        // Everybody has a record, a credit and a reward: from here on costs repeat.
        for (uint256 i = 0; i < 24; ++i) {
            _finalize(_settled(keccak256(abi.encode("warm", i)), 1));
        }
        for (uint256 i = 0; i < verifiers; ++i) {
            address verifier = _verifier(i);
            bytes memory proof = BlsSigner.prove(_secret(verifier), address(keys), verifier);
            bytes memory key = BlsSigner.publicKey(_secret(verifier));
            vm.prank(verifier);
            keys.register(key, proof);
        }
    }

    function testAFullBatch() external {
        _life("full batch", 256);
    }

    function testASingleAnswer() external {
        _life("single answer", 1);
    }

    function testAFullBatchSettledBySignatures() external {
        _signedLife("full batch signed", 256);
    }

    function testASingleAnswerSettledBySignatures() external {
        _signedLife("single answer signed", 1);
    }

    function _life(string memory group, uint256 leaves) private {
        uint256 all = leaves == 256 ? type(uint256).max : (1 << leaves) - 1;
        BatchId id = _anchor(keccak256("root"), keccak256("canary"), leaves);
        uint256 sum = vm.snapshotGasLastCall(group, "anchor");
        _draw(id);
        sum += vm.snapshotGasLastCall(group, "draw");
        string[3] memory names = ["1", "2", "3"];
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, all, 0);
            sum += vm.snapshotGasLastCall(group, string.concat("commit ", names[i]));
        }
        for (uint256 i = 0; i < 3; ++i) {
            _reveal(id, i, all, 0);
            sum += vm.snapshotGasLastCall(group, string.concat("reveal ", names[i]));
        }
        Check.eq(batches.batchOf(id).accepted, all, "settled");
        sum += _finalizeGroup(group, leaves);
        vm.snapshotValue(group, "all", sum);
        vm.snapshotValue(group, "an answer", sum / leaves);
    }

    function _signedLife(string memory group, uint256 leaves) private {
        uint256 all = leaves == 256 ? type(uint256).max : (1 << leaves) - 1;
        BatchId id = _anchor(keccak256("root"), keccak256("canary"), leaves);
        uint256 sum = vm.snapshotGasLastCall(group, "anchor");
        uint256 seedBlock = batches.batchOf(id).clock;
        _reach(seedBlock + 1);
        uint256 epoch = committees.epochAt(seedBlock);
        bytes32 seed = keccak256(abi.encode(blockhash(seedBlock), id, 0));
        address[] memory drawn = committees.draw(model, seed, epoch, NODE, 3, false);
        uint256[] memory secrets = new uint256[](3);
        for (uint256 i = 0; i < 3; ++i) {
            secrets[i] = _secret(drawn[i]);
        }
        bytes32 digest = CertificateLib.resultDigest(
            block.chainid, address(batches), epoch, BatchId.unwrap(id), all, 0
        );
        (bytes memory publicKeys, bytes memory signature) = BlsSigner.signAll(secrets, digest);
        IStaking.Seat[] memory none = new IStaking.Seat[](0);
        batches.settleSigned(_headerOf(id), none, epoch, all, 0, publicKeys, signature);
        sum += vm.snapshotGasLastCall(group, "settle signed");
        Check.eq(batches.batchOf(id).accepted, all, "settled");
        sum += _finalizeGroup(group, leaves);
        vm.snapshotValue(group, "all", sum);
        vm.snapshotValue(group, "an answer", sum / leaves);
    }

    /// Gas of `finalize` for one batch of a group of sixteen.
    function _finalizeGroup(string memory group, uint256 leaves) private returns (uint256 share) {
        Header[] memory headers = new Header[](GROUP);
        IStaking.Seat[][] memory drawn = new IStaking.Seat[][](GROUP);
        vm.startPrank(NODE);
        staking.stake(STAKE);
        vm.stopPrank();
        for (uint256 i = 0; i < GROUP; ++i) {
            // Stake for full batches would have to be locked for all of them at once; their number of leaves does not
            // change the cost.
            BatchId id = _settled(keccak256(abi.encode(group, leaves, i)), 4);
            (headers[i], drawn[i]) = (_headerOf(id), _seatsOf(id));
        }
        vm.warp(block.timestamp + _values().appealWindowSeconds + 1);
        finality.finalize(headers, drawn);
        share = vm.snapshotGasLastCall(group, "finalize sixteen batches") / GROUP;
        vm.snapshotValue(group, "finalize, a batch", share);
    }

    function _secret(address verifier) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(verifier))) >> 8;
    }
}
