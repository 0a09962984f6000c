"""What identification and limits cost a request, in one process with 10,000 keys."""
