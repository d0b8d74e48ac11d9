"""Before any job runs: what a run consists of, whether its config is right, the keys of its jobs, what it will cost."""
