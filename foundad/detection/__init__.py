"""What all detectors share: their contract, their bank, the model that holds them, and fitting and scoring a cell."""
