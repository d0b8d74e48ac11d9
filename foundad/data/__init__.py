"""Datasets: how they come here, what is there, is it whole, which few images are drawn, how pictures meet an encoder."""
