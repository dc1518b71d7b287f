"""Point-in-time features against DuckDB and Polars."""
