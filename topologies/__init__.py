"""Who hears whom, when the exchange stops, and the one loop that runs every topology."""
