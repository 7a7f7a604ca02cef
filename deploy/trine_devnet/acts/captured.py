"""A network of its own whose every seat belongs to three verifiers that do as they are told.

Nobody could calibrate the three without a fourth: a candidate that never takes the test may judge calibrations, and
nothing else. So who sits on a node's answer is no chance, and the three of `THREE` are enough to show what they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from trine.chain import Role
from trine.protocol.messages import engine_class_bytes
from trine_devnet.acts.act import Stage
from trine_devnet.network import Devnet, Member
from trine_devnet.options import PARAMETERS
from trine_devnet.reporting import Report

THREE = ("verifier-1", "verifier-2", "verifier-3")
FOURTH = "verifier-4"
SECRET = bytes([1]) * 32
"""Of the fourth's challenge, which nobody answers."""


@contextmanager
def captured(stage: Stage, name: str, parameters: Mapping[str, int | str]) -> Iterator[Devnet]:
    """Started, the three and the fourth under way. Its folder is beside the demo's, emptied at the beginning."""
    stage.state = "starts a network of its own"
    with Devnet(stage.home / name, Report(partial(_state_of, stage))) as net:
        net.start_chain({**PARAMETERS, "answerSeconds": 1200, **parameters})
        net.add([Member(each, Role.VERIFIER, cheats=("honest",)) for each in THREE])
        net.add([Member(FOURTH, Role.VERIFIER, options={"calibrate": False})])
        fourth = net.chain(net.operators[FOURTH].account)
        fourth.request_calibration(net.record.model_id, Role.VERIFIER, engine_class_bytes("cpu-fp32"), SECRET)
        yield net


def _state_of(stage: Stage, line: str) -> None:
    """What a network says of itself while it starts is where its act is."""
    stage.state = line.partition(" s  ")[2]
