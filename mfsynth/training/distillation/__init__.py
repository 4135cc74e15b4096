"""Distillation to few steps: a student that imitates a teacher's velocity on its own trajectory."""
