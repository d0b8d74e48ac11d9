"""Datasets: downloading, listing and verifying them, drawing a few training images, fitting pictures to an encoder."""
