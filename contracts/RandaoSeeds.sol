// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ISeeds} from "./interfaces/ISeeds.sol";
import {Seeds} from "./Seeds.sol";

/// @title Seeds from a block's RANDAO
/// @notice For Ethereum and chains with its consensus: a later block's `prevrandao`, which a builder cannot choose. Its
/// hash could be ground by `extraData`; this cannot. The proposer of the slot before keeps one bit, which costs it the
/// slot: see docs/randomness.md.
/// @dev Documented in `ISeeds`. The block's header is shown; that it hashes to what the chain knows proves every field,
/// so it is only walked, not checked for being RLP. OpenZeppelin's `BlockHeader` reads the whole list first: a record
/// costs 64,633 gas with it instead of 45,930, and the first in its place 81,702 instead of 58,710.
// Hashes and numbers are compared for equality, never amounts that others could shift.
// slither-disable-start incorrect-equality
contract RandaoSeeds is Seeds {
    /// @notice Blocks after a block within which its seed is recorded and used: those whose hashes the EVM knows.
    uint256 public constant WINDOW_BLOCKS = 256;
    /// @dev Constants and counters that chains without a RANDAO put in its place are smaller: 0, 1, 2, 2.5 * 10^15.
    uint256 private constant LEAST_RANDAO = 1 << 128;
    uint256 private constant NUMBER_BITS = 40;

    // A header begins with its own length, three bytes, and seven fields of fixed length: parent and uncles (33 each),
    // beneficiary (21), state, transactions and receipts (33 each), bloom (259). Then come difficulty, number, gas
    // limit, gas used, time, extra data and mix hash.
    uint256 private constant DIFFICULTY_AT = 448;
    uint256 private constant FIELDS_TO_EXTRA_DATA = 3;

    /// @dev By number modulo the window: 216 bits of the seed, then 40 of the number. A place is taken again when what
    /// was there is of no use, and costs a sixth of a new one.
    mapping(uint256 place => bytes32) private _records;

    constructor() {
        _requireRandao(0, bytes32(block.prevrandao));
    }

    /// @inheritdoc ISeeds
    function seedOf(uint256 blockNumber, uint256) external view returns (bytes32) {
        bytes32 word = _records[blockNumber % WINDOW_BLOCKS];
        require(block.number > blockNumber, SeedsAhead(blockNumber));
        require(block.number <= blockNumber + WINDOW_BLOCKS, SeedsGone(blockNumber));
        require(_holds(word, blockNumber), SeedsNotRecorded(blockNumber));
        return word >> NUMBER_BITS;
    }

    /// @inheritdoc ISeeds
    function stateOf(uint256 blockNumber, uint256) external view returns (State state, uint256 lastBlock) {
        lastBlock = blockNumber + WINDOW_BLOCKS;
        if (block.number <= blockNumber) state = State.Ahead;
        else if (block.number > lastBlock) state = State.Gone;
        else if (_holds(_records[blockNumber % WINDOW_BLOCKS], blockNumber)) state = State.Recorded;
        else state = State.Recordable;
    }

    /// @inheritdoc ISeeds
    function indexOf(uint256 blockNumber, uint256) external pure returns (uint256) {
        return blockNumber;
    }

    /// @inheritdoc ISeeds
    /// @dev Always: there is no block without a header.
    function wasShown(uint256, uint256, uint256) external pure returns (bool) {
        return true;
    }

    /// @inheritdoc ISeeds
    function source() external pure returns (bytes32) {
        return "randao";
    }

    function _record(bytes calldata header) internal override {
        require(header.length > DIFFICULTY_AT, SeedsBadEvidence(header.length));
        (uint256 difficulty, uint256 next) = _number(header, DIFFICULTY_AT);
        uint256 number;
        (number, next) = _number(header, next);
        require(block.number > number, SeedsAhead(number));
        require(block.number <= number + WINDOW_BLOCKS, SeedsGone(number));
        uint256 place = number % WINDOW_BLOCKS;
        if (_holds(_records[place], number)) return;
        (bytes32 shown, bytes32 known) = (keccak256(header), blockhash(number));
        require(shown == known, SeedsWrongHeader(number, shown, known));
        for (uint256 i = 0; i < FIELDS_TO_EXTRA_DATA; ++i) {
            next = _skip(header, next);
        }
        next = _skip(header, next) + 1;
        bytes32 randao = bytes32(header[next:next + 32]);
        _requireRandao(difficulty, randao);
        bytes32 seed = randao >> NUMBER_BITS;
        _records[place] = (seed << NUMBER_BITS) | bytes32(number);
        emit SeedRecorded(number, seed);
    }

    /// @dev A block with a difficulty has no RANDAO: proof of work or of authority, or a rollup that counts there.
    function _requireRandao(uint256 difficulty, bytes32 randao) private pure {
        require(difficulty == 0 && uint256(randao) >= LEAST_RANDAO, SeedsNoRandao(difficulty, randao));
    }

    function _holds(bytes32 word, uint256 number) private pure returns (bool) {
        return word != 0 && uint256(word) & ((1 << NUMBER_BITS) - 1) == number;
    }

    /// @dev An integer, and where the next field begins.
    function _number(bytes calldata header, uint256 offset) private pure returns (uint256 value, uint256 next) {
        next = _skip(header, offset);
        uint8 first = uint8(header[offset]);
        if (first < 0x80) return (first, next);
        for (uint256 i = offset + 1; i < next; ++i) {
            value = (value << 8) | uint8(header[i]);
        }
    }

    /// @dev Where the next field begins. RLP: a byte below 0x80 is itself, 0x80 + n is followed by n bytes, 0xb7 + m by
    /// a length of m bytes and so many bytes.
    function _skip(bytes calldata header, uint256 offset) private pure returns (uint256) {
        uint256 first = uint8(header[offset]);
        if (first < 0x80) return offset + 1;
        if (first <= 0xb7) return offset + 1 + (first - 0x80);
        uint256 length = 0;
        uint256 digits = first - 0xb7;
        require(digits <= 2, SeedsBadEvidence(header.length));
        for (uint256 i = 1; i <= digits; ++i) {
            length = (length << 8) | uint8(header[offset + i]);
        }
        return offset + 1 + digits + length;
    }
}
// slither-disable-end incorrect-equality
