"""What happened to a picture or a sound in training before the model saw it, declared once and done anywhere.

Device side: numpy and the standard library. `declared` holds what a manifest says, `applying` does it.
"""
