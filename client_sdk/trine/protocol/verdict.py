from dataclasses import dataclass
@dataclass(frozen=True)
class Recomputation:
    words: tuple
    magnitudes: tuple
    margins: tuple
