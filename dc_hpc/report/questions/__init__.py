"""Questions of ours, beside the paper's claims: their plans, panels, measures and verdicts (RESULTS.md, BEYOND.md)."""
