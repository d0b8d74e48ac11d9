"""FoundAD's training data: augmented normal images, and the same images with a synthetic anomaly."""
