"""What INP-Former and Dinomaly share: a decoder that reconstructs two groups of an encoder's layers; no method itself."""
