"""Measurements of networks and trials for studies, one per file."""
