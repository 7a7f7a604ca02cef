"""`Calibration`: challenges and their results."""

from __future__ import annotations

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.chain.calls import checksum
from trine.chain.records import CalibrationResult, Challenge, Role
from trine.chain.seeds import SeedCalls
from trine.chain.transactions import Call
from trine.errors import NotReady
from trine.protocol.calibration import commitment


class CalibrationCalls(SeedCalls):
    """Reads and writes `Calibration`."""

    def request_calibration(self, model_id: bytes, role: Role, hardware_class: bytes, secret: bytes) -> bytes:
        """Opens a challenge and returns its id. `hardware_class` is the engine's class; `secret` is what the challenge
        is sealed with and goes in as its commitment only. 32 bytes each."""
        from web3.logs import DISCARD

        receipt = self._write("Calibration", "request", model_id, int(role), hardware_class, commitment(secret))
        (event,) = self._contract("Calibration").events.ChallengeRequested().process_receipt(receipt, DISCARD)
        return bytes(event["args"]["challengeId"])

    def calibration_secret(self, model_id: bytes, role: Role, number: int) -> bytes:
        """The account's own secret for its `number`-th challenge in the role: nobody who lacks its key knows it, and
        whoever starts again finds it again."""
        fields = ["string", "uint256", "address", "bytes32", "uint8", "uint256"]
        purpose = "Trine calibration secret"
        values = [purpose, self.domain.chain_id, self.deployment.address("Calibration"), model_id, int(role), number]
        return bytes(keccak(self.sign(bytes(keccak(encode(fields, values))))))

    def seal_calibration(self, challenge_id: bytes, secret: bytes) -> bytes:
        """Reveals the secret, by which the challenge's seed is stored (or finds it stored), and returns the seed.

        Raises NotReady while there is nothing to draw by.
        """
        challenge = self.challenge(challenge_id)
        if any(challenge.seed):
            return challenge.seed
        seal = Call("Calibration", "seal", (challenge_id, secret))
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
