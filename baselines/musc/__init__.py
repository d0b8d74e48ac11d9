"""MuSc (ICLR 2024, arXiv 2401.16753): the test images of a category score one another."""
