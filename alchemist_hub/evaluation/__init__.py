"""Which of two models is better, by how much, and how sure we are."""
