"""Weights that others released: their names, checking and loading. No pipeline here."""
