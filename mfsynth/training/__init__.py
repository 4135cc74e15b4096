"""Training of Modality Forcing models."""
