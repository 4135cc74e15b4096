"""Where images, depth and captions come from: folders, tar files, runs, the simulator."""
