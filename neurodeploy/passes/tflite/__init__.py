"""Quantization for TFLite Micro: the pass, the choice of scales, and a rule for every primitive."""
