"""What every operator serves over HTTP: evidence for verifiers (`evidence`), health and errors (`frame`, `errors`)."""

from trine_operator.service.evidence import EvidenceEndpoints
from trine_operator.service.frame import Readiness, create_evidence_app, create_frame

__all__ = ["EvidenceEndpoints", "Readiness", "create_evidence_app", "create_frame"]
