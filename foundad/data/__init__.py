"""Datasets: what is there, is it whole, which few images are drawn, and how pictures are decoded."""
