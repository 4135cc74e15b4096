"""What a run says of itself: to terminals, logs and metrics."""
