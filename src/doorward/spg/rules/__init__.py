"""The gateway's decisions, pure: the time and the facts come in as arguments, a decision goes out."""
