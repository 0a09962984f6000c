"""Tools that make the model files Inferno ships and tests with; not in the installed package."""
