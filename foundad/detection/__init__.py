"""What detectors share: the contract, what they learn from, the model that holds them, fitting and scoring a cell."""
