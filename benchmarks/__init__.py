"""How fast a sync is, as ratios to a bare script measured in the same run: `make bench`."""
