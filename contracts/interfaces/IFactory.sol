// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Deploys contracts at addresses that are known beforehand
/// @notice An address follows from this factory's own address, the deployer and a salt, not from the code: contracts
/// that need one another's addresses can all take them as constructor arguments. Nobody can take another's addresses.
interface IFactory {
    event Deployed(address indexed deployer, bytes32 indexed salt, address deployed);

    error FactoryCallTooShort(uint256 length);

    /// @notice Deploys at `addressOf(caller, salt)`, passing the constructor the value that was sent. Reverts as the
    /// constructor does, or with OpenZeppelin's `FailedDeployment` if the caller has used the salt before.
    /// @param initCode Creation code with the encoded constructor arguments appended.
    function deploy(bytes32 salt, bytes calldata initCode) external payable returns (address deployed);

    /// @notice Like `deploy`, with the constructor's arguments as they are encoded for a call: for tools that
    /// encode only calls, Hardhat Ignition for one, while addresses become known.
    /// @param constructorCall Any selector, then the encoded arguments.
    function deployWith(bytes32 salt, bytes calldata creationCode, bytes calldata constructorCall)
        external
        payable
        returns (address deployed);

    /// @notice Where the deployer's contract of that salt is, or will be.
    function addressOf(address deployer, bytes32 salt) external view returns (address);
}
