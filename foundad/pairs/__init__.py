"""FoundAD's training data: augmented normal images and the same with a synthetic anomaly."""
