"""Accuracy of an engine against its checkpoint: the fixed text, the receipt, the gate."""
