"""The plan of a run, made before any job starts: cells and jobs, the check of the config, keys and costs."""
