"""Datasets: generated, downloaded and prepared."""
