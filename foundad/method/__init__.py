"""FoundAD itself."""
