"""What a deployment consists of: `deployment.json`, which the Ignition module reads, too."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def specification() -> dict[str, Any]:
    """The release, parameters with defaults, and what each constructor takes, by the names of its inputs. `seeds` is
    where the seeds of draws come from unless told otherwise, `sources` the contracts for it.

    `development` replaces defaults on a development chain: elsewhere, governance must be named and must wait.

    A constructor's input is a word: a parameter, a contract (its address), `deployer` or `nobody`. Inputs named
    like a parameter, and addresses named like a counterpart, are left out.
    """
    loaded: dict[str, Any] = json.loads(resources.files("trine_devnet").joinpath("deployment.json").read_text())
    return loaded
