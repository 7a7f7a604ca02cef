// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Create3} from "@openzeppelin/contracts/utils/Create3.sol";

import {IFactory} from "../interfaces/IFactory.sol";

/// @title Deploys contracts at addresses that are known beforehand
/// @dev Documented in `IFactory`. Holds nothing and remembers nothing.
contract Factory is IFactory {
    uint256 private constant SELECTOR_BYTES = 4;

    /// @inheritdoc IFactory
    function deploy(bytes32 salt, bytes calldata initCode) external payable returns (address deployed) {
        return _deploy(salt, initCode);
    }

    /// @inheritdoc IFactory
    function deployWith(bytes32 salt, bytes calldata creationCode, bytes calldata constructorCall)
        external
        payable
        returns (address deployed)
    {
        require(constructorCall.length >= SELECTOR_BYTES, FactoryCallTooShort(constructorCall.length));
        return _deploy(salt, bytes.concat(creationCode, constructorCall[SELECTOR_BYTES:]));
    }

    /// @inheritdoc IFactory
    function addressOf(address deployer, bytes32 salt) external view returns (address) {
        return Create3.computeAddress(_bound(deployer, salt));
    }

    // Nothing is stored that a constructor could disturb by calling back.
    // slither-disable-next-line reentrancy-events
    function _deploy(bytes32 salt, bytes memory initCode) private returns (address deployed) {
        deployed = Create3.deploy(msg.value, _bound(msg.sender, salt), initCode);
        emit Deployed(msg.sender, salt, deployed);
    }

    /// @dev A salt is its deployer's own: whoever sees it in the mempool gets another address for it.
    function _bound(address deployer, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(deployer, salt));
    }
}
