"""What was reported, what was measured here, and the page that shows both."""
