"""The project's data in Google Cloud Storage: which bucket, which account, and whether the two fit.

It asks the servers that DVC will ask, with the settings that DVC will use, but within two seconds and with an answer
that names the cause. Nothing here imports DVC, whose start alone takes longer than the whole check.
"""
