"""The rim: the command line now, HTTP later. The only place where real things are chosen."""
