"""One job: what is missing, who extracts it, and how it becomes committed Parquet files."""
