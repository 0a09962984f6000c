"""From a model name to a replica's answer: endpoints, admission, forwarding."""
