"""Verified shards in a store, committed exactly once.

`store` is the storage, `records` what goes in, `writer` makes a shard, `commits` makes it count,
`verify`, `gc`, `status` and `finalize` look after a run. Nothing here needs torch or Ray.
"""
