"""Verified shards in a store, committed exactly once.

`records` is what goes in, `writer` makes a shard, `commits` makes it count, `reading` gives its
tables back; `verify`, `gc`, `status` and `finalize` look after a run. Nothing here needs torch or
Ray.
"""
