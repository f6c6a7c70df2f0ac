"""What inference decides: who answers, what a request means, what a reply says, what is recorded."""
