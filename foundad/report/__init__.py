"""What people read: tables, figures and galleries made from metrics.parquet and the scores of cells."""
