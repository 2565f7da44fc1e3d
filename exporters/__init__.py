"""Formats: one module each, writing what the analyses found."""
