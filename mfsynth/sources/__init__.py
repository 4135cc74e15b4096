"""Where images, depth and texts come from: folders, tar files, runs, the simulator, prompts."""
