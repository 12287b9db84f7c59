"""Analytics: the hourly figures."""
