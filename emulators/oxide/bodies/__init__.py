"""What clients send, with the API document's names and limits."""
