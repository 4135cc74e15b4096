"""Second opinions: networks that estimate depth from an image alone."""
