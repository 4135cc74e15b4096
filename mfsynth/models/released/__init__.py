"""Weights that others released: names, checking, conversion."""
