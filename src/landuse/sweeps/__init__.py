"""Sweeps: many trainings in search of the best configuration, kept in an Optuna study that survives what happens."""
