"""Which weights lie where on arrays, and what they are on devices."""
