"""What people do with whole results folders: merge several into one, and compare two."""
