"""What a depth camera would have returned of a scene whose depth is known: noise, holes, shadows.

`mfsynth.geometry.sensors.sensing.sense` takes exact z-depth and gives what the sensor of a camera
preset makes of it. The models are published ones, a module for each way of measuring; where a
constant comes from stands beside it in `presets`. What no model here has: glass and mirrors,
sunlight, light of other cameras, motion, and the distance between the depth sensor and the colour
camera.
"""
