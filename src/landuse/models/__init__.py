"""Architectures: building them from a configuration, their weights, and the exported model folder.

``names``, ``rules`` and ``description`` import no torch, so that a configuration or an exported folder can be checked
in a fraction of a second; the other modules need it.
"""
