"""Few-step sampling: a low-rank student of a model, whose forward says a whole segment's policy."""
