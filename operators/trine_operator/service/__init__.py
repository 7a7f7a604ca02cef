"""What every operator serves over HTTP: evidence for verifiers (`evidence`), health and errors (`frame`, `errors`), its
registration as an agent (`registration`), who may ask from a browser (`browsers`)."""

from trine_operator.service.browsers import allow_origins
from trine_operator.service.evidence import EvidenceEndpoints
from trine_operator.service.frame import Readiness, create_evidence_app, create_frame
from trine_operator.service.registration import serve_registration

__all__ = [
    "EvidenceEndpoints",
    "Readiness",
    "allow_origins",
    "create_evidence_app",
    "create_frame",
    "serve_registration",
]
