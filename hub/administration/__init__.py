"""What answers administrators: the admin API over the pipeline, and the command line in process."""
