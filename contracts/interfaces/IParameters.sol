// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title All values that governance may change
/// @notice Every change makes a new version; old versions stay readable, because what was begun under a version is
/// judged under it. The owner is a timelock, so a change is announced before it applies. Nothing here reaches stake,
/// verdicts or reputation.
interface IParameters {
    struct Values {
        uint96 stakePerLeafWei; // locked per leaf, lost per rejected leaf
        uint96 refundPerLeafWei; // share of it kept for the client, at most half
        uint64 verifierFeePerLeafWei; // paid by the node at anchor, shared by the seats
        uint56 verifierFeePerTokenWei; // the same for each token of prompts and answers
        uint24 maxBatchTokens; // that a batch may hold
        uint32 checkTokensPerSecond; // what every verifier must manage; windows leave the time for it
        uint32 maxCheckSeconds; // the most that a window is longer for work that its verifiers were drawn for before
        uint96 seatStakeWei; // locked per seat; covers the largest penalty
        uint96 dissentFineWei; // for each leaf that a seat voted on against the final verdict
        uint96 overturnedFineWei; // the same for a leaf whose verdict an appeal turned; at least dissentFineWei
        uint96 wrongVotePenaltyWei; // the most that a seat is fined for its votes in a batch; what a wrong juror loses
        uint96 noRevealPenaltyWei; // at least wrongVotePenaltyWei
        uint96 noCommitPenaltyWei; // at most wrongVotePenaltyWei
        uint96 appealBondPerSeatWei; // put up by who appeals, for every seat of the larger committee
        uint96 appealFeePerSeatWei; // what a juror who was right earns; seven of them at most overturnedFineWei
        uint96 canaryPenaltyWei; // what accepting an answer that was known to be bad raises the fines to
        uint32 appealWindowSeconds;
        uint32 commitSeconds; // to fetch and to commit, besides the time for the tokens
        uint32 revealSeconds;
        uint8 drawDelayBlocks; // from anchor to the block whose hash draws the committee
        uint8 maxRounds; // committees that may fail before a batch is void
        uint96 minNodeStakeWei;
        uint96 minVerifierStakeWei;
        uint32 calibrationValiditySeconds;
        uint32 calibrationAnswerSeconds;
        uint16 promptsPerChallenge;
        uint8 seedDelayBlocks; // from a challenge to the block whose hash picks its prompts
    }

    event ParametersSet(uint8 indexed version, Values values);

    error ParametersZeroAddress();
    error ParametersUnknownVersion(uint8 version);
    error ParametersOutOfBounds(string name);
    error ParametersLifeTooLong(uint256 lifeSeconds, uint256 unbondingSeconds);

    /// @notice Makes `values` the current version. Only the owner. Reverts `ParametersOutOfBounds`, naming the first
    /// value that is out of bounds, or `ParametersLifeTooLong` if stake could leave before its batch is final.
    /// @dev Warning: versions are 8 bits. After 255 changes nothing can be changed any more.
    function set(Values calldata values) external returns (uint8 newVersion);

    /// @notice The values in force for what begins now.
    function current() external view returns (Values memory);

    /// @notice The values of a version, counted from 1.
    function valuesOf(uint8 number) external view returns (Values memory);

    /// @notice Own active stake that nodes and verifiers need now.
    function minStakes() external view returns (uint256 nodeWei, uint256 verifierWei);

    /// @notice Number of the current version.
    function version() external view returns (uint8);

    /// @notice Upper bound of the time from anchor until nothing changes a batch any more: all rounds, then every
    /// level of appeal with its window and all its rounds, then a reserve for noticing.
    function maxLifeSeconds(Values memory values) external pure returns (uint256);

    /// @notice How long stake stays slashable after its owner asked for it.
    function unbondingSeconds() external view returns (uint256);
}
