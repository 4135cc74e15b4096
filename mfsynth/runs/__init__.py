"""Runs: the plan of a run, the workers that make its shards, and the driver that commits them."""
