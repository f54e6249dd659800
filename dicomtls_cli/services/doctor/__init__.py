"""What `doctor` does: connect to one peer in many ways (`walk`), and judge what was seen (`steps`, `rules`)."""
