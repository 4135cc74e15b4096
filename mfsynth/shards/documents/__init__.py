"""What strangers and machines read beside the shards: pure functions of `run.json` and the commits.

`manifest` is the first; `card` and `croissant` say the same in the words of their readers.
"""
