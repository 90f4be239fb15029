"""Getting one file over the network: what an address means, the transfer, and why it failed."""
