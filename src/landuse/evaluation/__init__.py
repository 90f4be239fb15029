"""What a trained model is worth: metrics, per-image predictions, figures and the report of a run (no torch in here)."""
