"""`Parameters`: the values in force, by version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trine.chain.calls import Calls
from trine.chain.deployment import Deployment
from trine.chain.records import Parameters

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


class ParameterCalls(Calls):
    """Reads `Parameters`."""

    def __init__(
        self, deployment: Deployment, rpc_url: str | Sequence[str], signer: LocalAccount | None = None
    ) -> None:
        super().__init__(deployment, rpc_url, signer)
        self._parameters: dict[int, Parameters] = {}

    def parameters(self, version: int | None = None) -> Parameters:
        """The values in force now, or those of a version."""
        if version is None:
            return self._record(Parameters, "Parameters", "current")
        if version not in self._parameters:
            self._parameters[version] = self._record(Parameters, "Parameters", "valuesOf", version)
        return self._parameters[version]
