"""Models of others in MuJoCo: states, lights and cameras drawn, and views with exact labels.

`loading` reads a model, `states` draws a state of it and lets it rest or move, `cameras` puts
cameras into it, `rendering` gives views, `settings` says within which limits all that happens.
"""
