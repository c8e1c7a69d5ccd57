"""Quality and speed, measured: each script prints one table."""
