"""`Calibration`: challenges and their results."""

from __future__ import annotations

from trine.chain.calls import checksum
from trine.chain.records import CalibrationResult, Challenge, Role
from trine.chain.seeds import SeedCalls
from trine.chain.transactions import Call
from trine.errors import NotReady


class CalibrationCalls(SeedCalls):
    """Reads and writes `Calibration`."""

    def request_calibration(self, model_id: bytes, role: Role, hardware_class: bytes) -> bytes:
        """Opens a challenge and returns its id. `hardware_class` is the engine's class, 32 bytes."""
        from web3.logs import DISCARD

        receipt = self._write("Calibration", "request", model_id, int(role), hardware_class)
        (event,) = self._contract("Calibration").events.ChallengeRequested().process_receipt(receipt, DISCARD)
        return bytes(event["args"]["challengeId"])

    def seal_calibration(self, challenge_id: bytes) -> bytes:
        """Stores the challenge's seed (or finds it stored) and returns it. Raises NotReady while there is none."""
        challenge = self.challenge(challenge_id)
        if any(challenge.seed):
            return challenge.seed
        seal = Call("Calibration", "seal", (challenge_id,))
        self.send_seeded(seal, challenge.seed_block, challenge.fixed_at)
        return self.challenge(challenge_id).seed

    def challenge(self, challenge_id: bytes) -> Challenge:
        return self._record(Challenge, "Calibration", "challengeOf", challenge_id)

    def calibration(self, operator: str, role: Role, model_id: bytes) -> CalibrationResult:
        who = (checksum(operator), int(role), model_id)
        return self._record(CalibrationResult, "Calibration", "resultOf", *who)

    def is_calibrated(self, operator: str, role: Role, model_id: bytes) -> bool:
        return bool(self._read("Calibration", "isCalibrated", checksum(operator), int(role), model_id))

    def claimed_tokens(self, challenge_id: bytes) -> int:
        """How many tokens the answers to a challenge have by the operator's own count. Raises NotReady."""
        event = self.newest_event("Calibration", "ChallengeAnswered", challengeId=challenge_id)
        if event is None:
            raise NotReady(f"challenge 0x{challenge_id.hex()} is not answered")
        return int(event.args["outputTokens"])
