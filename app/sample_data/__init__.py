"""What a demo tenant is filled with: the events and the documents of a small company's support team."""
