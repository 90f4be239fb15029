"""The configuration tree: its keys (schema), its composition by Hydra (compose) and its rules (validate)."""
