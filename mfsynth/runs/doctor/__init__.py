"""What a store, a machine, a model and a cluster can do, looked at before a night.

A probe looks at one thing and gives a finding. `mfsynth doctor` asks all of them, every start of a
run the cheap ones.
"""
