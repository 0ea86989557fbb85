"""What the paper leaves open (docs/BEYOND.md): measures without labels, questions, their plans, tables and figures."""
