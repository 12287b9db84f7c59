"""Analytics: hourly metrics."""
