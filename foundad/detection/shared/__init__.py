"""Parts that several methods use: exact search, coresets, layers and neighbourhoods, training."""
