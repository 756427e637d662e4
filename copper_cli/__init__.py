"""The client for metered-energy data in Copper Cloud."""
