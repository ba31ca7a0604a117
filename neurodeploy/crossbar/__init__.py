"""The physics of a memristor crossbar: devices, converters, tiles, and many simulated chips at once."""
