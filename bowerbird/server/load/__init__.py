"""What is answered, when, and what is refused."""
