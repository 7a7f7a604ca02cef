"""What the demo shows beside questions and verdicts, an act a module. Each stands alone: one that fails is shown as
failed, and the others go on."""
