// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ISeeds} from "./interfaces/ISeeds.sol";
import {Bls12381} from "./libraries/Bls12381.sol";
import {Seeds} from "./Seeds.sol";

/// @title Seeds from a drand beacon
/// @notice For rollups, whose sequencer chooses what blocks carry, and for all chains without a RANDAO: a round of a
/// public beacon that no party to the chain takes part in. drand's network `quicknet` signs the number of each round,
/// unchained, in G1 (bls-unchained-g1-rfc9380); the signature is unique, so nobody chooses it, the network included.
///
/// A seed is the first round that is due `MARGIN_SECONDS` after its block was fixed. The margin must be longer than the
/// chain's clock may be behind, and than the seed block takes to come: until then weights can still be changed.
/// @dev Documented in `ISeeds`. Needs the precompiles of EIP-2537.
contract DrandSeeds is Seeds {
    uint256 public constant MIN_MARGIN_SECONDS = 30;
    uint256 public constant MAX_MARGIN_SECONDS = 1 hours;
    bytes private constant TAG = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";
    uint256 private constant ROUND_BYTES = 8;
    /// @dev Half of the shortest window: a whole one ends in the first half of any.
    uint256 private constant SPAN_BLOCKS = 4;

    /// @notice When round 1 was due, seconds.
    uint256 public immutable GENESIS;
    /// @notice Seconds from round to round.
    uint256 public immutable PERIOD;
    uint256 public immutable MARGIN_SECONDS;

    // The network's key: as immutables, because a round is checked in a transaction of many.
    bytes32 private immutable KEY_0;
    bytes32 private immutable KEY_1;
    bytes32 private immutable KEY_2;
    bytes32 private immutable KEY_3;
    bytes32 private immutable KEY_4;
    bytes32 private immutable KEY_5;
    bytes32 private immutable KEY_6;
    bytes32 private immutable KEY_7;

    mapping(uint256 round => bytes32) private _seeds;
    /// @dev The highest round that was recorded in each span of blocks: what shows that the beacon was heard.
    mapping(uint256 span => uint256) private _heard;

    /// @param beaconGenesisSeconds When round 1 was due.
    /// @param beaconPeriodSeconds From round to round.
    /// @param beaconMarginSeconds From fixing a seed block to the round that draws.
    /// @param beaconKey The network's public key, 256 bytes, as EIP-2537 has points of G2.
    constructor(
        uint256 beaconGenesisSeconds,
        uint256 beaconPeriodSeconds,
        uint256 beaconMarginSeconds,
        bytes memory beaconKey
    ) {
        // A round in the past could be chosen by when to anchor.
        require(
            beaconMarginSeconds >= MIN_MARGIN_SECONDS && beaconMarginSeconds <= MAX_MARGIN_SECONDS,
            SeedsBadSetting("beaconMarginSeconds")
        );
        require(
            beaconPeriodSeconds > 0 && beaconPeriodSeconds <= MAX_MARGIN_SECONDS,
            SeedsBadSetting("beaconPeriodSeconds")
        );
        require(
            beaconGenesisSeconds > 0 && beaconGenesisSeconds <= type(uint40).max,
            SeedsBadSetting("beaconGenesisSeconds")
        );
        require(beaconKey.length == Bls12381.KEY_BYTES, SeedsBadSetting("beaconKey"));
        // Reverts on a chain without the precompiles: nothing could ever be recorded there.
        // slither-disable-next-line unused-return
        Bls12381.hashToG1("", TAG);
        (GENESIS, PERIOD, MARGIN_SECONDS) = (beaconGenesisSeconds, beaconPeriodSeconds, beaconMarginSeconds);
        bytes32[8] memory words = abi.decode(beaconKey, (bytes32[8]));
        (KEY_0, KEY_1, KEY_2, KEY_3) = (words[0], words[1], words[2], words[3]);
        (KEY_4, KEY_5, KEY_6, KEY_7) = (words[4], words[5], words[6], words[7]);
    }

    /// @notice Records a round: `record` with its parts. Any round, also one that nothing waits for.
    /// @param signature 128 bytes, as EIP-2537 has points of G1.
    function submit(uint64 round, bytes calldata signature) external {
        _submit(round, signature);
    }

    /// @inheritdoc ISeeds
    function seedOf(uint256, uint256 fixedAt) external view returns (bytes32 seed) {
        uint256 round = roundAfter(fixedAt);
        seed = _seeds[round];
        if (seed != 0) return seed;
        require(block.timestamp >= timeOf(round), SeedsAhead(round));
        revert SeedsNotRecorded(round);
    }

    /// @inheritdoc ISeeds
    /// @dev A round can be recorded for ever; what was not drawn by then is another matter.
    function stateOf(uint256, uint256 fixedAt) external view returns (State state, uint256 lastBlock) {
        uint256 round = roundAfter(fixedAt);
        lastBlock = type(uint256).max;
        if (_seeds[round] != 0) state = State.Recorded;
        else if (block.timestamp < timeOf(round)) state = State.Ahead;
        else state = State.Recordable;
    }

    /// @inheritdoc ISeeds
    function indexOf(uint256, uint256 fixedAt) external view returns (uint256) {
        return roundAfter(fixedAt);
    }

    /// @inheritdoc ISeeds
    /// @dev The beacon makes no round before the one before it, so a round that came onto this chain says of all before
    /// it that they were there. It must have come while half of the time to draw was left, in whole spans: who fell
    /// silent with the beacon, and had it back for the last moments only, is not to blame.
    function wasShown(uint256 blockNumber, uint256 fixedAt, uint256 lastBlock) external view returns (bool) {
        uint256 round = roundAfter(fixedAt);
        uint256 end = (blockNumber + (lastBlock - blockNumber) / 2) / SPAN_BLOCKS;
        for (uint256 span = blockNumber / SPAN_BLOCKS; span < end; ++span) {
            if (_heard[span] >= round) return true;
        }
        return false;
    }

    /// @inheritdoc ISeeds
    function source() external pure returns (bytes32) {
        return "drand";
    }

    /// @notice Reverts unless `signature` is the network's over the round.
    /// @dev Called by this contract itself: the library takes the key from call data.
    function check(uint256 round, bytes calldata key, bytes calldata signature) external view {
        // The library puts what it hashes together in memory.
        bytes memory message = abi.encodePacked(sha256(abi.encodePacked(uint64(round))));
        require(Bls12381.verify(message, TAG, key, signature), SeedsForgedRound(round));
    }

    /// @notice The network's, 256 bytes.
    function publicKey() public view returns (bytes memory) {
        return abi.encodePacked(KEY_0, KEY_1, KEY_2, KEY_3, KEY_4, KEY_5, KEY_6, KEY_7);
    }

    /// @notice When a round is due, seconds.
    function timeOf(uint256 round) public view returns (uint256) {
        return GENESIS + (round - 1) * PERIOD;
    }

    /// @notice The round that draws what was fixed at a time, seconds: the first that is due the margin later.
    function roundAfter(uint256 fixedAt) public view returns (uint256) {
        uint256 due = fixedAt + MARGIN_SECONDS;
        if (due <= GENESIS) return 1;
        return (due - GENESIS + PERIOD - 1) / PERIOD + 1;
    }

    function _record(bytes calldata evidence) internal override {
        require(evidence.length == ROUND_BYTES + Bls12381.SIGNATURE_BYTES, SeedsBadEvidence(evidence.length));
        _submit(uint64(bytes8(evidence[:ROUND_BYTES])), evidence[ROUND_BYTES:]);
    }

    // The one call is to this contract, and changes nothing.
    // slither-disable-next-line reentrancy-benign,reentrancy-events
    function _submit(uint256 round, bytes calldata signature) private {
        if (_seeds[round] != 0) return;
        this.check(round, publicKey(), signature);
        bytes32 seed = keccak256(signature);
        _seeds[round] = seed;
        uint256 span = block.number / SPAN_BLOCKS;
        if (round > _heard[span]) _heard[span] = round;
        emit SeedRecorded(round, seed);
    }
}
