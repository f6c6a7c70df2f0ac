"""What inference does beside answering: send the prediction log to Kafka, and follow the desired state."""
